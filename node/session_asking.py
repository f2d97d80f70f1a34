"""Asking other nodes something of a session: one question, one answer, or a Fault that names them.

A no comes out as a Fault with the rule and the sentence of whoever said it, and is kept as a
decision of this session, as is every yes with what it rests on: so the recipient can show who
agreed to what, and why somebody did not.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from node.errors import Fault
from node.host import Host
from node.house import House
from protocol import codec
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.messages import (
    SESSION_PROTOCOL,
    ManifestOffer,
    ManifestSigned,
    SessionDeclined,
    SessionDraw,
    SessionInquiry,
    SessionPledges,
    SessionProposal,
    SessionStatusRequest,
)

ANSWER_S = 20.0
PAUSES_S = (0.1, 0.2, 0.4)
"""Before the second, third and fourth try: a dead node is noticed in less than a second."""
LOST = ("peer-unreachable", "peer-timeout")

PARTS: dict[type[Wire], str] = {
    SessionProposal: "proposal",
    SessionInquiry: "seat",
    SessionPledges: "nonce",
    SessionDraw: "draw",
    ManifestOffer: "manifest",
    ManifestSigned: "signatures",
    SessionStatusRequest: "alignment",
}
"""What of a session each question is about, in the word under which its answer is kept."""

A = TypeVar("A", bound=Wire)
T = TypeVar("T")


def part_of(message: Wire) -> str:
    """What of a session the question is about, in one word."""
    return PARTS.get(type(message), "session")


class Asking:
    """Asks on behalf of one node."""

    def __init__(self, house: House, host: Host) -> None:
        self._house = house
        self._host = host

    def name(self, peer_id: str) -> str:
        """The name of the organisation that runs the peer, or its peer id."""
        organisation = self._house.directory.of_peer(peer_id)
        return organisation.name if organisation else str(peer_id)

    async def ask(
        self,
        session: bytes,
        peer_id: PeerId,
        message: Wire,
        kind: type[A],
        *,
        timeout_s: float = ANSWER_S,
    ) -> A:
        """The peer's answer, which names it in every Fault, also in `data["blamed"]`.

        Fault `session-refused` with its no, `session-aborted` if it does not answer.
        """
        name = self.name(peer_id)
        try:
            data = await self._request(peer_id, codec.encode(message), timeout_s)
            answer = codec.decode(data, kind, SessionDeclined)
        except (Fault, RemoteProtocolError) as error:
            sentence = f"the node of {name} does not answer as it should: {error}"
            raise Fault("session-aborted", sentence, blamed=[name]) from error
        part = part_of(message)
        if isinstance(answer, SessionDeclined):
            self._note(session, "no", part, name, rule=answer.rule, sentence=answer.sentence)
            sentence = f"{name} says no ({answer.rule}): {answer.sentence}"
            raise Fault("session-refused", sentence, blamed=[name])
        checked = getattr(answer, "checked", None)
        if checked is not None:
            self._note(session, "yes", part, name, checked=list(checked))
        return answer

    async def _request(self, peer_id: PeerId, data: bytes, timeout_s: float) -> bytes:
        """The peer's answer; where a connection breaks, the same question goes out again.

        Every question of a session may be repeated: it gets the answer that was given.
        """
        deadline = trio.current_time() + timeout_s
        for pause_s in PAUSES_S:
            left_s = max(0.0, deadline - trio.current_time())
            try:
                return await self._host.request(peer_id, SESSION_PROTOCOL, data, timeout_s=left_s)
            except Fault as fault:
                if fault.kind not in LOST or trio.current_time() + pause_s >= deadline:
                    raise
            await trio.sleep(pause_s)
        left_s = max(0.0, deadline - trio.current_time())
        return await self._host.request(peer_id, SESSION_PROTOCOL, data, timeout_s=left_s)

    def _note(self, session: bytes, outcome: str, part: str, name: str, **why: object) -> None:
        with self._house.engine.transaction() as tx:
            tx.note("session", session, outcome, by=name, part=part, **why)


async def all_of(ask: Callable[[T], Awaitable[None]], whom: Iterable[T]) -> None:
    """`ask` everybody at once; the first failure cancels the rest and comes out as itself."""
    failures: list[Fault | RemoteProtocolError] = []
    async with trio.open_nursery() as nursery:

        async def one(each: T) -> None:
            try:
                await ask(each)
            except (Fault, RemoteProtocolError) as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        for each in whom:
            nursery.start_soon(one, each)
    if failures:
        raise failures[0]
