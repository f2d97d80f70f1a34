"""What the followed events add up to: assets, grants, trust, tasks and what was paid.

Applied inside the follower's transaction, event by event in chain order; after a reorganisation
it is made anew from the events that are left, so it cannot keep a trace of those that are gone.
"""

from collections.abc import Iterable
from functools import singledispatch
from typing import Final

from sqlite_utils import Database

from chain import events
from chain.values import unpack_grant

TABLES: Final = (
    "chain_assets",
    "chain_children",
    "chain_grants",
    "chain_trusts",
    "chain_tasks",
    "chain_dues",
)

# Each of one edge under the child's present owner.
_REVOKE: Final = (
    "UPDATE chain_grants SET live = 0, seq = :seq WHERE child = :child AND parent = :parent"
    " AND owner_epoch = (SELECT epoch FROM chain_assets WHERE cdt = :child)"
)
_SPEND: Final = (
    "UPDATE chain_grants SET uses = uses + 1 WHERE child = :child AND parent = :parent"
    " AND owner_epoch = (SELECT epoch FROM chain_assets WHERE cdt = :child)"
)
_COPY_DUE: Final = (
    "INSERT INTO chain_dues"
    " SELECT :task, :position, child, parent, owner, terms_hash, price, unit, NULL"
    " FROM chain_grants WHERE child = :child AND parent = :parent"
    " AND owner_epoch = (SELECT epoch FROM chain_assets WHERE cdt = :child)"
)


def apply_all(db: Database, batch: Iterable[events.Event]) -> None:
    """Add these events, in chain order, to the tables; inside the caller's transaction."""
    for event in batch:
        apply(event, db)


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
    db.execute(
        "UPDATE chain_tasks SET state = 'ATTESTED', attester = ?, plan = ?, attested_block = ?"
        " WHERE task = ?",
        [event.attester, event.plan, event.at.block, event.task],
    )
    for position, due in enumerate(event.dues):
        edge = {"child": due.child, "parent": due.parent}
        db.execute(_SPEND, edge)
        db.execute(_COPY_DUE, {"task": event.task, "position": position, **edge})


@apply.register
def _(event: events.Claimed, db: Database) -> None:
    db.execute(
        "UPDATE chain_tasks SET state = iif(state = 'DISPUTED', state, 'CLAIMED'), closes_at = ?"
        " WHERE task = ?",
        [event.closes_at, event.task],
    )
    _set_amounts(db, event.task, event.amounts)


@apply.register
def _(event: events.Disputed, db: Database) -> None:
    db.execute(
        "UPDATE chain_tasks SET state = 'DISPUTED', closes_at = ? WHERE task = ?",
        [event.closes_at, event.task],
    )


@apply.register
def _(event: events.Reported, db: Database) -> None:
    db.execute(
        "UPDATE chain_tasks SET state = 'REPORTED', result_hash = ?, usage_root = ? WHERE task = ?",
        [event.result_hash, event.usage_root, event.task],
    )
    _set_amounts(db, event.task, event.amounts)


@apply.register
def _(event: events.Settled, db: Database) -> None:
    _set_state(db, event.task, "SETTLED")
    _set_amounts(db, event.task, event.amounts)


@apply.register
def _(event: events.Refunded, db: Database) -> None:
    _set_state(db, event.task, "REFUNDED")


@apply.register
def _(event: events.Cancelled, db: Database) -> None:
    _set_state(db, event.task, "CANCELLED")


def _set_state(db: Database, task: bytes, state: str) -> None:
    db.execute("UPDATE chain_tasks SET state = ? WHERE task = ?", [state, task])


def _set_amounts(db: Database, task: bytes, amounts: tuple[int, ...]) -> None:
    for position, amount in enumerate(amounts):
        db.execute(
            "UPDATE chain_dues SET amount = ? WHERE task = ? AND position = ?",
            [str(amount), task, position],
        )
