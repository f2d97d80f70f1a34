"""Confirmed events of the chain, applied to this node's view in the follower's transaction.

The view of assets joins what the chain says with what documents and announcements say. Its
chain-born columns are always taken whole from what the followed events add up to, so that after a
reorganisation they are those of a node that has only ever seen the new branch.
"""

from collections.abc import Sequence

from chain import events
from node import acquaintances, assets
from node.announcing import Announcing
from node.bindings import Bindings
from node.catalogue import restore
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Transaction
from protocol.ids import Account

# All that a chain can say of an asset but this follows from its id.
_MOVED = """
    SELECT a.cdt FROM assets a LEFT JOIN chain_assets c ON c.cdt = a.cdt
    WHERE CASE WHEN c.cdt IS NULL THEN a.state != 'announced'
        ELSE a.state = 'announced' OR a.owner != c.owner OR a.epoch != c.epoch END
    ORDER BY a.cdt
"""


def apply(
    tx: Transaction,
    found: Sequence[events.Event],
    announcing: Announcing,
    exchange: DocumentExchange,
    directory: Directory,
) -> None:
    """Afterwards the view holds what `found` says, and what follows is owed.

    Assets that became confirmed and are this node's own are announced; documents that are
    missing are fetched.
    """
    moved = (events.Registered, events.OwnershipTransferred)
    for cdt in dict.fromkeys(event.cdt for event in found if isinstance(event, moved)):
        before = assets.find(tx.db, cdt)
        asset = assets.take_from_chain(tx, cdt)
        if asset is None:
            continue
        if before is not None and before.owner != asset.owner:
            restore(tx, cdt)  # what the new owner has announced counts from now on
        if asset.owner == directory.own.account:
            announcing.announce(tx, cdt)
        if directory.of_account(asset.owner) is not None:
            exchange.want(tx, cdt, asset.proof)


def introduced(found: Sequence[events.Event]) -> tuple[Account, ...]:
    """The accounts that say in `found` who they are, or which peer speaks for them."""
    said = (events.PeerBound, events.OrganisationDeclared)
    return tuple(dict.fromkeys(event.account for event in found if isinstance(event, said)))


def take_back(tx: Transaction, bindings: Bindings) -> None:
    """Afterwards the view is that of a node to which only the events that are left were told.

    What this node counted, reserved or signed stays as it is: no reorganisation gives it back.
    """
    for (cdt,) in tx.db.execute(_MOVED).fetchall():
        assets.take_from_chain(tx, cdt)
        restore(tx, cdt)
    bindings.take_back(tx)
    acquaintances.take_back(tx)
