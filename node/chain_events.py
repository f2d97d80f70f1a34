"""Confirmed events of the chain, applied to this node's view in the follower's transaction."""

from collections.abc import Callable, Sequence
from typing import Any

from chain import events
from chain.values import KINDS, unpack_grant
from node import assets, task_records
from node.catalogue import Catalogue
from node.directory import Directory
from node.engine import Transaction

KIND_NAMES = {number: name for name, number in KINDS.items()}


def apply(
    tx: Transaction, found: Sequence[events.Event], catalogue: Catalogue, directory: Directory
) -> None:
    """Afterwards the view holds what `found` says, in order, and what follows is owed.

    Assets that became confirmed and are this node's own are announced; documents that are
    missing are fetched.
    """
    touched: dict[bytes, None] = {}
    for event in found:
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(tx, event)
        if isinstance(event, events.Registered):
            touched[event.cdt] = None
    for cdt in touched:
        _follow_up(tx, cdt, catalogue, directory)


def _follow_up(tx: Transaction, cdt: bytes, catalogue: Catalogue, directory: Directory) -> None:
    assets.judge(tx, cdt)
    asset = assets.find(tx.db, cdt)
    if asset is None:
        return
    if asset.owner == directory.own.account and asset.state == "confirmed":
        catalogue.announce(tx, cdt)
    elif directory.of_account(asset.owner) is not None:
        catalogue.want_document(tx, cdt, asset.proof)


def _registered(tx: Transaction, event: events.Registered) -> None:
    kind = KIND_NAMES.get(event.kind, "unknown")
    assets.registered(tx, event.cdt, event.owner, kind, event.proof, event.salt)


def _composed(tx: Transaction, event: events.Composed) -> None:
    assets.composed(tx, event.cdt, event.children)


def _transferred(tx: Transaction, event: events.OwnershipTransferred) -> None:
    assets.transferred(tx, event.cdt, event.owner, event.epoch)


def _granted(tx: Transaction, event: events.Granted) -> None:
    tx.db.execute(
        "INSERT OR REPLACE INTO edges VALUES (?, ?, ?, 1, ?)",
        [event.child, event.parent, unpack_grant(event.word).seq, event.terms_hash],
    )


def _revoked(tx: Transaction, event: events.Revoked) -> None:
    tx.db.execute(
        "INSERT OR REPLACE INTO edges VALUES (?, ?, ?, 0, x'')",
        [event.child, event.parent, event.seq],
    )
    tx.db.execute(
        "UPDATE grants SET revoked = 1 WHERE child = ? AND parent = ? AND seq <= ?",
        [event.child, event.parent, event.seq],
    )


_HANDLERS: dict[type[events.Event], Callable[[Transaction, Any], None]] = {
    events.Registered: _registered,
    events.Composed: _composed,
    events.OwnershipTransferred: _transferred,
    events.Granted: _granted,
    events.Revoked: _revoked,
    events.Opened: task_records.opened,
    events.Attested: task_records.attested,
    events.Claimed: task_records.claimed,
    events.Disputed: task_records.disputed,
    events.Reported: task_records.reported,
    events.Settled: task_records.settled,
    events.Refunded: task_records.refunded,
    events.Cancelled: task_records.cancelled,
}
