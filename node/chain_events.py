"""Confirmed events of the chain, applied to this node's view in the follower's transaction.

The view of assets joins what the chain says with what documents and announcements say. Its
chain-born columns are always taken whole from what the followed events add up to, so that after a
reorganisation they are those of a node that has only ever seen the new branch.
"""

from collections.abc import Sequence

from chain import events
from node import assets
from node.bindings import Bindings
from node.catalogue import Catalogue, restore
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Transaction


def apply(
    tx: Transaction,
    found: Sequence[events.Event],
    catalogue: Catalogue,
    exchange: DocumentExchange,
    directory: Directory,
) -> None:
    """Afterwards the view holds what `found` says, and what follows is owed.

    Assets that became confirmed and are this node's own are announced; documents that are
    missing are fetched.
    """
    for account in dict.fromkeys(e.account for e in found if isinstance(e, events.PeerBound)):
        directory.bindings.follow(tx, account)
    moved = (events.Registered, events.OwnershipTransferred)
    for cdt in dict.fromkeys(event.cdt for event in found if isinstance(event, moved)):
        asset = assets.take_from_chain(tx, cdt)
        if asset is None:
            continue
        if asset.owner == directory.own.account and asset.state == "confirmed":
            catalogue.announce(tx, cdt)
        elif directory.of_account(asset.owner) is not None:
            exchange.want(tx, cdt, asset.proof)


def take_back(tx: Transaction, bindings: Bindings) -> None:
    """Afterwards the view is that of a node to which only the events that are left were told.

    What this node counted, reserved or signed stays as it is: no reorganisation gives it back.
    """
    for (cdt,) in tx.db.execute("SELECT cdt FROM assets ORDER BY cdt").fetchall():
        if assets.take_from_chain(tx, cdt) is None:
            restore(tx, cdt)
    bindings.take_back(tx)
