"""Sessions over the network: one protocol, served for every node, driven by the recipient's.

A request of another node is answered by yes or by a no that names its rule; what breaks the
protocol resets the stream and counts against the peer. An abort reaches everybody who is named
in the roster, and whoever proposed.
"""

import trio

from node import session_records
from node.coordination import Coordination
from node.errors import Fault
from node.host import Host
from node.house import House
from node.live_edges import edges_of
from node.live_session import LiveSession
from node.log import get_logger
from node.participation import Participation
from node.session_asking import Asking, part_of
from node.settlement import Settlement
from node.standing import AuthorRate
from node.tunnels import Tunnels
from protocol import codec
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId, SessionId, hexadecimal
from protocol.manifest import Roster
from protocol.messages import (
    SESSION_PROTOCOL,
    Acknowledged,
    ManifestOffer,
    ManifestSigned,
    SessionAbort,
    SessionDeclined,
    SessionDraw,
    SessionInquiry,
    SessionPledges,
    SessionProposal,
    SessionStatus,
    SessionStatusRequest,
    UsageRecord,
)
from protocol.task import SessionState

log = get_logger("sessions")

REQUEST_LIMIT = 196_608
TELL_TIMEOUT_S = 5.0
STATUS_WAIT_S = 20.0
NOES_PER_SECOND, NOES_AT_ONCE = 1 / 60, 200.0
"""How many refusals to one peer are kept: each is kept for ever, and asking costs it nothing."""


class Sessions:
    """This node's sessions: its part in each, and the proposing of its own."""

    def __init__(self, house: House, host: Host, nursery: trio.Nursery) -> None:
        self._house = house
        self._host = host
        self._nursery = nursery
        asking = Asking(house, host)
        tunnels = Tunnels(host, house.directory, house.config.listen, nursery)
        self.participation = Participation(
            house, nursery, asking, self._tell, self._connected, tunnels
        )
        self.coordination = Coordination(house, asking, self.participation)
        self.settlement = Settlement(house, host)
        self._noes = AuthorRate(NOES_PER_SECOND, NOES_AT_ONCE)
        host.serve(SESSION_PROTOCOL, self._serve, limit=REQUEST_LIMIT, timeout_s=40.0)

    async def start(self, task: bytes, seed: int | None) -> SessionId:
        """Afterwards a session of the task runs in the background; its id."""
        live = await self.coordination.propose(task, seed)
        self._nursery.start_soon(self.coordination.run, live)
        return live.session

    async def stop(self, session: bytes) -> None:
        """Afterwards the session is over, here and everywhere, by this node's word."""
        session_records.known(self._house.engine.db, session)
        live = self.participation.live.get(SessionId(session))
        if live is not None:
            await self.participation.abort(live, f"{self._house.config.name} stopped it", ())

    def under(self, child: bytes, parent: bytes) -> list[LiveSession]:
        """The sessions that live here and use `child` under `parent`."""
        return [
            live
            for live in self.participation.live.values()
            if live.algorithm == parent and child in edges_of(live)
        ]

    async def stop_under(self, child: bytes, parent: bytes, reason: str) -> None:
        """Afterwards no session that uses `child` under `parent` lives; all are told `reason`."""
        for live in self.under(child, parent):
            await self.participation.abort(live, reason, ())

    # ------------------------------------------------------------------ served

    async def _serve(self, peer_id: PeerId, data: bytes) -> bytes:
        message: Wire = codec.decode(data, *REQUESTS, limit=REQUEST_LIMIT)
        if self._house.directory.of_peer(peer_id) is None:
            raise RemoteProtocolError("a stranger asks for something of a session")
        try:
            answer = await self._answer(peer_id, message)
        except Fault as fault:
            log.info("session request declined", peer=peer_id, rule=fault.kind, why=str(fault))
            answer = self._no(peer_id, message, fault.kind, str(fault))
        except RemoteProtocolError as error:
            log.warning("session request refused", peer=peer_id, why=str(error))
            answer = self._no(peer_id, message, "manifest", str(error))
        return codec.encode(answer)

    def _no(self, peer_id: PeerId, message: Wire, rule: str, why: str) -> SessionDeclined:
        """The no with its rule, kept as this node's decision unless the peer provokes too many."""
        proposal = getattr(message, "proposal", message)
        session = getattr(proposal, "session", b"")
        if self._noes.allows(peer_id, self._house.engine.clock()):
            with self._house.engine.transaction() as tx:
                own, part = self._house.directory.own.name, part_of(message)
                tx.note("session", session, "no", by=own, part=part, rule=rule, sentence=why[:1024])
        return SessionDeclined(rule=rule, sentence=why[:1024])

    async def _answer(self, peer_id: PeerId, message: Wire) -> Wire:
        match message:
            case SessionProposal() | SessionInquiry() | SessionPledges() | SessionDraw():
                return await self._draw(peer_id, message)
            case ManifestOffer() | ManifestSigned():
                return await self._manifest(peer_id, message)
            case SessionStatusRequest():
                return await self._status(peer_id, message)
            case SessionAbort():
                return await self._aborted(peer_id, message)
            case UsageRecord():
                return self.settlement.sign(peer_id, message)
            case _:
                raise RemoteProtocolError("no request of a session")

    async def _draw(
        self,
        peer_id: PeerId,
        message: SessionProposal | SessionInquiry | SessionPledges | SessionDraw,
    ) -> Wire:
        match message:
            case SessionProposal():
                return await self.participation.pledge(message, peer_id)
            case SessionInquiry():
                return self.participation.drawing.answer(peer_id, message)
            case SessionPledges():
                return self.participation.reveal(self._led_by(peer_id, message.session), message)
            case SessionDraw():
                return await self.participation.join(message, peer_id)

    async def _manifest(self, peer_id: PeerId, message: ManifestOffer | ManifestSigned) -> Wire:
        live, signing = self._led_by(peer_id, message.session), self.participation.signing
        if isinstance(message, ManifestOffer):
            return signing.sign(live, message)
        await signing.act(live, message)
        return Acknowledged(session=message.session)

    async def _status(self, peer_id: PeerId, message: SessionStatusRequest) -> Wire:
        """The state once this node's rows are aligned, or at the end of a short wait."""
        live = self._led_by(peer_id, message.session)
        engine = self._house.engine
        await engine.until(lambda: live.is_aligned or live.over.is_set(), STATUS_WAIT_S)
        record = session_records.known(engine.db, message.session)
        return SessionStatus(
            session=message.session,
            state=record.state,
            reason=record.reason[:1024],
            blamed=(),
            rows_hash=live.aligned.rows_hash if live.aligned else b"",
            rows=live.aligned.rows if live.aligned else 0,
        )

    async def _aborted(self, peer_id: PeerId, message: SessionAbort) -> Wire:
        """Another party's word is enough to stop, and stays its word: it names who says so.

        Whom it blames counts only as far as the roster names such parties; the reason is made
        fit to be printed.
        """
        live = self.participation.live.get(SessionId(message.session))
        if live is not None and peer_id in self._heeded(live):
            teller = self._house.directory.of_peer(peer_id)
            name = teller.name if teller else str(peer_id)
            reason = "".join(each if each.isprintable() else " " for each in message.reason)
            blamed = tuple(each for each in message.blamed if each in self._blamable(live))
            said = f"{name} says: {reason}" if reason else f"{name} ended it"
            await self.participation.abort(live, said, blamed, spread=False)
        return Acknowledged(session=message.session)

    def _heeded(self, live: LiveSession) -> set[str]:
        """Whose abort counts: before the roster those who bring rows, and those drawn to sit.

        Another node of the pool has no part yet, and could else end every attempt of a task.
        """
        if live.roster is not None:
            return self.named(live)
        sitting = live.seating.members if live.seating else ()
        known = [self._house.directory.of_account(a) for a in {*live.plan.with_rows, *sitting}]
        return {each.peer_id for each in known if each is not None}

    def _blamable(self, live: LiveSession) -> set[str]:
        """The parties of the session and their organisations, by name."""
        names = {party.name for party in live.roster.parties} if live.roster else set()
        return names | {each.name for each in self._house.directory.everybody}

    def _led_by(self, peer_id: PeerId, session: bytes) -> LiveSession:
        live = self.participation.live.get(SessionId(session))
        if live is None:
            record = session_records.find(self._house.engine.db, session)
            if record is not None and record.state is SessionState.ABORTED:
                raise Fault("session-aborted", record.reason)
            raise Fault("session-unknown", f"no session {hexadecimal(session)} lives here")
        if live.coordinator != peer_id:
            raise RemoteProtocolError("this session was proposed by another node")
        return live

    # ------------------------------------------------------------------ telling

    def named(self, live: LiveSession) -> set[str]:
        """The peers of a session: by its roster once there is one, before by the plan."""
        if isinstance(live.roster, Roster):
            return {party.peer_id for party in live.roster.parties}
        accounts = live.plan.contributors | live.plan.pool | {live.plan.recipient}
        known = [self._house.directory.of_account(account) for account in accounts]
        return {each.peer_id for each in known if each is not None}

    def _connected(self, peer_id: str) -> bool:
        return any(peer.connected for peer in self._host.peers() if peer.peer_id == peer_id)

    async def _tell(self, live: LiveSession, reason: str, blamed: tuple[str, ...]) -> None:
        message = SessionAbort(session=live.session, reason=reason[:1024], blamed=blamed[:8])
        for peer_id in self.named(live) - {str(self._house.directory.own.peer_id)}:
            self._nursery.start_soon(self._tell_one, PeerId(peer_id), message)

    async def _tell_one(self, peer_id: PeerId, message: SessionAbort) -> None:
        try:
            await self._host.request(
                peer_id, SESSION_PROTOCOL, codec.encode(message), timeout_s=TELL_TIMEOUT_S
            )
        except (Fault, RemoteProtocolError) as error:
            log.info("abort not delivered", peer=peer_id, why=str(error))


REQUESTS = (
    SessionProposal,
    SessionInquiry,
    SessionPledges,
    SessionDraw,
    ManifestOffer,
    ManifestSigned,
    SessionStatusRequest,
    SessionAbort,
    UsageRecord,
)
