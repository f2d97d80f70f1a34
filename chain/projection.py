"""What the followed events add up to: assets, grants, trust, tasks, payments and who speaks.

Applied inside the follower's transaction, event by event in chain order; after a reorganisation
it is made anew from the events that are left, so it cannot keep a trace of those that are gone.

Adversary: an endpoint that invents events. What our contracts cannot have said changes nothing
here and is logged: an event that the task's table does not allow in its state, an asset that is
registered twice, a number that no column holds.
"""

import sqlite3
from collections.abc import Iterable
from functools import singledispatch
from typing import Final

import structlog
from sqlite_utils import Database

from chain import events
from chain.values import unpack_grant
from protocol.errors import RemoteProtocolError
from protocol.ids import hexadecimal
from protocol.task import TASK, TaskEvent, TaskState

log = structlog.get_logger("projection")

TABLES: Final = (
    "chain_assets",
    "chain_children",
    "chain_grants",
    "chain_trusts",
    "chain_tasks",
    "chain_dues",
    "chain_bindings",
    "chain_organisations",
)

# As the contract declares them: more can only be an endpoint's invention.
_MAX_NAME: Final = 64
_MAX_DOCUMENT: Final = 96
_MAX_PEER: Final = 64

# Each of one edge under the child's present owner.
# A revocation may come before any grant: it voids the signatures that are still in the post.
_REVOKE: Final = (
    "INSERT INTO chain_grants"
    " SELECT :child, :parent, epoch, owner, x'', x'', 0, x'', x'', '0', 0, 0, 0, 0, 0, :seq"
    " FROM chain_assets WHERE cdt = :child"
    " ON CONFLICT (child, parent, owner_epoch) DO UPDATE SET live = 0, seq = :seq"
)
_SPEND: Final = (
    "UPDATE chain_grants SET uses = uses + 1 WHERE child = :child AND parent = :parent"
    " AND owner_epoch = (SELECT epoch FROM chain_assets WHERE cdt = :child)"
)
_ADD_DUE: Final = (
    "INSERT INTO chain_dues VALUES (:task, :position, :child, :parent, :owner, coalesce(("
    " SELECT terms_hash FROM chain_grants WHERE child = :child AND parent = :parent"
    " AND owner_epoch = (SELECT epoch FROM chain_assets WHERE cdt = :child)), x''),"
    " :price, :unit, NULL)"
)


def apply_all(db: Database, batch: Iterable[events.Event]) -> None:
    """Add these events, in chain order, to the tables; inside the caller's transaction."""
    for event in batch:
        try:
            apply(event, db)
        except (RemoteProtocolError, sqlite3.IntegrityError, OverflowError) as error:
            kind, block = type(event).__name__, event.at.block
            log.warning("impossible_event", kind=kind, block=block, why=str(error))


def rebuild(db: Database, all_events: Iterable[events.Event]) -> None:
    """Make the tables from these events alone; inside the caller's transaction."""
    for table in TABLES:
        db.execute(f"DELETE FROM {table}")  # noqa: S608 (own names)
    apply_all(db, all_events)


@singledispatch
def apply(event: events.Event, db: Database) -> None:
    """Add one event; those that say nothing of these tables change nothing."""


@apply.register
def _(event: events.Registered, db: Database) -> None:
    row = (event.cdt, event.owner, event.owner, 0, event.kind, event.proof)
    salt = event.salt.to_bytes(32)
    db.execute(
        "INSERT INTO chain_assets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [*row, salt, event.storage_path, event.at.block],
    )


@apply.register
def _(event: events.Composed, db: Database) -> None:
    for position, child in enumerate(event.children):
        db.execute("INSERT INTO chain_children VALUES (?, ?, ?)", [event.cdt, position, child])


@apply.register
def _(event: events.OwnershipTransferred, db: Database) -> None:
    db.execute(
        "UPDATE chain_assets SET owner = ?, epoch = ? WHERE cdt = ?",
        [event.owner, event.epoch, event.cdt],
    )


@apply.register
def _(event: events.Granted, db: Database) -> None:
    word = unpack_grant(event.word)
    db.execute(
        "INSERT OR REPLACE INTO chain_grants"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 1, ?)",
        [
            event.child,
            event.parent,
            event.owner_epoch,
            event.owner,
            event.terms_hash,
            event.consumer,
            event.consumer_epoch,
            event.token,
            event.decider,
            str(word.price),
            word.unit,
            word.max_uses,
            word.expiry,
            word.seq,
        ],
    )


@apply.register
def _(event: events.Revoked, db: Database) -> None:
    db.execute(_REVOKE, {"seq": event.seq, "child": event.child, "parent": event.parent})


@apply.register
def _(event: events.Trusted, db: Database) -> None:
    if event.on:
        sql = "INSERT OR IGNORE INTO chain_trusts VALUES (?, ?)"
    else:
        sql = "DELETE FROM chain_trusts WHERE owner = ? AND attester = ?"
    db.execute(sql, [event.owner, event.attester])


@apply.register
def _(event: events.PeerBound, db: Database) -> None:
    """Signatures are not checked here: that is for whoever believes them."""
    if max(len(event.peer_id), len(event.peer_signature)) > _MAX_PEER:
        raise RemoteProtocolError("a binding is longer than the contract takes")
    row = db.execute("SELECT seq FROM chain_bindings WHERE account = ?", [event.account]).fetchone()
    if row is not None and event.seq <= int(row[0]):
        raise RemoteProtocolError("a binding does not follow the one before")
    values = [event.account, str(event.seq), str(event.valid_until)]
    db.execute(
        "INSERT OR REPLACE INTO chain_bindings VALUES (?, ?, ?, ?, ?)",
        [*values, event.peer_id, event.peer_signature],
    )


@apply.register
def _(event: events.OrganisationDeclared, db: Database) -> None:
    if len(event.name) > _MAX_NAME or len(event.document) > _MAX_DOCUMENT:
        raise RemoteProtocolError("an organisation's record is longer than the contract takes")
    db.execute(
        "INSERT OR REPLACE INTO chain_organisations VALUES (?, ?, ?)",
        [event.account, event.name, event.document],
    )


@apply.register
def _(event: events.Opened, db: Database) -> None:
    terms = event.terms
    parties = (terms.consumer, terms.opener, terms.recipient, terms.decider, terms.token)
    money = (str(terms.budget), terms.deadline, terms.salt)
    db.execute(
        "INSERT INTO chain_tasks (task, cdt, consumer, opener, recipient, decider, token, budget,"
        " deadline, salt, state, opened_block) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'OPEN', ?)",
        [event.task, terms.cdt, *parties, *money, event.at.block],
    )


@apply.register
def _(event: events.Attested, db: Database) -> None:
    _step(db, event.task, TaskEvent.ATTEST)
    db.execute(
        "UPDATE chain_tasks SET attester = ?, plan = ?, attested_block = ? WHERE task = ?",
        [event.attester, event.plan, event.at.block, event.task],
    )
    for position, due in enumerate(event.dues):
        edge = {"child": due.child, "parent": due.parent}
        price = {"owner": due.owner, "price": str(due.price), "unit": due.unit}
        db.execute(_SPEND, edge)
        db.execute(_ADD_DUE, {"task": event.task, "position": position, **edge, **price})


@apply.register
def _(event: events.Claimed, db: Database) -> None:
    _step(db, event.task, TaskEvent.CLAIM)
    _set_closing(db, event.task, event.closes_at)
    _set_amounts(db, event.task, event.amounts)


@apply.register
def _(event: events.Disputed, db: Database) -> None:
    _step(db, event.task, TaskEvent.DISPUTE)
    _set_closing(db, event.task, event.closes_at)


@apply.register
def _(event: events.Reported, db: Database) -> None:
    _step(db, event.task, TaskEvent.REPORT)
    db.execute(
        "UPDATE chain_tasks SET result_hash = ?, usage_root = ? WHERE task = ?",
        [event.result_hash, event.usage_root, event.task],
    )
    _set_amounts(db, event.task, event.amounts)


@apply.register
def _(event: events.Settled, db: Database) -> None:
    _step(db, event.task, TaskEvent.SETTLE)
    _set_amounts(db, event.task, event.amounts)


@apply.register
def _(event: events.Refunded, db: Database) -> None:
    _step(db, event.task, TaskEvent.REFUND)


@apply.register
def _(event: events.Cancelled, db: Database) -> None:
    _step(db, event.task, TaskEvent.CANCEL)


def _step(db: Database, task: bytes, event: TaskEvent) -> None:
    """Move the task along its table; RemoteProtocolError if it is unknown or the table refuses."""
    row = db.execute("SELECT state FROM chain_tasks WHERE task = ?", [task]).fetchone()
    if row is None:
        raise RemoteProtocolError(f"no task {hexadecimal(task)} was opened")
    state = TASK.step(TaskState(row[0]), event)
    db.execute("UPDATE chain_tasks SET state = ? WHERE task = ?", [str(state), task])


def _set_closing(db: Database, task: bytes, closes_at: int) -> None:
    db.execute("UPDATE chain_tasks SET closes_at = ? WHERE task = ?", [closes_at, task])


def _set_amounts(db: Database, task: bytes, amounts: tuple[int, ...]) -> None:
    for position, amount in enumerate(amounts):
        db.execute(
            "UPDATE chain_dues SET amount = ? WHERE task = ? AND position = ?",
            [str(amount), task, position],
        )
