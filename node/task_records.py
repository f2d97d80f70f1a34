"""Tasks as the chain's confirmed events tell them; our own submissions move nothing here."""

import json
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlite_utils import Database

from chain import events
from chain.values import Due, TaskTerms
from node.engine import Transaction
from node.errors import Fault
from node.rows import first, select
from protocol.ids import Account, CdtId, TaskId, hexadecimal
from protocol.task import TASK, TaskEvent, TaskState


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task; `opened_in` and `attested_in` are block hashes, the texts JSON."""

    task: TaskId
    algorithm: CdtId
    terms: str
    state: TaskState
    attester: bytes | None
    plan: bytes | None
    dues: str
    amounts: str
    result: bytes | None
    usage_root: bytes | None
    opened_in: bytes
    attested_in: bytes | None

    @property
    def task_terms(self) -> TaskTerms:
        """What the task's id commits to."""
        return msgspec.convert(json.loads(self.terms), TaskTerms)

    @property
    def attested_dues(self) -> tuple[Due, ...]:
        """What is owed for each edge, in the order that receipts and usage refer to."""
        return msgspec.convert(json.loads(self.dues), tuple[Due, ...])

    @property
    def paid_amounts(self) -> tuple[int, ...]:
        """What is claimed, reported or paid for each due so far; empty before."""
        return tuple(int(amount) for amount in json.loads(self.amounts))


def find(db: Database, task: bytes) -> TaskRecord | None:
    """The task, or None if no confirmed event has spoken of it."""
    return first(db, TaskRecord, "tasks WHERE task = ?", [task])


def known(db: Database, task: bytes) -> TaskRecord:
    """The task; Fault `task-unknown`."""
    record = find(db, task)
    if record is None:
        raise Fault("task-unknown", f"no confirmed task {hexadecimal(task)} is known here")
    return record


def every(db: Database) -> list[TaskRecord]:
    """All tasks that the chain has confirmed."""
    return select(db, TaskRecord, "tasks ORDER BY rowid DESC")


def opened(tx: Transaction, event: events.Opened) -> None:
    """A task was opened."""
    tx.db.execute(
        "INSERT OR IGNORE INTO tasks (task, algorithm, terms, state, opened_in) "
        "VALUES (?, ?, ?, ?, ?)",
        [event.task, event.cdt, _to_json(event.terms), str(TASK.initial), event.at.block_hash],
    )


def attested(tx: Transaction, event: events.Attested) -> None:
    """A task was attested: who vouches, for which plan, and what is due."""
    _move(
        tx,
        event.task,
        TaskEvent.ATTEST,
        attester=event.attester,
        plan=event.plan,
        dues=_to_json(event.dues),
        attested_in=event.at.block_hash,
    )


def claimed(tx: Transaction, event: events.Claimed) -> None:
    """An owner claims by the recipient's receipt."""
    _move(tx, event.task, TaskEvent.CLAIM, amounts=_amounts(event.amounts))


def disputed(tx: Transaction, event: events.Disputed) -> None:
    """A party called for the decider."""
    _move(tx, event.task, TaskEvent.DISPUTE)


def reported(tx: Transaction, event: events.Reported) -> None:
    """All sides signed what was used."""
    _move(
        tx,
        event.task,
        TaskEvent.REPORT,
        result=event.result_hash,
        usage_root=event.usage_root,
        amounts=_amounts(event.amounts),
    )


def settled(tx: Transaction, event: events.Settled) -> None:
    """The escrow has become credits."""
    _move(tx, event.task, TaskEvent.SETTLE, amounts=_amounts(event.amounts))


def refunded(tx: Transaction, event: events.Refunded) -> None:
    """The escrow went back."""
    _move(tx, event.task, TaskEvent.REFUND)


def cancelled(tx: Transaction, event: events.Cancelled) -> None:
    """The opener took the task back."""
    _move(tx, event.task, TaskEvent.CANCEL)


def _move(tx: Transaction, task: bytes, event: TaskEvent, **columns: Any) -> None:
    record = find(tx.db, task)
    if record is None:
        return
    changes = {"state": str(TASK.step(record.state, event)), **columns}
    assignments = ", ".join(f"{name} = ?" for name in changes)
    tx.db.execute(
        f"UPDATE tasks SET {assignments} WHERE task = ?",  # noqa: S608
        [*changes.values(), task],
    )


def _amounts(amounts: tuple[int, ...]) -> str:
    return json.dumps([str(amount) for amount in amounts])


def _to_json(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value))


def owed_to(record: TaskRecord, account: Account) -> int:
    """What the task's last amounts give to one account."""
    pairs = zip(record.attested_dues, record.paid_amounts, strict=False)
    return sum(amount for due, amount in pairs if due.owner == account)
