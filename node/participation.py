"""What every node does in a session: check, draw, start its workers, and say how it ended.

The recipient's node proposes; every step here is this node's own decision, by its own terms, its
own view of the chain and its own code (`session_rules`). A no names its rule. An owner's session
begins with its pledge for the draw, a pool member's when it has been drawn: whoever does not sit
starts nothing. A repeated message is answered again and does nothing.
"""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from mpc.supervisor import WorkerGoneError
from node import alignment_rules, session_records, session_rules, task_records
from node.errors import Fault
from node.house import House
from node.live_session import LiveSession, Summary
from node.log import get_logger
from node.session_asking import Asking
from node.session_draw import Drawing
from node.session_signing import Signing, agreed, require_living
from node.session_workers import SessionWorkers
from node.tunnels import Tunnels
from node.workers.messages import Aligned, Failed, Finished, Mask, Progress, Sized
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId, SessionId
from protocol.manifest import Role
from protocol.messages import (
    SessionDraw,
    SessionJoined,
    SessionNonce,
    SessionPledged,
    SessionPledges,
    SessionProposal,
)
from protocol.task import SessionEvent

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = get_logger("sessions")

WORKER_START_S = 15.0
OWN_WORD_S = 0.4
MAX_LIVE_SESSIONS = 4
MAX_LIVE_OF_A_LEADER = 2

Tell = Callable[[LiveSession, str, tuple[str, ...]], Awaitable[None]]


class Participation:
    """This node's part in every session that it takes part in.

    `asking` asks other nodes, `tell` lets the other parties know that a session is over,
    `connected` says whether a peer is connected now, `tunnels` are this node's.
    """

    def __init__(
        self,
        house: House,
        nursery: trio.Nursery,
        asking: Asking,
        tell: Tell,
        connected: Callable[[str], bool],
        tunnels: Tunnels,
    ) -> None:
        self._house = house
        self._nursery = nursery
        self._tell = tell
        self._workers = SessionWorkers(house, self.abort, connected, tunnels)
        self.drawing = Drawing(house, asking, self._has_room)
        self.signing = Signing(house, self._workers)
        self.live: dict[SessionId, LiveSession] = {}

    # ------------------------------------------------------------------ joining

    async def begin(self, proposal: SessionProposal, coordinator: PeerId) -> LiveSession:
        """Afterwards the session is known here, and watched; nobody is drawn and no worker runs.

        Fault or RemoteProtocolError says by which rule this node stays out.
        """
        live = session_rules.examine(self._house, proposal, coordinator)
        session_records.require_new(self._house.engine.db, live.session)
        await self._give_way(live)
        self._check_room(coordinator)
        with self._house.engine.transaction() as tx:
            session_records.begin(tx, live.session, live.task, live.roles)
            session_rules.count_uses(self._house, tx, live)
        self.live[live.session] = live
        self._nursery.start_soon(self._watch, live)
        return live

    async def pledge(self, proposal: SessionProposal, coordinator: PeerId) -> SessionPledged:
        """This owner's yes to a proposal: its pledge for the draw; the same one, if asked again."""
        live = self.live.get(SessionId(proposal.session))
        if live is None or (live.coordinator, live.proposal) != (coordinator, proposal):
            live = await self.begin(proposal, coordinator)
        return await self.pledged(live)

    async def pledged(self, live: LiveSession) -> SessionPledged:
        """This owner's pledge for the draw of a session that has begun here."""
        if "contributor" not in live.roles:
            raise RemoteProtocolError("this node brings no data, so it has nothing to pledge")
        async with live.pledging:
            pledge = live.pledge or await self.drawing.pledge(live)
        require_living(self._house, live)
        return SessionPledged(pledge=pledge, checked=agreed(self._house, live, "proposal"))

    def reveal(self, live: LiveSession, message: SessionPledges) -> SessionNonce:
        """This owner's nonce, once all pledges are fixed; the same ones get the same answer."""
        require_living(self._house, live)
        return self.drawing.reveal(live, message)

    async def join(self, message: SessionDraw, coordinator: PeerId) -> SessionJoined:
        """Afterwards this node's workers run, those of its drawn seat among them.

        The draw is checked before anything starts. The same draw again gets the same answer;
        Fault or RemoteProtocolError otherwise.
        """
        live = self.live.get(SessionId(message.proposal.session))
        news = live is None
        if live is None:  # a node of the pool hears of the session when it has been drawn
            live = await self.begin(message.proposal, coordinator)
        if (live.coordinator, live.proposal) != (coordinator, message.proposal):
            raise RemoteProtocolError("this session was proposed otherwise, or by another node")
        require_living(self._house, live)
        if live.draw is None:
            try:
                await self._seat(live, message)
            except (Fault, RemoteProtocolError) as error:
                if news:
                    await self.abort(live, str(error), (), spread=False)
                raise
        elif live.draw != message.draw:
            raise RemoteProtocolError("this node has taken its part in another draw")
        await self._house.engine.until(lambda: live.is_ready or live.over.is_set(), WORKER_START_S)
        require_living(self._house, live)
        own = self._house.directory.own
        return SessionJoined(
            organisation=own.name,
            account=own.account,
            seats=live.seats,
            checked=agreed(self._house, live, "draw"),
        )

    async def _seat(self, live: LiveSession, message: SessionDraw) -> None:
        seating = session_rules.check_draw(self._house, live, message.draw)
        roles = live.plan.roles_of(self._house.directory.own.account, seating)
        record = task_records.known(self._house.engine.db, live.task)
        session_rules.check_grants(self._house, live.plan, record.algorithm, roles)
        live.draw, live.seating, live.roles = message.draw, seating, roles
        with self._house.engine.transaction() as tx:
            session_records.seat(tx, live.session, live.roles)
            session_rules.count_uses(self._house, tx, live)
        try:
            with trio.fail_after(WORKER_START_S):
                await self._nursery.start(self._host, live)
        except (trio.TooSlowError, Fault, OSError, WorkerGoneError, RemoteProtocolError) as error:
            sentence = f"the worker processes did not start: {error or 'it took too long'}"
            raise Fault("worker-failed", sentence) from error

    async def _give_way(self, live: LiveSession) -> None:
        """A task has one session at a time: a new one of the same leader replaces the last.

        Its leader may have been restarted and remember nothing of the other.
        """
        for other in list(self.live.values()):
            if other.task == live.task:
                await self.abort(other, "another session of the task has been proposed", ())

    def _has_room(self, proposal: SessionProposal) -> bool:
        """True if one more session could live here beside those of other tasks."""
        task = proposal.attestation.task
        return len({live.task for live in self._living()} - {task}) < MAX_LIVE_SESSIONS

    def _living(self) -> list[LiveSession]:
        return [each for each in self.live.values() if not each.over.is_set()]

    def _check_room(self, coordinator: PeerId) -> None:
        live = self._living()
        of_leader = [each for each in live if each.coordinator == coordinator]
        if len(live) >= MAX_LIVE_SESSIONS or len(of_leader) >= MAX_LIVE_OF_A_LEADER:
            raise Fault(
                "session-refused",
                f"{len(live)} sessions are running here, {len(of_leader)} of them led by the "
                f"same node; at most {MAX_LIVE_SESSIONS} and {MAX_LIVE_OF_A_LEADER} may",
            )

    # ------------------------------------------------------------------ workers

    async def _watch(self, live: LiveSession) -> None:
        try:
            await self._workers.watch(live)
        finally:
            if not live.workers:
                self.live.pop(live.session, None)

    async def _host(
        self, live: LiveSession, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await self._workers.host(live, self._heard, task_status)
        finally:
            self.live.pop(live.session, None)

    async def _heard(self, live: LiveSession, role: Role, report: Wire) -> None:
        if isinstance(report, Progress):
            live.note_progress(role, report)
        elif isinstance(report, Sized):
            await self._sized(live, role, report)
        elif isinstance(report, Aligned):
            self._aligned(live, role, report)
        elif isinstance(report, Finished):
            live.finished[role] = report.summary
            if len(live.finished) == len(live.workers):
                self._complete(live)
        elif isinstance(report, Failed):
            with trio.move_on_after(OWN_WORD_S):  # a node that stopped says so: better than "gone"
                await live.over.wait()
            await self.abort(live, f"{report.stage}: {report.reason}", report.blamed)
        self._house.engine.announce_change()

    async def _sized(self, live: LiveSession, role: Role, report: Sized) -> None:
        """The worker may mask once what it lets others test is counted, durably."""
        try:
            with self._house.engine.transaction() as tx:
                alignment_rules.allow_masking(self._house, tx, live, role, report)
        except (Fault, RemoteProtocolError) as error:
            await self.abort(live, f"{self._house.directory.own.name} refuses: {error}", ())
        else:
            await self._workers.say(live, role, Mask())

    def _aligned(self, live: LiveSession, role: Role, report: Aligned) -> None:
        live.alignments[role] = report
        if live.is_aligned:
            with self._house.engine.transaction() as tx:
                session_records.move(tx, live.session, SessionEvent.ALIGN)

    def _complete(self, live: LiveSession) -> None:
        summary = {role: _plain(summary) for role, summary in live.finished.items()}
        with self._house.engine.transaction() as tx:
            session_records.move(
                tx, live.session, SessionEvent.COMPLETE, summary=json.dumps(summary)
            )
            tx.note("session", live.session, "completed")
        live.over.set()

    async def abort(
        self, live: LiveSession, reason: str, blamed: tuple[str, ...], *, spread: bool = True
    ) -> None:
        """Afterwards the session is over here; with `spread` every other party is told."""
        with self._house.engine.transaction() as tx:
            news = session_records.abort(tx, live.session, reason, blamed)
        live.over.set()
        if news:
            log.warning("session aborted", session=live.session.hex(), why=reason, blamed=blamed)
            if spread:
                await self._tell(live, reason, blamed)


def _plain(summary: Summary) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(summary)
    return plain
