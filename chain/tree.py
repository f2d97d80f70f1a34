"""Questions about the followed chain: what lies below an asset, above it, and who used it.

Everything is answered from the database that the follower keeps; nothing asks the chain.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from chain.errors import ChainRefused
from chain.values import Node
from protocol.ids import Account, CdtId, TaskId

OperationOf = Callable[[bytes, bytes], str]


@dataclass(frozen=True, slots=True)
class Asset:
    """One registered asset with its children, as the followed chain has it."""

    cdt: CdtId
    creator: Account
    owner: Account
    epoch: int
    kind: int
    proof: bytes
    salt: int
    storage_path: str
    block: int
    children: tuple[CdtId, ...]


@dataclass(frozen=True, slots=True)
class LiveGrant:
    """A grant under the child's present owner that can still be spent at the asked time.

    `fits` is false if the parent has changed hands since, so that it cannot be spent.
    """

    child: CdtId
    parent: CdtId
    owner: Account
    terms_hash: bytes
    consumer: Account
    token: Account
    decider: Account
    price: int
    unit: int
    uses_left: int
    expiry: int
    seq: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Use:
    """One attested use of an asset under one parent: who, when, on which terms, for how much.

    `amount` is None until something is claimed or reported; `block` is the attestation's.
    """

    task: TaskId
    algorithm: CdtId
    child: CdtId
    parent: CdtId
    owner: Account
    consumer: Account
    recipient: Account
    attester: Account
    plan: bytes
    terms_hash: bytes
    price: int
    unit: int
    amount: int | None
    state: str
    block: int


@dataclass(frozen=True, slots=True)
class PriceFigures:
    """What settled uses of one type of asset by one operation were paid, by their price's unit."""

    kind: int
    operation: str
    unit: int
    uses: int
    least: int
    median: int
    most: int
    total: int


def asset(db: Database, cdt: bytes) -> Asset | None:
    """The asset with this id; None if no followed block registers it."""
    row = db.execute(
        "SELECT cdt, creator, owner, epoch, kind, proof, salt, storage_path, block"
        " FROM chain_assets WHERE cdt = ?",
        [cdt],
    ).fetchone()
    if row is None:
        return None
    children = db.execute(
        "SELECT child FROM chain_children WHERE parent = ? ORDER BY position", [cdt]
    )
    kids = tuple(child for (child,) in children)
    values: list[Any] = [*row[:6], int.from_bytes(row[6]), *row[7:], kids]
    return Asset(*values)


def below(db: Database, cdt: bytes) -> Iterator[Asset]:
    """The asset and all below it in breadth-first order, once for each way that leads there."""
    queue = [cdt]
    for current in queue:
        found = asset(db, current)
        if found is not None:
            queue.extend(found.children)
            yield found


def parents(db: Database, cdt: bytes) -> list[CdtId]:
    """The assets that are made of this one."""
    rows = db.execute("SELECT parent FROM chain_children WHERE child = ? ORDER BY parent", [cdt])
    return [parent for (parent,) in rows]


def paths_above(db: Database, cdt: CdtId) -> list[tuple[CdtId, ...]]:
    """Every way up from the asset: (cdt, parent, ..., top); alone if nothing is made of it."""
    above = parents(db, cdt)
    if not above:
        return [(cdt,)]
    return [(cdt, *path) for parent in above for path in paths_above(db, parent)]


def witness(db: Database, algorithm: bytes) -> tuple[Node, ...]:
    """The tree as `attest` wants it, with the terms of each edge's present grant.

    Raises ChainRefused naming the asset or edge that the followed chain does not have.
    """
    nodes = []
    for found in _composites(db, algorithm):
        terms = tuple(_terms(db, child, found.cdt) for child in found.children)
        nodes.append(
            Node(found.creator, found.kind, found.proof, found.salt, found.children, terms)
        )
    if not nodes:
        raise ChainRefused(f"0x{algorithm.hex()} is not registered or has no children")
    return tuple(nodes)


def _composites(db: Database, cdt: bytes) -> Iterator[Asset]:
    return (found for found in below(db, cdt) if found.children)


def _terms(db: Database, child: bytes, parent: bytes) -> bytes:
    row = db.execute(
        "SELECT terms_hash FROM chain_grants WHERE child = ? AND parent = ? AND live = 1"
        " AND owner_epoch = (SELECT epoch FROM chain_assets WHERE cdt = ?)",
        [child, parent, child],
    ).fetchone()
    if row is None:
        raise ChainRefused(f"no live grant of 0x{child.hex()} under 0x{parent.hex()}")
    return bytes(row[0])


def live_grants(db: Database, now: int, owner: bytes | None = None) -> list[LiveGrant]:
    """Every grant that can be spent at the block time `now`, of one owner or of all."""
    rows = db.execute(
        "SELECT g.child, g.parent, g.owner, g.terms_hash, g.consumer, g.token, g.decider, g.price,"
        " g.unit, g.max_uses - g.uses, g.expiry, g.seq,"
        " coalesce(p.owner = g.consumer AND p.epoch = g.consumer_epoch, 0)"
        " FROM chain_grants g JOIN chain_assets c ON c.cdt = g.child AND c.epoch = g.owner_epoch"
        " LEFT JOIN chain_assets p ON p.cdt = g.parent"
        " WHERE g.live = 1 AND g.expiry > ? AND g.uses < g.max_uses AND (g.owner = ? OR ? IS NULL)"
        " ORDER BY g.child, g.parent",
        [now, owner, owner],
    )
    found = []
    for row in rows:
        values: list[Any] = [*row[:7], int(row[7]), *row[8:12], bool(row[12])]
        found.append(LiveGrant(*values))
    return found


def uses_of(db: Database, cdt: bytes) -> list[Use]:
    """Every attested use of the asset itself, oldest first."""
    rows = db.execute(
        "SELECT t.task, t.cdt, d.child, d.parent, d.owner, t.consumer, t.recipient, t.attester,"
        " t.plan, d.terms_hash, d.price, d.unit, d.amount, t.state, t.attested_block"
        " FROM chain_dues d JOIN chain_tasks t ON t.task = d.task WHERE d.child = ?"
        " ORDER BY t.attested_block, t.task, d.position",
        [cdt],
    )
    found = []
    for row in rows:
        values: list[Any] = [*row[:10], int(row[10]), row[11], _amount(row[12]), *row[13:]]
        found.append(Use(*values))
    return found


def _amount(text: str | None) -> int | None:
    return None if text is None else int(text)


def price_figures(
    db: Database, token: bytes, operation_of: OperationOf = lambda _child, _algorithm: ""
) -> list[PriceFigures]:
    """What settled uses were paid in this token, by type of asset, operation and unit of price.

    What is done to a leaf stands in the algorithm's document, not on the chain: `operation_of`
    tells it for (child, algorithm), and is empty where it is not known.
    """
    rows = db.execute(
        "SELECT a.kind, d.child, t.cdt, d.unit, d.amount FROM chain_dues d"
        " JOIN chain_tasks t ON t.task = d.task JOIN chain_assets a ON a.cdt = d.child"
        " WHERE t.state = 'SETTLED' AND t.token = ? AND d.amount IS NOT NULL",
        [token],
    )
    groups: dict[tuple[int, str, int], list[int]] = {}
    for kind, child, algorithm, unit, amount in rows:
        groups.setdefault((kind, operation_of(child, algorithm), unit), []).append(int(amount))
    figures = []
    for key, paid in sorted(groups.items()):
        paid.sort()
        middle = paid[(len(paid) - 1) // 2]
        figures.append(PriceFigures(*key, len(paid), paid[0], middle, paid[-1], sum(paid)))
    return figures
