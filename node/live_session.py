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
from protocol.draw import NONCE_BYTES, Draw, Seating, SignedPledge
from protocol.ids import SessionId, TaskId
from protocol.manifest import Role, Roster, RowSet
from protocol.messages import Seat, SessionProposal
from protocol.roster_check import Plan

Summary = ContributorSummary | MemberSummary | RecipientSummary
WITH_ROWS: tuple[Role, ...] = ("contributor", "recipient")


@dataclass(slots=True)
class LiveSession:
    """One session at this node, from its proposal to its end.

    `roles` are those without the draw until there is one. `nonce` is this owner's secret until
    `pledges` holds everybody's. `seed` settles the recipient's split of rows; only the
    recipient's worker is told of it. `entrance` is where its workers ask for tunnels.
    """

    proposal: SessionProposal
    algorithm: bytes
    plan: Plan
    roles: tuple[Role, ...]
    coordinator: str
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(NONCE_BYTES), repr=False)
    pledge: SignedPledge | None = None
    pledging: trio.Lock = field(default_factory=trio.Lock)
    pledges: tuple[SignedPledge, ...] = ()
    draw: Draw | None = None
    seating: Seating | None = None
    checked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seed: int = field(default_factory=lambda: secrets.randbits(53))
    workers: dict[Role, Worker] = field(default_factory=dict)
    seats: tuple[Seat, ...] = ()
    entrance: str = ""
    roster: Roster | None = None
    row_set: RowSet | None = None
    alignments: dict[Role, Aligned] = field(default_factory=dict)
    progress: dict[Role, Progress] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    finished: dict[Role, Summary] = field(default_factory=dict)
    over: trio.Event = field(default_factory=trio.Event)

    @property
    def session(self) -> SessionId:
        """The session's id."""
        return SessionId(self.proposal.session)

    @property
    def task(self) -> TaskId:
        """The attested task."""
        return TaskId(self.proposal.attestation.task)

    @property
    def is_ready(self) -> bool:
        """True once the committee is drawn and all workers of this node have told their seats."""
        return self.draw is not None and len(self.seats) == len(self.roles)

    @property
    def with_rows(self) -> tuple[Role, ...]:
        """The roles here that bring rows to the alignment."""
        return tuple(role for role in self.roles if role in WITH_ROWS)

    @property
    def is_aligned(self) -> bool:
        """True once every worker here that brings rows knows the common ones."""
        return all(role in self.alignments for role in self.with_rows)

    @property
    def aligned(self) -> Aligned | None:
        """The common rows as this node's workers report them, or None before or without."""
        if not self.is_aligned:
            return None
        return next((self.alignments[role] for role in self.with_rows), None)

    def note_progress(self, role: Role, progress: Progress) -> None:
        """Remember how far a worker is, and every loss in its order."""
        self.progress[role] = progress
        if progress.loss is not None:
            self.losses.append(progress.loss)
