"""The budget of tested ids: how many each counterparty has tried against this owner's rows.

Adversary: a counterparty that puts guessed ids into its list and sees which come back as common
(floor 12). A list of n ids in an alignment with this node's rows tests n of them, honest ones
included. They are counted for the operator of whoever brings the list, unknown ones together, over
all datasets of this node, in the transaction after which the worker may mask; never given back, by
a crash, an abort or a refusal of somebody else. After the window they count no more.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlite_utils import Database

from node.engine import Transaction
from node.errors import Fault
from protocol import privacy

UNKNOWN = "unknown"
"""Stands for all whose operator this node's configuration does not name."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A list that one operator brings to an alignment: so many ids."""

    operator: str
    ids: int


@dataclass(frozen=True, slots=True)
class Tested:
    """What one operator has tested within the window, and since when its oldest test counts."""

    operator: str
    ids: int
    sessions: int
    since: float


def count(tx: Transaction, session: bytes, role: str, brought: Iterable[Brought], cap: int) -> None:
    """Afterwards the ids of each list are counted for the operator of who brings it.

    Fault `budget-exhausted`, and nothing counted, if one would pass `cap` within the window.
    `role` tells two workers of this node in one session apart: each has rows of its own.
    """
    more: Counter[str] = Counter()
    for each in brought:
        more[each.operator] += each.ids
    before = {each.operator: each for each in within(tx.db, tx.now)}
    for operator, ids in sorted(more.items()):
        tested = before[operator].ids if operator in before else 0
        over = privacy.over_tested(operator, tested, ids, cap)
        if over:
            raise Fault(
                "budget-exhausted", over, operator=operator, tested=tested, more=ids, cap=cap
            )
    tx.db.conn.executemany(
        "INSERT INTO tested_ids VALUES (?, ?, ?, ?, ?)",
        [(session, role, operator, ids, tx.now) for operator, ids in more.items()],
    )
    tx.note("tested", session, "counted", role=role, cap=cap, **more)


def within(db: Database, now: float) -> list[Tested]:
    """What each operator has tested in the window that ends at `now` (Unix time)."""
    rows = db.execute(
        "SELECT operator, sum(ids), count(DISTINCT session), min(at) FROM tested_ids "
        "WHERE at > ? GROUP BY operator ORDER BY operator",
        [now - privacy.TESTED_WINDOW_S],
    )
    return [Tested(*row) for row in rows.fetchall()]
