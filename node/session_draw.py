"""An owner's part in drawing the committee: what it sees alive, its pledge, its nonce.

The rules are those of `protocol.draw`; here is what this node sees and keeps. The nonce lives in
memory alone: after a restart between pledge and reveal the session is over, its id is used up, and
no nonce is ever revealed for two sets of pledges.
"""

from collections.abc import Callable

import trio

from node import session_records, session_rules
from node.errors import Fault
from node.house import House
from node.live_session import LiveSession
from node.session_asking import Asking
from protocol import envelope
from protocol.draw import Pledge, SignedPledge, check_pledges, commit
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.messages import (
    Acknowledged,
    SessionInquiry,
    SessionNonce,
    SessionPledges,
    SessionProposal,
)

INQUIRY_S = 3.0
"""How long a node of the pool may take to say that it is there: longer counts as dead."""


class Drawing:
    """Pledges and reveals for one owner, and answers other owners as a node of the pool.

    `has_room` says whether this node could start the workers of one more session.
    """

    def __init__(
        self, house: House, asking: Asking, has_room: Callable[[SessionProposal], bool]
    ) -> None:
        self._house = house
        self._asking = asking
        self._has_room = has_room

    # ------------------------------------------------------------------ in the pool

    def answer(self, asker: PeerId, inquiry: SessionInquiry) -> Acknowledged:
        """Yes, this node would sit; Fault or RemoteProtocolError says why not."""
        proposal = inquiry.proposal
        session_rules.examine_seat(self._house, proposal, asker)
        if not self._has_room(proposal):
            raise Fault("session-refused", "as many sessions as may are running here")
        return Acknowledged(session=proposal.session)

    # ------------------------------------------------------------------ as an owner

    async def pledge(self, live: LiveSession) -> SignedPledge:
        """This owner's signed pledge, after it has asked every node of the pool itself."""
        own = self._house.directory.own.account
        alive = await self._alive(live)
        earlier = session_records.of_task(self._house.engine.db, live.task)
        pledge = Pledge(
            session=live.session,
            task=live.task,
            account=own,
            earlier=sum(1 for each in earlier if each.session != live.session),
            commitment=commit(live.session, live.task, own, live.nonce),
            alive=tuple(sorted(alive)),
        )
        sealed = envelope.seal(pledge, self._house.key.signing_key)
        live.pledge = SignedPledge(pledge=pledge, signature=sealed.signature)
        return live.pledge

    async def _alive(self, live: LiveSession) -> set[bytes]:
        found: set[bytes] = set()
        inquiry = SessionInquiry(proposal=live.proposal)

        async def look(cdt: bytes, owner: bytes) -> None:
            try:
                peer_id = self._house.directory.peer_of(owner)
                if peer_id == self._house.directory.own.peer_id:
                    self.answer(peer_id, inquiry)
                else:
                    await self._asking.ask(
                        live.session, peer_id, inquiry, Acknowledged, timeout_s=INQUIRY_S
                    )
            except (Fault, RemoteProtocolError) as error:
                name = self._house.directory.name(owner)
                said = f"{name}'s compute is not counted alive: {error}"
                live.checked["proposal"] = (*live.checked["proposal"], said)
            else:
                found.add(cdt)

        async with trio.open_nursery() as nursery:
            for cdt, owner in live.plan.pool_owners.items():
                nursery.start_soon(look, cdt, owner)
        return found

    def reveal(self, live: LiveSession, message: SessionPledges) -> SessionNonce:
        """This owner's nonce, now that all pledges are fixed.

        RemoteProtocolError unless every owner has signed one, this one's is among them unchanged,
        and no other set of them was shown before: then nobody was told a nonce too early.
        """
        if live.pledge is None:
            raise RemoteProtocolError("this node has made no pledge for this session")
        if live.pledges and live.pledges != message.pledges:
            raise RemoteProtocolError("this node has revealed its nonce for other pledges")
        keys = session_rules.owner_keys(self._house, live.plan)
        check_pledges(message.pledges, live.session, live.task, keys, live.plan.pool_owners)
        if live.pledge not in message.pledges:
            raise RemoteProtocolError("this node's own pledge is not among those that are shown")
        live.pledges = message.pledges
        return SessionNonce(session=live.session, nonce=live.nonce)
