"""Requests that wait for a person: the queue, who decided, when, and what they said.

A request is in the queue while its negotiation waits (REQUESTED or ACCEPTED) and nobody has
decided. The queue is bounded for each peer; what was decided stays, for those who ask later.
"""

import json
from dataclasses import dataclass

from sqlite_utils import Database

from node.engine import Transaction
from node.errors import Fault
from node.rows import first, select
from protocol.ids import hexadecimal

REFERRED_MOST = 20
"""Of one peer at a time: a person reads them all."""

_WAITING = (
    "decision = '' AND process IN "
    "(SELECT process FROM negotiations WHERE state IN ('REQUESTED', 'ACCEPTED'))"
)


@dataclass(frozen=True, slots=True)
class Referral:
    """One request in the queue; `referred` is JSON, the operands that a person may waive."""

    process: bytes
    peer_id: str
    referred: str
    asked_at: float
    until: float
    decision: str
    decided_by: str
    decided_at: float
    remark: str

    @property
    def waivable(self) -> frozenset[str]:
        """The operands that failed and that a person may waive."""
        return frozenset(json.loads(self.referred))


def find(db: Database, process: bytes) -> Referral | None:
    """The referral of this process, decided or not, or None."""
    return first(db, Referral, "referrals WHERE process = ?", [process])


def waiting(db: Database) -> list[Referral]:
    """Those that nobody has decided yet, the most urgent first."""
    return select(db, Referral, f"referrals WHERE {_WAITING} ORDER BY until, process")


def every(db: Database) -> list[Referral]:
    """All of them, the latest first."""
    return select(db, Referral, "referrals ORDER BY asked_at DESC, process")


def is_full(db: Database, peer_id: str) -> bool:
    """True if as many requests of this peer wait as may."""
    row = db.execute(
        f"SELECT count(*) FROM referrals WHERE peer_id = ? AND {_WAITING}",  # noqa: S608
        [peer_id],
    ).fetchone()
    return int(row[0]) >= REFERRED_MOST


def refer(
    tx: Transaction, process: bytes, peer_id: str, operands: frozenset[str], until: float
) -> None:
    """Afterwards the request waits for a person; one that waits again waits anew."""
    tx.db.execute(
        "INSERT OR REPLACE INTO referrals VALUES (?, ?, ?, ?, ?, '', '', 0.0, '')",
        [process, peer_id, json.dumps(sorted(operands)), tx.now, until],
    )


def undecided(db: Database, process: bytes) -> Referral:
    """The referral, to be decided now; Fault `request-unknown` or `request-decided`."""
    found = find(db, process)
    if found is None:
        raise Fault("request-unknown", f"no request {hexadecimal(process)} was referred to you")
    if found not in waiting(db):
        why = f"{found.decided_by} has decided: {found.decision}" if found.decision else "it ended"
        raise Fault("request-decided", f"the request does not wait any more, {why}")
    return found


def decide(tx: Transaction, process: bytes, decision: str, by: str, remark: str) -> None:
    """Afterwards it is kept who decided what, when, and what they said."""
    tx.db.execute(
        "UPDATE referrals SET decision = ?, decided_by = ?, decided_at = ?, remark = ? "
        "WHERE process = ?",
        [decision, by, tx.now, remark, process],
    )
    tx.note("request", process, decision, by=by, remark=remark)
