"""One writer of state: commit, then act.

Every change of state and every effect it owes are written in ONE transaction; only after the
commit is an effect performed. After a crash the owed effects are performed again, so receivers
are idempotent and a performer may run twice.

A transaction is a plain `with` block without an await, on the daemon's only thread: trio cannot
interleave two of them, and a caller that is slow slows itself. (A queue in front of a writer task
was rejected: it adds a hop to every answer and gives nothing that this does not.)
"""

import json
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio
from sqlite_utils import Database

from node.errors import Fault
from node.log import get_logger
from node.store import writing
from protocol.errors import RemoteProtocolError

log = get_logger("engine")

RETRY_FIRST_S = 0.2
RETRY_MOST_S = 30.0
RECORD_RETRY_S = 1.0
FOREVER = math.inf

Performer = Callable[["Owed"], Awaitable["Again | None"]]


@dataclass(frozen=True, slots=True)
class Owed:
    """An effect that is owed: `key` is unique within its `kind`, `body` is its performer's."""

    kind: str
    key: bytes
    body: bytes
    attempts: int
    not_after: float


@dataclass(frozen=True, slots=True)
class Again:
    """A performer's wish: perform this effect again in `after_s` seconds (None: back off)."""

    after_s: float | None = None


class Transaction:
    """The open transaction: read and write through `db`, owe effects, note decisions."""

    def __init__(self, db: Database, now: float) -> None:
        self.db = db
        self.now = now

    def owe(
        self,
        kind: str,
        key: bytes,
        body: bytes = b"",
        *,
        after_s: float = 0.0,
        not_after: float = FOREVER,
    ) -> None:
        """Afterwards the effect is owed; the same kind and key replace an earlier one."""
        self.db.execute(
            "INSERT OR REPLACE INTO effects VALUES (?, ?, ?, 0, ?, ?)",
            [kind, key, body, self.now + after_s, not_after],
        )

    def settle(self, kind: str, key: bytes) -> None:
        """Afterwards the effect is no longer owed."""
        self.db.execute("DELETE FROM effects WHERE kind = ? AND key = ?", [kind, key])

    def note(self, kind: str, subject: bytes, outcome: str, **detail: Any) -> None:
        """Keep a decision, opening or signature for those who ask later why."""
        self.db.execute(
            "INSERT INTO decisions (at, kind, subject, outcome, detail) VALUES (?, ?, ?, ?, ?)",
            [self.now, kind, subject, outcome, json.dumps(detail, sort_keys=True)],
        )


class Engine:
    """Transactions, owed effects, and waiting for the state to change."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self.db = db
        self.clock = clock
        self._performers: dict[str, Performer] = {}
        self._busy: set[tuple[str, bytes]] = set()
        self._changed = trio.Event()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction; it commits when the block ends and leaves no trace if the block raises.

        Fault `disk-full` if it cannot be stored.
        """
        with writing(self.db):
            yield Transaction(self.db, self.clock())
        self.announce_change()

    def announce_change(self) -> None:
        """Wake whoever waits for the state, and the performers."""
        self._changed.set()
        self._changed = trio.Event()

    def perform(self, kind: str, performer: Performer) -> None:
        """Effects of `kind` are performed by `performer`, which may be asked more than once.

        The effect is done when it returns None. `Again`, or an expected failure, keeps it owed
        until its `not_after`.
        """
        self._performers[kind] = performer

    async def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """True as soon as `holds()`, asked after each change; False after `timeout_s` seconds."""
        with trio.move_on_after(timeout_s) as scope:
            while not holds():
                await self._changed.wait()
        return not scope.cancelled_caught or holds()

    async def run(self) -> None:
        """Perform what is owed, when it is due, each effect in a task of its own. Never returns."""
        async with trio.open_nursery() as nursery:
            while True:
                changed, now = self._changed, self.clock()
                for owed in self._due(now):
                    self._busy.add((owed.kind, owed.key))
                    nursery.start_soon(self._attempt, owed)
                with trio.move_on_after(self._pause(now)):
                    await changed.wait()

    def _due(self, now: float) -> list[Owed]:
        rows = self.db.execute(
            "SELECT kind, key, body, attempts, not_after FROM effects WHERE due_at <= ? "
            "ORDER BY due_at",
            [now],
        ).fetchall()
        due = [Owed(*row) for row in rows]
        return [o for o in due if o.kind in self._performers and (o.kind, o.key) not in self._busy]

    def _pause(self, now: float) -> float:
        """Seconds to the next due effect that nobody is performing."""
        rows = self.db.execute(
            "SELECT kind, key, due_at FROM effects WHERE due_at > ? ORDER BY due_at LIMIT 64", [now]
        )
        for kind, key, due_at in rows.fetchall():
            if kind in self._performers and (kind, key) not in self._busy:
                return max(0.0, float(due_at) - now)
        return math.inf

    async def _attempt(self, owed: Owed) -> None:
        try:
            again = await self._performers[owed.kind](owed)
        except (Fault, RemoteProtocolError, OSError) as error:
            log.info("effect failed", kind=owed.kind, key=owed.key.hex(), why=str(error))
            again = Again()
        except Exception:  # the boundary of this task: no single effect may end the daemon
            log.exception("effect failed by an error of this node", kind=owed.kind)
            again = Again()
        try:
            self._record(owed, again)
        except Fault as fault:  # it stays owed, and is due at once: without a pause it would spin
            log.warning("effect not recorded", kind=owed.kind, why=fault.sentence)
            await trio.sleep(RECORD_RETRY_S)
        finally:
            self._busy.discard((owed.kind, owed.key))
        self.announce_change()

    def _record(self, owed: Owed, again: Again | None) -> None:
        """Settle the effect or set its next time, unless a newer one took its place meanwhile."""
        now = self.clock()
        where = "WHERE kind = ? AND key = ? AND body = ? AND attempts = ?"
        which = [owed.kind, owed.key, owed.body, owed.attempts]
        with writing(self.db):
            if again is None or now >= owed.not_after:
                self.db.execute(f"DELETE FROM effects {where}", which)  # noqa: S608
            else:
                wait_s = min(RETRY_MOST_S, RETRY_FIRST_S * 2**owed.attempts)
                after_s = wait_s if again.after_s is None else again.after_s
                self.db.execute(
                    f"UPDATE effects SET attempts = attempts + 1, due_at = ? {where}",  # noqa: S608
                    [now + after_s, *which],
                )
