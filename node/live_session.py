"""A session while it lives: its worker processes, what they have reported, and its end.

The database holds what must survive; this object holds what dies with the worker processes.
"""

import secrets
from dataclasses import dataclass, field

import trio

from mpc.supervisor import Worker
from node.workers.messages import (
    Aligned,
    ContributorSummary,
    MemberSummary,
    Progress,
    RecipientSummary,
)
from protocol.ids import SessionId, TaskId
from protocol.manifest import Role, Roster, RowSet
from protocol.messages import AttestationAnswer, Seat
from protocol.roster_check import Plan

Summary = ContributorSummary | MemberSummary | RecipientSummary


@dataclass(slots=True)
class LiveSession:
    """One session at this node, from its workers' start to its end.

    `seed` settles the recipient's split of rows; only the recipient's worker is told of it.
    """

    session: SessionId
    task: TaskId
    attempt: int
    plan: Plan
    roles: tuple[Role, ...]
    attestation: AttestationAnswer
    coordinator: str
    seed: int = field(default_factory=lambda: secrets.randbits(53))
    workers: dict[Role, Worker] = field(default_factory=dict)
    seats: tuple[Seat, ...] = ()
    roster: Roster | None = None
    row_set: RowSet | None = None
    aligned: Aligned | None = None
    progress: dict[Role, Progress] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    finished: dict[Role, Summary] = field(default_factory=dict)
    over: trio.Event = field(default_factory=trio.Event)

    @property
    def needs_rows(self) -> bool:
        """True if a worker of this node takes part in the alignment."""
        return "contributor" in self.roles or "recipient" in self.roles

    def note_progress(self, role: Role, progress: Progress) -> None:
        """Remember how far a worker is, and every loss in its order."""
        self.progress[role] = progress
        if progress.loss is not None:
            self.losses.append(progress.loss)
