"""How much others can make this node keep by asking: by the hour, and for how long.

Adversary: any organisation that may ask. One of the configuration is bounded by itself; those
that only chain or gossip know are bounded together, because accounts are free to make.
"""

import json
from typing import Final

from sqlite_utils import Database

from node.directory import Directory, Organisation
from node.engine import Transaction

HOUR_S: Final = 3600.0
REQUESTS_PER_HOUR = 500
"""Of one configured organisation: each is kept for ever, and each yes costs a signature."""
STRANGERS_PER_HOUR = 50
"""Of all others together."""
FETCHES_AT_ONCE = 100.0
"""Unknown algorithms that one peer may name at once: each is asked for at several others."""
FORGOTTEN_AFTER_S = 30 * 86_400.0
"""How long a stranger's request is kept that came to nothing."""
WITHDRAWN_FOR_S = 86_400.0
"""How long a request that comes after its own withdrawal is recognised."""

_STRANGERS = "side = 'provider' AND peer_id NOT IN (SELECT value FROM json_each(?))"


def is_flooded(
    db: Database, directory: Directory, organisation: Organisation, since: float
) -> bool:
    """True if this organisation, or all strangers together, asked too often after `since`."""
    if organisation.operator is None:
        return _asked(db, _STRANGERS, _configured(directory), since) >= STRANGERS_PER_HOUR
    where = "side = 'provider' AND peer_id = ?"
    return _asked(db, where, organisation.peer_id, since) >= REQUESTS_PER_HOUR


def forget_strangers(tx: Transaction, directory: Directory) -> None:
    """Afterwards what came to nothing with strangers long ago is gone."""
    tx.db.execute(
        f"DELETE FROM negotiations WHERE {_STRANGERS} AND state = 'TERMINATED' "  # noqa: S608
        "AND updated_at < ?",
        [_configured(directory), tx.now - FORGOTTEN_AFTER_S],
    )
    tx.db.execute("DELETE FROM referrals WHERE process NOT IN (SELECT process FROM negotiations)")


def note_withdrawal(tx: Transaction, process: bytes, peer_id: str) -> None:
    """Afterwards a process that was withdrawn before it was asked is not considered for a day."""
    tx.db.execute("DELETE FROM withdrawn_requests WHERE at < ?", [tx.now - WITHDRAWN_FOR_S])
    tx.db.execute(
        "INSERT OR IGNORE INTO withdrawn_requests SELECT ?, ?, ? WHERE "
        "(SELECT count(*) FROM withdrawn_requests WHERE peer_id = ?) < ?",
        [process, peer_id, tx.now, peer_id, REQUESTS_PER_HOUR],
    )


def was_withdrawn(db: Database, process: bytes) -> bool:
    """True if the process was withdrawn before it was asked."""
    found = db.execute("SELECT 1 FROM withdrawn_requests WHERE process = ?", [process])
    return found.fetchone() is not None


def _asked(db: Database, where: str, which: str, since: float) -> int:
    row = db.execute(
        f"SELECT count(*) FROM negotiations WHERE {where} AND updated_at > ?",  # noqa: S608
        [which, since],
    ).fetchone()
    return int(row[0])


def _configured(directory: Directory) -> str:
    return json.dumps([each.peer_id for each in directory.everybody])
