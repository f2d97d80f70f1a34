"""The contracts' events as frozen data, and their decoding from logs.

Each class is named as its event and has the event's inputs as fields, in order, after `at`:
the table of decoders is made from the artefacts' ABI and these classes, so the two cannot part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from chain.abi import abi_type, artefact
from chain.errors import ContractsMissing
from chain.values import Due, TaskTerms, to_account
from protocol.ids import Account, CdtId, TaskId


@dataclass(frozen=True, slots=True)
class Place:
    """Where on the chain something stands; `index` counts the logs of the block."""

    block: int
    block_hash: bytes
    transaction: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a contract said."""

    at: Place


@dataclass(frozen=True, slots=True)
class Registered(Event):
    """An asset exists; `kind` as in `chain.values.KINDS`."""

    cdt: CdtId
    owner: Account
    kind: int
    proof: bytes
    salt: int
    storage_path: str


@dataclass(frozen=True, slots=True)
class Composed(Event):
    """The children of an asset; comes right after its `Registered`."""

    cdt: CdtId
    children: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Anchored(Event):
    """Many leaves exist under one Merkle root."""

    owner: Account
    root: bytes
    leaves: int
    storage_path: str


@dataclass(frozen=True, slots=True)
class OwnershipOffered(Event):
    """The heir may accept; the empty account withdraws an offer."""

    cdt: CdtId
    owner: Account
    heir: Account


@dataclass(frozen=True, slots=True)
class OwnershipTransferred(Event):
    """The asset has a new owner; all its grants are void."""

    cdt: CdtId
    former: Account
    owner: Account
    epoch: int


@dataclass(frozen=True, slots=True)
class Granted(Event):
    """A grant is live; `word` reads by `chain.values.unpack_grant`."""

    child: CdtId
    parent: CdtId
    owner: Account
    terms_hash: bytes
    word: int
    owner_epoch: int
    consumer: Account
    consumer_epoch: int
    token: Account
    decider: Account


@dataclass(frozen=True, slots=True)
class GrantSkipped(Event):
    """A grant of a batch was not accepted, and why."""

    child: CdtId
    parent: CdtId
    owner: Account
    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Revoked(Event):
    """The edge has no grant, and no signature up to `seq` can make one."""

    child: CdtId
    parent: CdtId
    owner: Account
    seq: int


@dataclass(frozen=True, slots=True)
class Trusted(Event):
    """The owner accepts this account's attestations, or no more."""

    owner: Account
    attester: Account
    on: bool


@dataclass(frozen=True, slots=True)
class Delegated(Event):
    """The delegate may open tasks on the owner's algorithms, or no more."""

    owner: Account
    delegate: Account
    on: bool


@dataclass(frozen=True, slots=True)
class OrganisationDeclared(Event):
    """What an account says of itself."""

    account: Account
    name: str
    document: str


@dataclass(frozen=True, slots=True)
class PeerBound(Event):
    """Which peer speaks for the account; `peer_signature` is still to be checked."""

    account: Account
    seq: int
    valid_until: int
    peer_id: bytes
    peer_signature: bytes


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """A task is open and its budget in escrow."""

    task: TaskId
    cdt: CdtId
    consumer: Account
    terms: TaskTerms


@dataclass(frozen=True, slots=True)
class Attested(Event):
    """Somebody vouches for the plan with this hash; a use of each grant is spent."""

    task: TaskId
    attester: Account
    plan: bytes
    dues: tuple[Due, ...]


@dataclass(frozen=True, slots=True)
class Claimed(Event):
    """An owner claims by the recipient's receipt; `amounts` is what is claimed in all."""

    task: TaskId
    claimant: Account
    closes_at: int
    amounts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Disputed(Event):
    """A party calls for the decider."""

    task: TaskId
    complainant: Account
    closes_at: int
    reason: bytes


@dataclass(frozen=True, slots=True)
class Decided(Event):
    """The decider has ruled; `bond_to` is empty if the attester keeps its bond."""

    task: TaskId
    decider: Account
    bond_to: Account


@dataclass(frozen=True, slots=True)
class Reported(Event):
    """All sides have signed what was used."""

    task: TaskId
    result_hash: bytes
    usage_root: bytes
    amounts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settled(Event):
    """The escrow has become credits: `amounts` to the owners of the dues, the rest back."""

    task: TaskId
    paid: int
    returned: int
    amounts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refunded(Event):
    """The task came to nothing; its escrow went back to the opener's credit."""

    task: TaskId
    returned: int


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """The opener took the task back; its escrow went back to the opener's credit."""

    task: TaskId
    returned: int


@dataclass(frozen=True, slots=True)
class Credited(Event):
    """The account can withdraw this much more; `task` is zero for a released bond."""

    account: Account
    token: Account
    task: TaskId
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn(Event):
    """The account has its credit in hand."""

    account: Account
    token: Account
    amount: int


@dataclass(frozen=True, slots=True)
class BondChanged(Event):
    """The attester's bond that no task has locked."""

    attester: Account
    free: int


_CLASSES: Final[dict[str, tuple[type[Event], ...]]] = {
    "Registry": (
        Registered,
        Composed,
        Anchored,
        OwnershipOffered,
        OwnershipTransferred,
        Granted,
        GrantSkipped,
        Revoked,
        Trusted,
        Delegated,
        OrganisationDeclared,
        PeerBound,
    ),
    "TaskMarket": (
        Opened,
        Attested,
        Claimed,
        Disputed,
        Decided,
        Reported,
        Settled,
        Refunded,
        Cancelled,
        Credited,
        Withdrawn,
        BondChanged,
    ),
}


_NUMBERS = 2**63


@dataclass(frozen=True, slots=True)
class _Input:
    position: int
    kind: str
    convert: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Decoder:
    build: type[Event]
    indexed: tuple[_Input, ...]
    plain: tuple[_Input, ...]


@cache
def _decoders() -> dict[bytes, _Decoder]:
    table = {}
    for contract, classes in _CLASSES.items():
        by_name = {c.__name__: c for c in classes}
        for entry in artefact(contract)["abi"]:
            if entry["type"] == "event":
                kinds = [abi_type(part) for part in entry["inputs"]]
                topic = keccak(f"{entry['name']}({','.join(kinds)})".encode())
                table[topic] = _decoder(by_name[entry["name"]], entry["inputs"])
    return table


def _decoder(build: type[Event], inputs: list[dict[str, Any]]) -> _Decoder:
    indexed: list[_Input] = []
    plain: list[_Input] = []
    for position, part in enumerate(inputs):
        kind = abi_type(part)
        # Text is read as bytes: its owner may have written anything, and only it may suffer.
        item = _Input(position, "bytes" if kind == "string" else kind, _converter(part, kind))
        (indexed if part["indexed"] else plain).append(item)
    return _Decoder(build, tuple(indexed), tuple(plain))


def _converter(part: dict[str, Any], kind: str) -> Callable[[Any], Any]:
    if part["name"] == "dues":
        return _dues
    if kind.startswith("("):
        return _terms
    by_kind: dict[str, Callable[[Any], Any]] = {"address": to_account, "string": _text}
    return by_kind.get(kind, _as_it_is)


def _as_it_is(value: Any) -> Any:
    return value


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _dues(values: Any) -> tuple[Due, ...]:
    return tuple(Due(child, parent, to_account(o), p, u) for child, parent, o, p, u in values)


def _terms(values: Any) -> TaskTerms:
    parts: list[Any] = [to_account(v) if isinstance(v, str) else v for v in values]
    return TaskTerms(*parts)


def place_of(log: dict[str, Any]) -> Place:
    """Where a log of `eth_getLogs` stands. Raises ContractsMissing if it is malformed."""
    try:
        place = Place(
            block=int(log["blockNumber"], 16),
            block_hash=bytes.fromhex(log["blockHash"][2:]),
            transaction=bytes.fromhex(log["transactionHash"][2:]),
            index=int(log["logIndex"], 16),
        )
        if not (0 <= place.block < _NUMBERS and 0 <= place.index < _NUMBERS):
            raise ValueError("a number that no database column takes")
    except (KeyError, ValueError, TypeError) as error:
        raise ContractsMissing(f"the chain's node gives a malformed log: {error!r}") from error
    return place


def decode(log: dict[str, Any]) -> Event | None:
    """The event of one log of `eth_getLogs`; None for an event that this release does not know.

    Raises ContractsMissing if the log is malformed: then the address holds other contracts.
    """
    at = place_of(log)
    try:
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        return decode_parts(at, topics, bytes.fromhex(log["data"][2:]))
    except (KeyError, ValueError, TypeError) as error:
        raise ContractsMissing(f"a log of block {at.block} does not decode: {error!r}") from error


def decode_parts(at: Place, topics: Sequence[bytes], data: bytes) -> Event | None:
    """The same from a log's parts."""
    decoder = _decoders().get(topics[0]) if topics else None
    if decoder is None:
        return None
    values: list[Any] = [None] * (len(decoder.indexed) + len(decoder.plain))
    try:
        for item, topic in zip(decoder.indexed, topics[1:], strict=True):
            values[item.position] = item.convert(abi_decode([item.kind], topic)[0])
        parts = abi_decode([item.kind for item in decoder.plain], data)
    except (ValueError, OverflowError, DecodingError) as error:
        raise ContractsMissing(f"a log of block {at.block} does not decode: {error!r}") from error
    for item, part in zip(decoder.plain, parts, strict=True):
        values[item.position] = item.convert(part)
    return decoder.build(at, *values)
