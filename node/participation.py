"""What every node does in a session: check, start its workers, sign, run, and say how it ended.

The recipient's node proposes; every step here is this node's own decision, by its own terms, its
own view of the chain and its own code (`session_rules`). A no names its rule. Nothing is signed
before its check has passed, one roster and one row set for each session and no second; the budget
is spent in the same transaction as the row set is signed. A repeated message is answered again
and does nothing.
"""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from mpc.supervisor import WorkerGoneError
from node import session_records, session_rules
from node.errors import Fault
from node.house import House
from node.live_session import LiveSession, Summary
from node.log import get_logger
from node.session_workers import SessionWorkers
from node.workers.messages import Aligned, Failed, Finished, Proceed, Progress, Run
from protocol import codec, envelope
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId, SessionId
from protocol.manifest import Role, Roster, RowSet
from protocol.messages import (
    ManifestOffer,
    ManifestSignature,
    ManifestSigned,
    SessionJoined,
    SessionProposal,
)
from protocol.peers import peer_key
from protocol.task import SESSION, SessionEvent, SessionState

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

    `tell` lets the other parties know that a session is over; `connected` says whether a peer is
    connected now.
    """

    def __init__(
        self, house: House, nursery: trio.Nursery, tell: Tell, connected: Callable[[str], bool]
    ) -> None:
        self._house = house
        self._nursery = nursery
        self._tell = tell
        self._workers = SessionWorkers(house, self.abort, connected)
        self.live: dict[SessionId, LiveSession] = {}

    # ------------------------------------------------------------------ joining

    async def join(self, proposal: SessionProposal, coordinator: PeerId) -> LiveSession:
        """Afterwards this node's workers run; its seats name them.

        Fault or RemoteProtocolError says by which rule this node stays out.
        """
        live = session_rules.examine(self._house, proposal, coordinator)
        await self._give_way(live)
        self._check_room(coordinator)
        with self._house.engine.transaction() as tx:
            session_records.begin(tx, live.session, live.task, live.roles)
            session_rules.count_uses(self._house, tx, live)
        self.live[live.session] = live
        try:
            with trio.fail_after(WORKER_START_S):
                await self._nursery.start(self._host, live)
        except (trio.TooSlowError, Fault, OSError, WorkerGoneError, RemoteProtocolError) as error:
            sentence = f"the worker processes did not start: {error or 'it took too long'}"
            raise Fault("worker-failed", sentence) from error
        if live.over.is_set():
            raise Fault(
                "session-aborted",
                session_records.known(self._house.engine.db, live.session).reason,
            )
        return live

    def joined(self, live: LiveSession) -> SessionJoined:
        """The yes to a proposal: who this node is and which workers it has started."""
        own = self._house.directory.own
        return SessionJoined(organisation=own.name, account=own.account, seats=live.seats)

    async def _give_way(self, live: LiveSession) -> None:
        """A task has one session at a time: a new one of the same leader replaces the last.

        Its leader may have been restarted and remember nothing of the other.
        """
        for other in list(self.live.values()):
            if other.task == live.task:
                await self.abort(other, "another session of the task has been proposed", ())

    def _check_room(self, coordinator: PeerId) -> None:
        live = [each for each in self.live.values() if not each.over.is_set()]
        of_leader = [each for each in live if each.coordinator == coordinator]
        if len(live) >= MAX_LIVE_SESSIONS or len(of_leader) >= MAX_LIVE_OF_A_LEADER:
            raise Fault(
                "session-refused",
                f"{len(live)} sessions are running here, {len(of_leader)} of them led by the "
                f"same node; at most {MAX_LIVE_SESSIONS} and {MAX_LIVE_OF_A_LEADER} may",
            )

    # ------------------------------------------------------------------ signing

    def sign(self, live: LiveSession, offer: ManifestOffer) -> ManifestSignature:
        """This node's signature over a part of the manifest, roster or row set."""
        part = codec.decode(offer.part, Roster, RowSet)
        self._check_lives(live)
        if isinstance(part, Roster):
            return self.sign_roster(live, part)
        return self.sign_rows(live, part)

    def sign_roster(self, live: LiveSession, roster: Roster) -> ManifestSignature:
        """This node's signature over the roster, once all that needs no rows has been checked.

        RemoteProtocolError for a second roster: two owners could be shown different ones.
        """
        if live.roster is None:
            session_rules.check_roster(self._house, live, roster)
            live.roster = roster
        elif live.roster != roster:
            raise RemoteProtocolError("this node has signed another roster of this session")
        return self._signature(live, roster)

    def sign_rows(self, live: LiveSession, row_set: RowSet) -> ManifestSignature:
        """This node's signature over the row set; an owner's budget is spent with it.

        RemoteProtocolError for a second row set.
        """
        if live.row_set is None:
            session_rules.check_rows(self._house, live, row_set)
            self._spend(live, row_set)
            live.row_set = row_set
        elif live.row_set != row_set:
            raise RemoteProtocolError("this node has signed another row set of this session")
        return self._signature(live, row_set)

    def _spend(self, live: LiveSession, row_set: RowSet) -> None:
        if live.roster is None:
            raise RemoteProtocolError("there is no roster that the row set could belong to")
        signed = codec.encode(row_set)
        with self._house.engine.transaction() as tx:
            if not live.with_rows:
                session_records.move(tx, live.session, SessionEvent.ALIGN)
            session_records.move(tx, live.session, SessionEvent.SIGN_ROWS, row_set=signed)
            session_rules.spend(self._house, tx, live, live.roster)

    def _signature(self, live: LiveSession, part: Wire) -> ManifestSignature:
        signed = envelope.seal(part, self._house.key.signing_key)
        return ManifestSignature(session=live.session, signature=signed.signature)

    def _check_lives(self, live: LiveSession) -> None:
        """Fault `session-aborted` if the session is over here while its workers still leave."""
        record = session_records.known(self._house.engine.db, live.session)
        if SESSION.is_final(record.state):
            raise Fault("session-aborted", record.reason or "the session is over")

    # ------------------------------------------------------------------ proceeding

    async def act(self, live: LiveSession, signed: ManifestSigned) -> None:
        """A part of the manifest with everybody's signature: this node does what it allows."""
        self._check_lives(live)
        if live.row_set is not None and signed.part == codec.encode(live.row_set):
            await self.run(live, signed)
        else:
            await self.proceed(live, signed)

    async def proceed(self, live: LiveSession, signed: ManifestSigned) -> None:
        """The roster, with everybody's signature: the workers learn of each other and align."""
        roster = live.roster
        if roster is None or signed.part != codec.encode(roster):
            raise RemoteProtocolError("this is not the part of the manifest that this node signed")
        check_signatures(roster, roster, signed)
        if self._state(live) is not SessionState.PROPOSED:
            return
        jobs = {role: self._house.jobs.job(live, role) for role in live.workers}
        with self._house.engine.transaction() as tx:
            session_records.move(tx, live.session, SessionEvent.SIGN_ROSTER, roster=signed.part)
        for role, job in jobs.items():
            me = f"{self._house.directory.own.name}/{role}"
            await self._workers.say(live, role, Proceed(roster=signed.part, me=me, job=job))

    async def run(self, live: LiveSession, signed: ManifestSigned) -> None:
        """The row set, with everybody's signature: shares may flow."""
        if live.roster is None or live.row_set is None:
            raise RemoteProtocolError("this node has signed no row set")
        if signed.part != codec.encode(live.row_set):
            raise RemoteProtocolError("this is not the row set that this node signed")
        check_signatures(live.roster, live.row_set, signed)
        if self._state(live) is not SessionState.ROWS_SIGNED:
            return
        with self._house.engine.transaction() as tx:
            session_records.move(tx, live.session, SessionEvent.RUN)
        for role in list(live.workers):
            await self._workers.say(live, role, Run(row_set=signed.part))

    def _state(self, live: LiveSession) -> SessionState:
        return session_records.known(self._house.engine.db, live.session).state

    # ------------------------------------------------------------------ workers

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


def check_signatures(roster: Roster, part: Wire, signed: ManifestSigned) -> None:
    """RemoteProtocolError unless every node of the roster has signed `part`."""
    wanted = sorted({party.peer_id for party in roster.parties})
    if [peer_id for peer_id, _ in signed.signatures] != wanted:
        raise RemoteProtocolError("not every node of the roster has signed")
    body = codec.encode(part)
    for peer_id, signature in signed.signatures:
        key = peer_key(peer_id)
        envelope.open_signed(
            envelope.Signed(body=body, key=key, signature=signature), type(part), key=key
        )


def _plain(summary: Summary) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(summary)
    return plain
