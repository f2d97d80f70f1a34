"""Ids and hashes that the contracts compute, computed here first: pure, known before sending."""

from collections.abc import Sequence

from eth_abi.abi import encode
from eth_hash.auto import keccak

from chain.abi import function
from chain.values import Due, Item, TaskTerms, fields_of
from protocol.ids import Account, CdtId, TaskId
from protocol.typed_data import Grant


def cdt_id(
    chain_id: int,
    registry: Account,
    creator: Account,
    kind: int,
    proof: bytes,
    children: Sequence[bytes] = (),
    salt: int = 0,
) -> CdtId:
    """The id that the registry gives: known before the transaction is sent."""
    children_hash = keccak(encode(["bytes32[]"], [list(children)])) if children else b"\0" * 32
    types = ["uint256", "address", "address", "uint256", "bytes32", "bytes32", "uint256"]
    values = [chain_id, registry, creator, kind, proof, children_hash, salt]
    return CdtId(keccak(encode(types, values)))


def task_id(chain_id: int, market: Account, terms: TaskTerms) -> TaskId:
    """The id that the market gives: known before the task is opened."""
    types = ["uint256", "address", function("TaskMarket", "open")[1][0]]
    return TaskId(keccak(encode(types, [chain_id, market, fields_of(terms)])))


def dues_hash(dues: Sequence[Due]) -> bytes:
    """What `Receipt.dues` and `Usage.dues` hold: the hash of the attested dues in order."""
    kind = "(bytes32,bytes32,address,uint256,uint256)[]"
    return keccak(encode([kind], [[fields_of(due) for due in dues]]))


def grant_key(grant: Grant) -> bytes:
    """Where the registry keeps this grant: a hash of the edge and all its conditions."""
    edge = [grant.child, grant.parent, grant.owner_epoch]
    circumstances = [grant.token, grant.consumer, grant.consumer_epoch, grant.decider]
    return keccak(
        keccak(encode(["bytes32", "bytes32", "uint256"], edge))
        + grant.terms_hash
        + keccak(encode(["address", "address", "uint256", "address"], circumstances))
    )


def leaf_hash(item: Item) -> bytes:
    """The hash of one anchored leaf; inner nodes hash their two children in sorted order."""
    types = ["uint256", "bytes32", "bytes32", "uint256"]
    values = [item.kind, item.proof, keccak(item.storage_path.encode()), item.salt]
    return keccak(keccak(encode(types, values)))


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over one or more leaf hashes; an odd node rises as it is."""
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def merkle_branch(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The siblings from leaf `index` up to the root."""
    level = list(leaves)
    branch = []
    while len(level) > 1:
        if index ^ 1 < len(level):
            branch.append(level[index ^ 1])
        level = _parents(level)
        index //= 2
    return tuple(branch)


def _parents(level: Sequence[bytes]) -> list[bytes]:
    pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
    return [keccak(b"".join(sorted(pair))) if len(pair) == 2 else pair[0] for pair in pairs]
