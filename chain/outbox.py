"""The outbox's rows: intents, their nonces, and every signed form of each.

An intent goes new -> sent -> mined -> final, or new -> refused. `sent` means that a nonce and a
signed transaction are stored, whether or not any node has it yet. Only the owner's account of
this outbox is looked at: a database may hold the intents of a former key.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlite_utils import Database

from protocol.ids import Account

_JOB: Final = "SELECT id, key, destination, data, coalesce(gas, 0) FROM chain_outbox"


@dataclass(frozen=True, slots=True)
class Job:
    """One intent; `gas` is 0 while it is not estimated."""

    id: int
    key: str
    destination: bytes
    data: bytes
    gas: int


@dataclass(frozen=True, slots=True)
class UnderWay:
    """One signed form of an intent that is not final yet."""

    job: int
    state: str
    nonce: int
    block_hash: bytes | None
    transaction: bytes


@dataclass(frozen=True, slots=True)
class Newest:
    """The form of an intent in state `sent` that was signed last."""

    job: int
    nonce: int
    transaction: bytes
    raw: bytes
    max_fee: int
    priority_fee: int
    signed_at: float


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction of a job, ready to be stored."""

    job: Job
    nonce: int
    transaction: bytes
    raw: bytes
    max_fee: int
    priority_fee: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of an intent; `success` is None until it is mined."""

    state: str
    success: bool | None
    reason: str
    transaction: bytes
    block: int
    gas_used: int


class Outbox:
    """The rows of one account."""

    def __init__(self, db: Database, account: Account) -> None:
        self._db = db
        self._account = account

    # ----------------------------------------------------------- for the caller

    def add(
        self, key: str, kind: str, to: Account, data: bytes, gas: int | None, now: float
    ) -> bool:
        """Store an intent in the caller's open transaction; whether the key was new."""
        inserted = self._db.execute(
            "INSERT OR IGNORE INTO chain_outbox"
            " (key, kind, account, destination, data, gas, state, enqueued_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'new', ?)",
            [key, kind, self._account, to, data, gas, now],
        )
        return inserted.rowcount == 1

    def forget(self, key: str) -> bool:
        """Delete an intent that is not signed, was refused or failed; whether there was one."""
        row = self._db.execute(
            "SELECT id FROM chain_outbox WHERE key = ? AND account = ?"
            " AND (state IN ('new', 'refused') OR (state = 'final' AND success = 0))",
            [key, self._account],
        ).fetchone()
        if row is None:
            return False
        with self._db.atomic():
            self._db.execute("DELETE FROM chain_attempts WHERE job = ?", [row[0]])
            self._db.execute("DELETE FROM chain_outbox WHERE id = ?", [row[0]])
        return True

    def outcome(self, key: str) -> Outcome | None:
        """What has become of the intent; None if there is none with this key."""
        row = self._db.execute(
            "SELECT state, success, reason, coalesce(transaction_hash, x''), coalesce(block, 0),"
            " coalesce(gas_used, 0) FROM chain_outbox WHERE key = ? AND account = ?",
            [key, self._account],
        ).fetchone()
        if row is None:
            return None
        state, success, *rest = row
        return Outcome(state, None if success is None else bool(success), *rest)

    def gas_by_kind(self) -> dict[str, tuple[int, int]]:
        """For each kind of transaction: how many succeeded, and the gas of all together."""
        rows = self._db.execute(
            "SELECT kind, count(*), sum(gas_used) FROM chain_outbox"
            " WHERE state = 'final' AND success = 1 AND account = ? GROUP BY kind ORDER BY kind",
            [self._account],
        )
        return {kind: (count, gas) for kind, count, gas in rows}

    # ----------------------------------------------------------- for the sender

    def under_way(self) -> list[UnderWay]:
        """Every form of every intent that is sent or mined, by nonce."""
        rows = self._db.execute(
            "SELECT o.id, o.state, o.nonce, o.block_hash, a.hash FROM chain_outbox o"
            " JOIN chain_attempts a ON a.job = o.id"
            " WHERE o.state IN ('sent', 'mined') AND o.account = ? ORDER BY o.nonce",
            [self._account],
        )
        return [UnderWay(*row) for row in rows]

    def newest(self) -> list[Newest]:
        """The newest form of every intent in state `sent`, by nonce."""
        rows = self._db.execute(
            "SELECT o.id, o.nonce, a.hash, a.raw, a.max_fee, a.priority_fee, max(a.signed_at)"
            " FROM chain_outbox o JOIN chain_attempts a ON a.job = o.id"
            " WHERE o.state = 'sent' AND o.account = ? GROUP BY o.id ORDER BY o.nonce",
            [self._account],
        )
        return [
            Newest(job, nonce, transaction, raw, int(max_fee), int(priority), at)
            for job, nonce, transaction, raw, max_fee, priority, at in rows
        ]

    def new_jobs(self, limit: int) -> list[Job]:
        """The oldest intents that are not signed yet."""
        rows = self._db.execute(
            _JOB + " WHERE state = 'new' AND account = ? ORDER BY id LIMIT ?",
            [self._account, limit],
        )
        return [Job(*row) for row in rows]

    def job(self, number: int) -> Job:
        """The intent with this row number. KeyError if it is gone."""
        row = self._db.execute(_JOB + " WHERE id = ?", [number]).fetchone()
        if row is None:
            raise KeyError(number)
        return Job(*row)

    def in_flight(self) -> int:
        """How many intents are in state `sent`."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM chain_outbox WHERE state = 'sent' AND account = ?",
            [self._account],
        ).fetchone()
        return int(count)

    def last_nonce(self) -> int:
        """The highest nonce ever given to an intent; -1 if none was."""
        (last,) = self._db.execute(
            "SELECT max(nonce) FROM chain_outbox WHERE account = ?", [self._account]
        ).fetchone()
        return -1 if last is None else int(last)

    def mark(self, job: int, **columns: Any) -> None:
        """Set columns of one intent."""
        assignments = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(
            f"UPDATE chain_outbox SET {assignments} WHERE id = ?",  # noqa: S608 (own names)
            [*columns.values(), job],
        )

    def refuse_unsent(self, job: Job, reason: str) -> None:
        """Refuse an intent that has no nonce yet; one that was sent keeps its state."""
        self._db.execute(
            "UPDATE chain_outbox SET state = 'refused', reason = ? WHERE id = ? AND state = 'new'",
            [reason, job.id],
        )

    def is_wanted(self, job: Job) -> bool:
        """Whether the intent has not been withdrawn or ended meanwhile."""
        sql = "SELECT 1 FROM chain_outbox WHERE id = ? AND state IN ('new', 'sent')"
        return self._db.execute(sql, [job.id]).fetchone() is not None

    def store(self, signed: Iterable[Signed], now: float) -> None:
        """Store nonces and signed transactions, all or none; durable when this returns."""
        with self._db.atomic():
            for one in signed:
                self.mark(one.job.id, state="sent", nonce=one.nonce, gas=one.job.gas)
                self._db.execute(
                    "INSERT INTO chain_attempts VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        one.transaction,
                        one.job.id,
                        str(one.max_fee),
                        str(one.priority_fee),
                        one.raw,
                        now,
                    ],
                )


def look_again(db: Database) -> int:
    """Afterwards every transaction that was final is to be looked for again; how many.

    Inside the caller's transaction. The sender finds its receipt, or sends the same bytes again;
    the nonce keeps them from counting twice.
    """
    found = db.execute("UPDATE chain_outbox SET state = 'mined' WHERE state = 'final'")
    return int(found.rowcount)
