"""What accounts sign: EIP-712 messages, their digests, and who signed.

Adversary: anybody who replays, alters or reorders signatures, here or on another chain or
contract. Every digest covers the chain id and the contract's address; who may sign, how often
and until when is checked by whoever reads the message. Nothing secret passes through here.

Only plain accounts are recovered here; a contract wallet's signature (EIP-1271) is checked by
the chain. Written out rather than taken from eth-account, whose import costs the daemon half a
second; the tests compare every digest with it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from coincurve import PublicKey
from eth_hash.auto import keccak

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import Account, Digest

_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_DOMAIN_FIELDS: Final = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)

PRICE_PER_EDGE: Final = 0
PRICE_PER_ROW: Final = 1
PRICE_PER_OPENING: Final = 2
UNLIMITED_USES: Final = 2**32 - 1
MAX_SEQ: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a signature counts: one contract on one chain."""

    name: str
    chain_id: int
    contract: Account

    def separator(self) -> Digest:
        """The EIP-712 domain separator."""
        values = (self.name, "1", self.chain_id, self.contract)
        return _hash_struct("EIP712Domain", _DOMAIN_FIELDS, values)


def registry_domain(chain_id: int, registry: Account) -> Domain:
    """Where `Bind` and `Grant` count."""
    return Domain("Northbund Registry", chain_id, registry)


def market_domain(chain_id: int, market: Account) -> Domain:
    """Where `Attestation`, `Receipt` and `Usage` count."""
    return Domain("Northbund TaskMarket", chain_id, market)


class TypedMessage:
    """A message with an EIP-712 type; `FIELDS` names the type's members in order."""

    __slots__ = ()
    TYPE: ClassVar[str]
    FIELDS: ClassVar[tuple[tuple[str, str], ...]]

    def values(self) -> tuple[Any, ...]:
        """The members' values in the order of `FIELDS`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Bind(TypedMessage):
    """The account says which network peer speaks for it until `valid_until` (Unix seconds).

    `peer_id` is the peer id's multihash bytes; the peer's Ed25519 key signs the same digest.
    A higher `seq` revokes.
    """

    account: Account
    peer_id: bytes
    valid_until: int
    seq: int

    TYPE: ClassVar[str] = "Bind"
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("account", "address"),
        ("peerId", "bytes"),
        ("validUntil", "uint64"),
        ("seq", "uint64"),
    )

    def values(self) -> tuple[Any, ...]:
        """The members' values in the order of `FIELDS`."""
        return (self.account, self.peer_id, self.valid_until, self.seq)


@dataclass(frozen=True, slots=True)
class Grant(TypedMessage):
    """An owner's yes for one edge, `child` used under `parent`.

    `owner_epoch` and `consumer_epoch` count how often the child and the parent have changed
    hands: a grant is void when either changes again. `consumer` owns the parent. `price` is in
    the token's smallest unit for each edge, row or opening (`price_unit` 0, 1, 2). `max_uses` is
    at least 1; UNLIMITED_USES for no limit. `expiry` is in Unix seconds. `seq` starts at 1 and
    rises with every grant of this edge.
    """

    child: bytes
    parent: bytes
    terms_hash: bytes
    owner: Account
    consumer: Account
    market: Account
    token: Account
    decider: Account
    price: int
    price_unit: int
    max_uses: int
    expiry: int
    seq: int
    owner_epoch: int = 0
    consumer_epoch: int = 0

    TYPE: ClassVar[str] = "Grant"
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("child", "bytes32"),
        ("parent", "bytes32"),
        ("terms", "bytes32"),
        ("owner", "address"),
        ("epoch", "uint32"),
        ("consumer", "address"),
        ("consumerEpoch", "uint32"),
        ("market", "address"),
        ("token", "address"),
        ("decider", "address"),
        ("price", "uint96"),
        ("unit", "uint8"),
        ("maxUses", "uint32"),
        ("expiry", "uint40"),
        ("seq", "uint32"),
    )

    def values(self) -> tuple[Any, ...]:
        """The members' values in the order of `FIELDS`, which is the contract's order too."""
        return (
            self.child,
            self.parent,
            self.terms_hash,
            self.owner,
            self.owner_epoch,
            self.consumer,
            self.consumer_epoch,
            self.market,
            self.token,
            self.decider,
            self.price,
            self.price_unit,
            self.max_uses,
            self.expiry,
            self.seq,
        )


@dataclass(frozen=True, slots=True)
class Attestation(TypedMessage):
    """The attester vouches for the plan with this hash, besides its transaction.

    `deadline` is the task's, in Unix seconds.
    """

    task: bytes
    plan_hash: bytes
    deadline: int

    TYPE: ClassVar[str] = "Attestation"
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("task", "bytes32"),
        ("planHash", "bytes32"),
        ("deadline", "uint64"),
    )

    def values(self) -> tuple[Any, ...]:
        """The members' values in the order of `FIELDS`."""
        return (self.task, self.plan_hash, self.deadline)


@dataclass(frozen=True, slots=True)
class Receipt(TypedMessage):
    """The recipient states, before the first share, the most that each edge may claim.

    `dues` is the hash of the attested dues (`chain.contracts.dues_hash`); `amounts` has one
    amount for each of them, in the same order.
    """

    task: bytes
    dues: bytes
    amounts: tuple[int, ...]

    TYPE: ClassVar[str] = "Receipt"
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("task", "bytes32"),
        ("dues", "bytes32"),
        ("amounts", "uint256[]"),
    )

    def values(self) -> tuple[Any, ...]:
        """The members' values in the order of `FIELDS`."""
        return (self.task, self.dues, self.amounts)


@dataclass(frozen=True, slots=True)
class Usage(TypedMessage):
    """What was used and what each edge is paid; counts when recipient and all owners signed."""

    task: bytes
    dues: bytes
    result_hash: bytes
    usage_root: bytes
    amounts: tuple[int, ...]

    TYPE: ClassVar[str] = "Usage"
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("task", "bytes32"),
        ("dues", "bytes32"),
        ("resultHash", "bytes32"),
        ("usageRoot", "bytes32"),
        ("amounts", "uint256[]"),
    )

    def values(self) -> tuple[Any, ...]:
        """The members' values in the order of `FIELDS`."""
        return (self.task, self.dues, self.result_hash, self.usage_root, self.amounts)


def struct_hash(message: TypedMessage) -> Digest:
    """The EIP-712 hash of the message alone. LocalProtocolError if a value does not fit."""
    return _hash_struct(message.TYPE, message.FIELDS, message.values())


def digest(domain: Domain, message: TypedMessage) -> Digest:
    """What is signed: EIP-712 over domain and message.

    LocalProtocolError if a value does not fit its type.
    """
    return Digest(keccak(b"\x19\x01" + domain.separator() + struct_hash(message)))


def typed_message(domain: Domain, message: TypedMessage) -> dict[str, Any]:
    """The same as the JSON that `eth_signTypedData_v4` takes: for signers outside the node."""
    return {
        "types": {
            "EIP712Domain": [{"name": n, "type": t} for n, t in _DOMAIN_FIELDS],
            message.TYPE: [{"name": n, "type": t} for n, t in message.FIELDS],
        },
        "primaryType": message.TYPE,
        "domain": {
            "name": domain.name,
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": "0x" + domain.contract.hex(),
        },
        "message": {
            name: _plain(value)
            for (name, _), value in zip(message.FIELDS, message.values(), strict=True)
        },
    }


def recover(signed_digest: bytes, signature: bytes) -> Account:
    """The plain account that made the 65-byte signature (r, s, v with v 27 or 28).

    RemoteProtocolError if it is malformed, in the malleable upper half of s, or of no account:
    the contracts refuse the same ones.
    """
    if len(signature) != 65:
        raise RemoteProtocolError(f"signature has {len(signature)} bytes instead of 65")
    if signature[64] not in (27, 28):
        raise RemoteProtocolError(f"signature's last byte is {signature[64]} instead of 27 or 28")
    if int.from_bytes(signature[32:64]) > _HALF_ORDER:
        raise RemoteProtocolError("signature is not in its lower form")
    compact = signature[:64] + bytes([signature[64] - 27])
    try:
        key = PublicKey.from_signature_and_message(compact, signed_digest, hasher=None)
    except ValueError as error:
        raise RemoteProtocolError(f"not a signature: {error}") from error
    return Account(keccak(key.format(compressed=False)[1:])[12:])


def _hash_struct(name: str, fields: tuple[tuple[str, str], ...], values: tuple[Any, ...]) -> Digest:
    signature = f"{name}({','.join(f'{kind} {member}' for member, kind in fields)})"
    words = [keccak(signature.encode())]
    for (member, kind), value in zip(fields, values, strict=True):
        words.append(_word(member, kind, value))
    return Digest(keccak(b"".join(words)))


def _word(member: str, kind: str, value: Any) -> bytes:
    if kind == "string":
        return keccak(value.encode())
    if kind == "bytes":
        return keccak(value)
    if kind == "uint256[]":
        return keccak(b"".join(_word(member, "uint256", item) for item in value))
    if kind in ("bytes32", "address"):
        size = 32 if kind == "bytes32" else 20
        if not isinstance(value, bytes) or len(value) != size:
            raise LocalProtocolError(f"{member} is not {size} bytes")
        return value.rjust(32, b"\0")
    bits = int(kind.removeprefix("uint"))
    if not isinstance(value, int) or not 0 <= value < 2**bits:
        raise LocalProtocolError(f"{member} is not a whole number below 2^{bits}")
    return value.to_bytes(32)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return str(value) if isinstance(value, int) else value
