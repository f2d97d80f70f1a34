"""The life of a task and of a session, one table each.

A task's states are born on the chain: only confirmed events move it, never our own submission.
A session's states are born in its nodes: one run of an attested task.
"""

from enum import StrEnum

from protocol.machine import Machine


class TaskState(StrEnum):
    """Where the market's contract says that a task stands."""

    OPEN = "OPEN"
    ATTESTED = "ATTESTED"
    CLAIMED = "CLAIMED"
    REPORTED = "REPORTED"
    DISPUTED = "DISPUTED"
    SETTLED = "SETTLED"
    REFUNDED = "REFUNDED"
    CANCELLED = "CANCELLED"


class TaskEvent(StrEnum):
    """A confirmed event of the market."""

    ATTEST = "attest"
    CLAIM = "claim"
    REPORT = "report"
    DISPUTE = "dispute"
    SETTLE = "settle"
    REFUND = "refund"
    CANCEL = "cancel"


TASK = Machine(
    name="task",
    initial=TaskState.OPEN,
    table={
        (TaskState.OPEN, TaskEvent.ATTEST): TaskState.ATTESTED,
        (TaskState.OPEN, TaskEvent.CANCEL): TaskState.CANCELLED,
        (TaskState.OPEN, TaskEvent.REFUND): TaskState.REFUNDED,
        (TaskState.ATTESTED, TaskEvent.CLAIM): TaskState.CLAIMED,
        (TaskState.ATTESTED, TaskEvent.REPORT): TaskState.REPORTED,
        (TaskState.ATTESTED, TaskEvent.DISPUTE): TaskState.DISPUTED,
        (TaskState.ATTESTED, TaskEvent.REFUND): TaskState.REFUNDED,
        (TaskState.CLAIMED, TaskEvent.CLAIM): TaskState.CLAIMED,
        (TaskState.CLAIMED, TaskEvent.REPORT): TaskState.REPORTED,
        (TaskState.CLAIMED, TaskEvent.DISPUTE): TaskState.DISPUTED,
        (TaskState.CLAIMED, TaskEvent.SETTLE): TaskState.SETTLED,
        (TaskState.DISPUTED, TaskEvent.CLAIM): TaskState.DISPUTED,
        (TaskState.DISPUTED, TaskEvent.REPORT): TaskState.REPORTED,
        (TaskState.DISPUTED, TaskEvent.SETTLE): TaskState.SETTLED,
        (TaskState.DISPUTED, TaskEvent.REFUND): TaskState.REFUNDED,
        (TaskState.REPORTED, TaskEvent.SETTLE): TaskState.SETTLED,
    },
)


class SessionState(StrEnum):
    """Where one run of an attested task stands."""

    PROPOSED = "PROPOSED"
    ROSTER_SIGNED = "ROSTER_SIGNED"
    ALIGNED = "ALIGNED"
    ROWS_SIGNED = "ROWS_SIGNED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ABORTED = "ABORTED"


class SessionEvent(StrEnum):
    """What moves a session."""

    SIGN_ROSTER = "sign roster"
    ALIGN = "align"
    SIGN_ROWS = "sign rows"
    RUN = "run"
    COMPLETE = "complete"
    ABORT = "abort"


_FORWARD = {
    (SessionState.PROPOSED, SessionEvent.SIGN_ROSTER): SessionState.ROSTER_SIGNED,
    (SessionState.ROSTER_SIGNED, SessionEvent.ALIGN): SessionState.ALIGNED,
    (SessionState.ALIGNED, SessionEvent.SIGN_ROWS): SessionState.ROWS_SIGNED,
    (SessionState.ROWS_SIGNED, SessionEvent.RUN): SessionState.RUNNING,
    (SessionState.RUNNING, SessionEvent.COMPLETE): SessionState.COMPLETED,
}

SESSION = Machine(
    name="session",
    initial=SessionState.PROPOSED,
    table={
        **_FORWARD,
        **{(state, SessionEvent.ABORT): SessionState.ABORTED for state, _ in _FORWARD},
    },
)
