"""How the recipient's node brings a committee together: pledges, nonces, then the drawn seats.

It carries the owners' signed pledges from one to the other and cannot change, withhold or choose
among them: every owner looks for its own, and everybody draws by itself (`protocol.draw`).
"""

import trio

from node import session_rules
from node.errors import Fault
from node.house import House
from node.live_session import LiveSession
from node.participation import Participation
from node.session_asking import Asking, all_of
from protocol.draw import Draw, SignedPledge, alive, check_pledges, commit
from protocol.errors import RemoteProtocolError
from protocol.ids import Account
from protocol.messages import (
    SessionDraw,
    SessionJoined,
    SessionNonce,
    SessionPledged,
    SessionPledges,
)
from protocol.peers import peer_key
from protocol.roster_check import drawn

Joined = dict[Account, SessionJoined]


class SessionSeating:
    """Gathers what the draw needs, and the seats of those who take part."""

    def __init__(self, house: House, asking: Asking, participation: Participation) -> None:
        self._house = house
        self._asking = asking
        self._participation = participation

    async def seated(self, live: LiveSession) -> Joined:
        """The seats of everybody who takes part; every worker of theirs runs.

        Fault names who says no, does not reveal, or is dead after it was drawn.
        """
        draw = await self._draw(live)
        message = SessionDraw(proposal=live.proposal, draw=draw)
        own = self._house.directory.own
        keys = session_rules.owner_keys(self._house, live.plan)
        seating = drawn(live.plan, live.session, live.task, draw, keys)
        joined: Joined = {}

        async def ask(account: bytes) -> None:
            peer_id = self._house.directory.peer_of(account)
            if account == own.account:
                with trio.CancelScope(shield=True):  # else its end would hide who said no
                    answer = await self._participation.join(message, peer_id)
            else:
                answer = await self._asking.ask(live.session, peer_id, message, SessionJoined)
            name = self._house.directory.name(account)
            if answer.account != account:
                raise RemoteProtocolError(f"{name} answered for another account than its own")
            if tuple(seat.role for seat in answer.seats) != live.plan.roles_of(account, seating):
                raise RemoteProtocolError(f"{name} offers other seats than the draw gives it")
            joined[Account(account)] = answer

        await all_of(ask, sorted(live.plan.with_rows | set(seating.members)))
        return joined

    async def _draw(self, live: LiveSession) -> Draw:
        pledges = await self._pledges(live)
        nonces = await self._nonces(live, pledges)
        draw = Draw(pledges=pledges, nonces=tuple(nonces[each] for each in sorted(nonces)))
        self._require_enough(live, draw)
        return draw

    async def _pledges(self, live: LiveSession) -> tuple[SignedPledge, ...]:
        found: dict[bytes, SignedPledge] = {}

        async def ask(account: bytes) -> None:
            if account == self._house.directory.own.account:
                answer = await self._participation.pledged(live)
            else:
                peer_id = self._house.directory.peer_of(account)
                answer = await self._asking.ask(
                    live.session, peer_id, live.proposal, SessionPledged
                )
            self._check_pledge(live, account, answer.pledge)
            found[account] = answer.pledge

        await all_of(ask, sorted(live.plan.contributors))
        return tuple(found[account] for account in sorted(found))

    def _check_pledge(self, live: LiveSession, account: bytes, pledge: SignedPledge) -> None:
        """Fault `session-aborted` names an owner whose pledge no other owner would accept."""
        name, peer_id = self._house.directory.name(account), self._house.directory.peer_of(account)
        pool, keys = live.plan.pool_owners, {account: peer_key(peer_id)}
        try:
            check_pledges((pledge,), live.session, live.task, keys, pool)
        except RemoteProtocolError as error:
            sentence = f"the pledge of {name} is not sound: {error}"
            raise Fault("session-aborted", sentence, blamed=[name]) from error

    async def _nonces(
        self, live: LiveSession, pledges: tuple[SignedPledge, ...]
    ) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        message = SessionPledges(session=live.session, pledges=pledges)

        async def ask(account: bytes) -> None:
            if account == self._house.directory.own.account:
                found[account] = self._participation.reveal(live, message).nonce
                return
            peer_id = self._house.directory.peer_of(account)
            try:
                answer = await self._asking.ask(live.session, peer_id, message, SessionNonce)
            except Fault as fault:
                name = self._house.directory.name(account)
                sentence = f"{name} has pledged and does not reveal its nonce: {fault}"
                raise Fault(fault.kind, sentence, blamed=[name]) from fault
            found[account] = self._committed(live, pledges, account, answer.nonce)

        await all_of(ask, sorted(live.plan.contributors))
        return found

    def _committed(
        self, live: LiveSession, pledges: tuple[SignedPledge, ...], account: bytes, nonce: bytes
    ) -> bytes:
        """The nonce; Fault `session-aborted` names an owner that committed to another one."""
        (promised,) = [each.pledge for each in pledges if each.pledge.account == account]
        if commit(live.session, live.task, account, nonce) != promised.commitment:
            name = self._house.directory.name(account)
            sentence = f"{name} reveals another nonce than the one that it committed to"
            raise Fault("session-aborted", sentence, blamed=[name])
        return nonce

    def _require_enough(self, live: LiveSession, draw: Draw) -> None:
        pool, seats = live.plan.pool_owners, live.plan.algorithm.seats
        dead = sorted(self._house.directory.name(pool[cdt]) for cdt in set(pool) - alive(draw))
        if len(pool) - len(dead) < seats:
            raise Fault(
                "session-aborted",
                f"of the pool, no owner reaches {', '.join(dead)}: {len(pool) - len(dead)} are "
                f"left for {seats} seats",
                blamed=dead,
            )
