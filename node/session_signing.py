"""What a node signs of the manifest, and what everybody's signatures let it do.

Nothing is signed before its check has passed, one roster and one row set for each session and no
second; the budget is spent in the same transaction as the row set is signed. A repeated message
is answered again and does nothing.
"""

from node import row_set_rules, session_records, session_rules
from node.errors import Fault
from node.house import House
from node.live_session import LiveSession
from node.session_workers import SessionWorkers
from node.workers.messages import Proceed, Run
from protocol import codec, envelope
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.manifest import Roster, RowSet
from protocol.messages import MAX_CHECKED, ManifestOffer, ManifestSignature, ManifestSigned
from protocol.peers import peer_key
from protocol.task import SESSION, SessionEvent, SessionState


class Signing:
    """Signs both parts of the manifest for one node, and lets its workers go on."""

    def __init__(self, house: House, workers: SessionWorkers) -> None:
        self._house = house
        self._workers = workers

    def sign(self, live: LiveSession, offer: ManifestOffer) -> ManifestSignature:
        """This node's signature over a part of the manifest, roster or row set."""
        part = codec.decode(offer.part, Roster, RowSet)
        require_living(self._house, live)
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
        return self._signature(live, roster, "roster")

    def sign_rows(self, live: LiveSession, row_set: RowSet) -> ManifestSignature:
        """This node's signature over the row set; an owner's budget is spent with it.

        RemoteProtocolError for a second row set.
        """
        if live.row_set is None:
            row_set_rules.check_rows(self._house, live, row_set)
            self._spend(live, row_set)
            live.row_set = row_set
        elif live.row_set != row_set:
            raise RemoteProtocolError("this node has signed another row set of this session")
        return self._signature(live, row_set, "row set")

    def _spend(self, live: LiveSession, row_set: RowSet) -> None:
        if live.roster is None:
            raise RemoteProtocolError("there is no roster that the row set could belong to")
        signed = codec.encode(row_set)
        with self._house.engine.transaction() as tx:
            if not live.with_rows:
                session_records.move(tx, live.session, SessionEvent.ALIGN)
            session_records.move(tx, live.session, SessionEvent.SIGN_ROWS, row_set=signed)
            row_set_rules.spend(self._house, tx, live, live.roster)

    def _signature(self, live: LiveSession, part: Wire, what: str) -> ManifestSignature:
        signed = envelope.seal(part, self._house.key.signing_key)
        return ManifestSignature(
            session=live.session,
            signature=signed.signature,
            checked=agreed(self._house, live, what),
        )

    async def act(self, live: LiveSession, signed: ManifestSigned) -> None:
        """A part of the manifest with everybody's signature: this node does what it allows."""
        require_living(self._house, live)
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
            proceed = Proceed(roster=signed.part, me=me, job=job, entrance=live.entrance)
            await self._workers.say(live, role, proceed)

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


def agreed(house: House, live: LiveSession, part: str) -> tuple[str, ...]:
    """What this node's yes to a part of the session rests on, kept as its decision, once."""
    checked = tuple(each[:1024] for each in live.checked.get(part, ())[:MAX_CHECKED])
    name = house.directory.own.name
    if not session_records.has_agreed(house.engine.db, live.session, name, part):
        with house.engine.transaction() as tx:
            tx.note("session", live.session, "yes", by=name, part=part, checked=checked)
    return checked


def require_living(house: House, live: LiveSession) -> None:
    """Fault `session-aborted` if the session is over here while its workers still leave."""
    record = session_records.known(house.engine.db, live.session)
    if SESSION.is_final(record.state):
        raise Fault("session-aborted", record.reason or "the session is over")


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
