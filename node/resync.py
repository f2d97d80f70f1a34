"""Following the chain afresh: the remedy when it has replaced more than could be taken back.

Done while the daemon is stopped. What the chain said is forgotten, to be read again from the
contracts' creation at the next start. What this node signed, counted and reserved stays: no
reorganisation gives it back. Transactions that counted as final are looked for again, and those
that the chain has lost are sent again, the very same bytes.
"""

import time
from dataclasses import dataclass

from chain.follower import forget
from chain.outbox import look_again
from chain.schema import MIGRATIONS
from node import chain_events
from node.bindings import Bindings
from node.config import FolderConfig
from node.engine import Engine
from node.errors import Fault
from node.folder import instance_lock
from node.store import open_store
from protocol.typed_data import Domain, registry_domain


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many events are to be read again, and how many transactions to be looked for."""

    events: int
    transactions: int


def resync(configured: FolderConfig) -> Forgotten:
    """Afterwards the node's database knows nothing of the chain. Fault `already-running`."""
    with instance_lock(configured.folder):
        db = open_store(configured.folder.database, MIGRATIONS)
        try:
            with Engine(db, time.time).transaction() as tx:
                found = Forgotten(events=forget(db), transactions=look_again(db))
                chain_events.take_back(tx, Bindings(db, _domain(configured), time.time))
                tx.note("chain", b"", "resync", events=found.events)
        finally:
            db.close()
    return found


def _domain(configured: FolderConfig) -> Domain:
    chain = configured.config.chain
    if chain is None:
        raise Fault("chain-not-configured", f"{configured.folder.config_file} has no [chain]")
    return registry_domain(chain.chain_id, chain.registry)
