"""The budget ledger: how many numbers have been opened about each of this owner's rows.

Keyed by the owner's own row id (an HMAC of it, under a key that only this node has), across
datasets, versions, operations, sessions, scoring and evaluation. Numbers are reserved for a whole
session in one transaction when its row set is signed, BEFORE a share leaves, and are never given
back: not by a crash, an abort or a reorganisation.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass

from sqlite_utils import Database

from node.engine import Transaction
from node.errors import Fault
from node.rows import select
from protocol import privacy
from protocol.identifiers import ROW_KEY_BYTES
from protocol.ids import Account

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Spending:
    """What one session was allowed to open about this owner's rows."""

    session: bytes
    task: bytes
    dataset: str
    operator: str
    recipient: Account
    purpose: str
    numbers: int
    rows: int
    reserved_at: float


def split_keys(row_keys: bytes) -> list[bytes]:
    """The row keys that a worker reports one after another."""
    return [row_keys[at : at + ROW_KEY_BYTES] for at in range(0, len(row_keys), ROW_KEY_BYTES)]


def digest_of(row_keys: bytes) -> bytes:
    """What a lineage remembers of its rows: SHA-256 of their keys in rising order.

    The common order is drawn anew by every alignment, so it says nothing of which rows they are.
    """
    return hashlib.sha256(b"".join(sorted(split_keys(row_keys)))).digest()


def reserve(tx: Transaction, spending: Spending, row_keys: bytes, cap: int) -> None:
    """Afterwards `spending.numbers` more numbers are counted for each row.

    The same session again changes nothing. Fault `budget-exhausted`, and nothing reserved, if
    any row would pass `cap`, counted over all recipients. Rows of one key share its budget, and
    each of them spends of it.
    """
    known = tx.db.execute("SELECT 1 FROM spendings WHERE session = ?", [spending.session])
    if known.fetchone():
        return
    rows = Counter(split_keys(row_keys))
    keys = sorted(rows)  # in the table's order: three times as fast
    numbers = spending.numbers
    before = spent(tx.db, keys)
    before |= {key: before.get(key, 0) + (n - 1) * numbers for key, n in rows.items() if n > 1}
    over = privacy.overdrawn(keys, before, numbers, cap)
    if over is not None:
        raise Fault("budget-exhausted", over.sentence, rows=over.rows, cap=over.cap)
    tx.db.conn.executemany(
        "INSERT INTO ledger VALUES (?, ?, ?)",
        [(key, spending.session, rows[key] * numbers) for key in keys],
    )
    tx.db.execute(
        "INSERT INTO spendings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            spending.session,
            spending.task,
            spending.dataset,
            spending.operator,
            spending.recipient,
            spending.purpose,
            spending.numbers,
            len(keys),
            tx.now,
        ],
    )
    tx.note(
        "openings", spending.session, "reserved", numbers=spending.numbers, rows=len(keys), cap=cap
    )


def spent(db: Database, keys: list[bytes]) -> dict[bytes, int]:
    """How many numbers were reserved so far for each of `keys`; rows never opened are left out."""
    totals: dict[bytes, int] = {}
    for start in range(0, len(keys), _BATCH):
        part = keys[start : start + _BATCH]
        marks = ",".join("?" * len(part))
        rows = db.execute(
            f"SELECT row_key, sum(numbers) FROM ledger WHERE row_key IN ({marks}) "  # noqa: S608
            "GROUP BY row_key",
            part,
        )
        totals |= dict(rows.fetchall())
    return totals


def uses_of(db: Database, key: bytes) -> list[Spending]:
    """Every session in which this row was counted, the latest first (floor 14)."""
    return select(
        db,
        Spending,
        "spendings WHERE session IN (SELECT session FROM ledger WHERE row_key = ?) "
        "ORDER BY reserved_at DESC",
        [key],
    )


def spendings(db: Database, dataset: str) -> list[Spending]:
    """Every reservation on one dataset, the latest first."""
    return select(db, Spending, "spendings WHERE dataset = ? ORDER BY reserved_at DESC", [dataset])


def totals(db: Database, dataset: str) -> list[tuple[int, int]]:
    """(numbers, rows): how many of a dataset's rows have had how many numbers reserved."""
    found = db.execute(
        "SELECT numbers, count(*) FROM (SELECT sum(numbers) AS numbers FROM ledger "
        "WHERE row_key IN (SELECT row_key FROM ledger WHERE session IN "
        "(SELECT session FROM spendings WHERE dataset = ?)) GROUP BY row_key) "
        "GROUP BY numbers ORDER BY numbers",
        [dataset],
    )
    return [(int(numbers), int(rows)) for numbers, rows in found.fetchall()]
