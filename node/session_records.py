"""Sessions as the database keeps them; every change goes through the table of states."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from node.engine import Transaction
from node.errors import Fault
from node.rows import first, select
from protocol.ids import SessionId, TaskId, hexadecimal
from protocol.task import SESSION, SessionEvent, SessionState


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One run of an attested task at this node; `blamed` and `summary` are JSON."""

    session: SessionId
    task: TaskId
    roles: str
    state: SessionState
    reason: str
    blamed: str
    roster: bytes | None
    row_set: bytes | None
    summary: str
    started_at: float
    updated_at: float


def find(db: Database, session: bytes) -> SessionRecord | None:
    """The session, or None if this node takes no part in it."""
    return first(db, SessionRecord, "sessions WHERE session = ?", [session])


def known(db: Database, session: bytes) -> SessionRecord:
    """The session; Fault `session-unknown`."""
    record = find(db, session)
    if record is None:
        raise Fault("session-unknown", f"no session {hexadecimal(session)} is known here")
    return record


def every(db: Database) -> list[SessionRecord]:
    """All sessions, the latest first."""
    return select(db, SessionRecord, "sessions ORDER BY started_at DESC")


def of_task(db: Database, task: bytes) -> list[SessionRecord]:
    """All sessions of one task, aborted ones too, the latest first."""
    return select(db, SessionRecord, "sessions WHERE task = ? ORDER BY started_at DESC", [task])


def decisions(db: Database, session: bytes) -> list[dict[str, Any]]:
    """Every yes and no about the session that this node gave or heard, the earliest first.

    Each says who answered what about which part of it, and why: what a yes has checked, by which
    rule and with which sentence somebody said no, and how the session ended here.
    """
    rows = db.execute(
        "SELECT at, outcome, detail FROM decisions WHERE kind = 'session' AND subject = ? "
        "ORDER BY id",
        [session],
    )
    return [_decision(*row) for row in rows.fetchall()]


def has_agreed(db: Database, session: bytes, by: str, part: str) -> bool:
    """True if it is kept already that `by` said yes to this part of the session."""
    row = db.execute(
        "SELECT 1 FROM decisions WHERE kind = 'session' AND subject = ? AND outcome = 'yes' "
        "AND detail ->> 'by' = ? AND detail ->> 'part' = ? LIMIT 1",
        [session, by, part],
    ).fetchone()
    return row is not None


def _decision(at: float, outcome: str, detail: str) -> dict[str, Any]:
    told = json.loads(detail)
    why = told.get("checked") or [told[name] for name in ("sentence", "reason") if name in told]
    return {
        "at": at,
        "by": told.get("by", ""),
        "part": told.get("part", "session"),
        "answer": outcome,
        "rule": told.get("rule", ""),
        "why": why,
    }


def require_new(db: Database, session: bytes) -> None:
    """Fault `session-refused` if the id was used, whatever has become of that session."""
    if find(db, session) is not None:
        raise Fault("session-refused", f"session {hexadecimal(session)} has been used already")


def begin(tx: Transaction, session: bytes, task: bytes, roles: Iterable[str]) -> None:
    """Afterwards the session is PROPOSED here. Fault `session-refused` if its id was used."""
    require_new(tx.db, session)
    tx.db.execute(
        "INSERT INTO sessions (session, task, roles, state, started_at, updated_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [session, task, " ".join(roles), str(SESSION.initial), tx.now, tx.now],
    )


def seat(tx: Transaction, session: bytes, roles: Iterable[str]) -> None:
    """Afterwards these are the roles of this node, now that the committee is drawn."""
    tx.db.execute("UPDATE sessions SET roles = ? WHERE session = ?", [" ".join(roles), session])


def move(tx: Transaction, session: bytes, event: SessionEvent, **columns: Any) -> SessionState:
    """Afterwards `event` has happened to the session and `columns` are set.

    RemoteProtocolError if the table does not allow it in the session's state.
    """
    record = known(tx.db, session)
    state = SESSION.step(record.state, event)
    changes = {"state": str(state), "updated_at": tx.now, **columns}
    assignments = ", ".join(f"{name} = ?" for name in changes)
    tx.db.execute(
        f"UPDATE sessions SET {assignments} WHERE session = ?",  # noqa: S608
        [*changes.values(), session],
    )
    return state


def abort(tx: Transaction, session: bytes, reason: str, blamed: Iterable[str]) -> bool:
    """Afterwards the session is over here; True if it was not before."""
    record = find(tx.db, session)
    if record is None or SESSION.is_final(record.state):
        return False
    move(tx, session, SessionEvent.ABORT, reason=reason, blamed=json.dumps(list(blamed)))
    tx.note("session", session, "aborted", reason=reason, blamed=list(blamed))
    return True


def abort_interrupted(tx: Transaction) -> None:
    """A session lives in its worker processes: those that a restart interrupted are over."""
    for record in every(tx.db):
        abort(tx, record.session, "this node was restarted", ())
