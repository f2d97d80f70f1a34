"""What the contracts take and keep, as frozen data: assets, grants, tasks, dues.

Pure. Amounts are in the token's smallest unit, times in Unix seconds, accounts 20 bytes.
"""

from dataclasses import dataclass
from typing import Any, Final

from protocol.ids import Account, CdtId

DATA: Final = 1
COMPUTE: Final = 2
ALGORITHM: Final = 3
KINDS: Final = {"data": DATA, "compute": COMPUTE, "algorithm": ALGORITHM}

NOBODY: Final = Account(b"\0" * 20)
MAX_CHILDREN: Final = 16
MAX_BATCH: Final = 32

TASK_STATES: Final = (
    "NONE",
    "OPEN",
    "ATTESTED",
    "CLAIMED",
    "DISPUTED",
    "REPORTED",
    "SETTLED",
    "REFUNDED",
    "CANCELLED",
)


@dataclass(frozen=True, slots=True)
class Item:
    """One asset without children, to be registered."""

    kind: int
    proof: bytes
    storage_path: str
    salt: int = 0


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What a task is about; its id is the hash of exactly this.

    `consumer` owns the algorithm `cdt`; `opener` is the consumer or its delegate and pays
    `budget`; `recipient` signs the receipt; `decider` rules on disputes and is no party.
    """

    cdt: CdtId
    consumer: Account
    opener: Account
    recipient: Account
    decider: Account
    token: Account
    budget: int
    deadline: int
    salt: bytes


@dataclass(frozen=True, slots=True)
class Node:
    """One composite of an attested tree, with the terms read for each of its edges."""

    creator: Account
    kind: int
    proof: bytes
    salt: int
    children: tuple[bytes, ...]
    terms: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """What is owed for one edge: `price` for each edge, row or opening (`unit` 0, 1, 2)."""

    child: bytes
    parent: bytes
    owner: Account
    price: int
    unit: int


@dataclass(frozen=True, slots=True)
class SignedBy:
    """One side's signature of a usage record."""

    account: Account
    signature: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """What the registry keeps of one asset; `height` 0 has no children."""

    owner: Account
    kind: int
    height: int
    composites: int
    edges: int
    epoch: int


@dataclass(frozen=True, slots=True)
class GrantWord:
    """What the registry keeps of one grant, besides the hash of its conditions."""

    price: int
    expiry: int
    max_uses: int
    uses: int
    unit: int
    live: bool
    seq: int


@dataclass(frozen=True, slots=True)
class Record:
    """Where a task stands; `closes_at` is when its present window ends."""

    state: str
    attester: Account
    closes_at: int
    dues: bytes
    amounts: bytes


def to_account(text: str) -> Account:
    """An address as eth_abi gives it, as 20 bytes."""
    return Account(bytes.fromhex(text[2:]))


def unpack_head(word: int) -> Head | None:
    """The registry's packed entry; None for an unknown asset."""
    if word == 0:
        return None
    owner = Account((word & (2**160 - 1)).to_bytes(20))
    kind, height, composites, edges = ((word >> shift) & 255 for shift in (160, 168, 176, 184))
    return Head(owner, kind, height, composites, edges, word >> 192)


def unpack_grant(word: int) -> GrantWord:
    """The registry's packed grant."""
    return GrantWord(
        price=word & (2**96 - 1),
        expiry=(word >> 96) & (2**40 - 1),
        max_uses=(word >> 136) & (2**32 - 1),
        uses=(word >> 168) & (2**32 - 1),
        unit=(word >> 200) & 255,
        live=bool((word >> 224) & 1),
        seq=word >> 225,
    )


def unpack_record(record: tuple[int, bytes, bytes]) -> Record:
    """The market's record of one task."""
    word, dues, amounts = record
    attester = Account(((word >> 8) & (2**160 - 1)).to_bytes(20))
    return Record(TASK_STATES[word & 255], attester, word >> 168, dues, amounts)


def fields_of(value: Any) -> tuple[Any, ...]:
    """The fields of one of these dataclasses in order: the ABI's tuple."""
    return tuple(getattr(value, name) for name in value.__dataclass_fields__)
