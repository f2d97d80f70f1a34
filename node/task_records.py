"""Tasks as the chain's confirmed events tell them; our own submissions move nothing here.

There is one truth: what the followed events add up to (`chain.projection`), which a reorganisation
makes anew. This room only reads it.
"""

from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from chain.values import Due, TaskTerms
from node.errors import Fault
from protocol.ids import Account, CdtId, Digest, TaskId, hexadecimal
from protocol.task import TaskState


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task. `task_terms` is what its id commits to.

    `attested_dues` is what is owed for each edge, in the order that receipts and usage refer to;
    `paid_amounts` what is claimed, reported or paid for each so far, empty before. `attested_in`
    is the hash of the block that holds the attestation.
    """

    task: TaskId
    algorithm: CdtId
    task_terms: TaskTerms
    state: TaskState
    attester: Account | None
    plan: Digest | None
    attested_dues: tuple[Due, ...]
    paid_amounts: tuple[int, ...]
    attested_in: bytes | None


_COLUMNS = (
    "SELECT task, state, attester, plan,"
    " (SELECT block_hash FROM chain_logs WHERE block = attested_block LIMIT 1),"
    " cdt, consumer, opener, recipient, decider, token, budget, deadline, salt FROM chain_tasks"
)


def find(db: Database, task: bytes) -> TaskRecord | None:
    """The task, or None if no confirmed event has spoken of it."""
    row = db.execute(f"{_COLUMNS} WHERE task = ?", [task]).fetchone()
    return _record(db, row) if row else None


def known(db: Database, task: bytes) -> TaskRecord:
    """The task; Fault `task-unknown`."""
    record = find(db, task)
    if record is None:
        raise Fault("task-unknown", f"no confirmed task {hexadecimal(task)} is known here")
    return record


def every(db: Database) -> list[TaskRecord]:
    """All tasks that the chain has confirmed, the latest first."""
    rows = db.execute(f"{_COLUMNS} ORDER BY opened_block DESC, task")
    return [_record(db, row) for row in rows.fetchall()]


def owed_to(record: TaskRecord, account: Account) -> int:
    """What the task's last amounts give to one account."""
    pairs = zip(record.attested_dues, record.paid_amounts, strict=False)
    return sum(amount for due, amount in pairs if due.owner == account)


def _record(db: Database, row: Any) -> TaskRecord:
    task, state, attester, plan, attested_in, *terms = row
    cdt, consumer, opener, recipient, decider, token, budget, deadline, salt = terms
    parties = (consumer, opener, recipient, decider, token)
    dues = db.execute(
        "SELECT child, parent, owner, price, unit, amount FROM chain_dues WHERE task = ?"
        " ORDER BY position",
        [task],
    ).fetchall()
    return TaskRecord(
        task=task,
        algorithm=cdt,
        task_terms=TaskTerms(cdt, *parties, int(budget), deadline, salt),
        state=TaskState(state),
        attester=attester,
        plan=plan,
        attested_dues=tuple(
            Due(child, parent, owner, int(price), unit)
            for child, parent, owner, price, unit, _ in dues
        ),
        paid_amounts=tuple(int(amount) for *_, amount in dues if amount is not None),
        attested_in=attested_in,
    )
