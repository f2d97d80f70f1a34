"""Reconciliation with peers: what gossip did not bring, on connecting and every few minutes.

Whoever asks leads (`protocol.reconciliation`): it finds the difference, fetches what it misses and
gives what the other side wants. Fetched announcements pass the same checks as those of gossip.

Adversary: a peer that answers with anything. Questions, bytes and time of an exchange are capped;
a wrong answer, and an exchange that reaches a cap and brings nothing, cost the peer its standing.
Authors whom nobody here knows are free to make: so many unwanted announcements are taken from one
peer, then no more for a while.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import trio

from node.announcements import Announcements
from node.catalogue import Catalogue
from node.host import Host
from node.log import get_logger
from node.unwanted import Unwanted
from protocol import codec
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.reconcile_messages import (
    BATCH_BYTES,
    ENTRIES_PER_MESSAGE,
    RECONCILE_PROTOCOL,
    AnnouncementsAnswer,
    AnnouncementsGiven,
    AnnouncementsRequest,
    AnnouncementsTaken,
    EntriesOffer,
    EntriesWanted,
    RangesAnswer,
)
from protocol.reconciliation import Descent, split_entries

log = get_logger("reconciling")

REQUESTS_MOST = 500
RANGE_BYTES_MOST = 8_388_608
BODY_BYTES_MOST = 67_108_864
MISSING_MOST = 16_384
EXCHANGE_S = 60.0
REQUEST_S = 10.0

W = TypeVar("W", bound=Wire)


@dataclass(slots=True)
class Exchange:
    """One reconciliation as this node led it.

    `range_bytes` are those of questions, answers and offers, `body_bytes` those of announcements;
    `finished` if nothing was left to do when it ended, `capped` if it ended at one of its caps.
    """

    peer_id: PeerId
    requests: int = 0
    range_bytes: int = 0
    body_bytes: int = 0
    news: int = 0
    given: int = 0
    capped: bool = False
    finished: bool = False


class Reconciling:
    """Leads exchanges with peers."""

    def __init__(
        self, host: Host, catalogue: Catalogue, announcements: Announcements, unwanted: Unwanted
    ) -> None:
        self._host = host
        self._catalogue = catalogue
        self._announcements = announcements
        self._unwanted = unwanted

    async def with_peer(self, peer_id: PeerId) -> Exchange:
        """Afterwards both hold what either held, or the exchange says that it ended before.

        A peer that breaks a rule is reported. Fault if it cannot be reached or refuses.
        """
        exchange = Exchange(peer_id)
        with trio.move_on_after(EXCHANGE_S) as scope:
            try:
                await self._run(exchange)
            except RemoteProtocolError as error:
                self._host.report(peer_id, f"{RECONCILE_PROTOCOL}: {error}")
        exchange.capped |= scope.cancelled_caught
        if exchange.capped and exchange.news == exchange.given == 0:
            self._host.report(peer_id, "reconciling went on and on and brought nothing")
        return exchange

    async def _run(self, exchange: Exchange) -> None:
        await self._announcements.build()
        descent = Descent(self._announcements.entries())
        whole = await self._descend(exchange, descent)
        fetched = await self._fetch(exchange, sorted(descent.missing))
        await self._give(exchange, sorted(descent.extra))
        exchange.finished = whole and fetched and not exchange.capped

    async def _descend(self, exchange: Exchange, descent: Descent) -> bool:
        """True if the whole difference is known afterwards."""
        while not _over(exchange) and len(descent.missing) < MISSING_MOST:
            question = descent.question()
            if question is None:
                return descent.complete
            descent.learn(question, await self._ask(exchange, question, RangesAnswer))
        return False

    async def _fetch(self, exchange: Exchange, missing: list[bytes]) -> bool:
        """True if everything that was wanted has come, or is not to be had."""
        peer_id = exchange.peer_id
        wanted = [entry for entry in missing if not self._unwanted.knows(entry)]
        while wanted:
            if _over(exchange) or not self._unwanted.has_credit(peer_id):
                return False
            asked = wanted[:ENTRIES_PER_MESSAGE]
            request = AnnouncementsRequest(entries=b"".join(asked))
            answer = await self._ask(exchange, request, AnnouncementsAnswer)
            if not 0 < answer.reached <= len(asked):
                raise RemoteProtocolError("more, or less, was looked up than was asked for")
            taken = await self._catalogue.take(answer.bodies, asked[: answer.reached])
            absent = taken.entries.symmetric_difference(asked[: answer.reached])
            self._unwanted.note(peer_id, (*taken.unwanted, *absent))
            self._unwanted.postpone(taken.early)
            exchange.news += taken.news
            del wanted[: answer.reached]
        return True

    async def _give(self, exchange: Exchange, extra: list[bytes]) -> None:
        for at in range(0, len(extra), ENTRIES_PER_MESSAGE):
            if _over(exchange):
                return
            offered = extra[at : at + ENTRIES_PER_MESSAGE]
            offer = EntriesOffer(entries=b"".join(offered))
            answer = await self._ask(exchange, offer, EntriesWanted)
            wanted = split_entries(answer.entries)
            if not set(wanted) <= set(offered):
                raise RemoteProtocolError("what was not offered is wanted")
            for bodies in self._batches(wanted):
                given = AnnouncementsGiven(bodies=bodies)
                await self._ask(exchange, given, AnnouncementsTaken)
                exchange.given += len(bodies)

    def _batches(self, wanted: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
        while wanted:
            bodies, reached = self._announcements.bodies(wanted, BATCH_BYTES)
            wanted = wanted[reached:]
            if bodies:
                yield tuple(bodies)

    async def _ask(self, exchange: Exchange, message: Wire, kind: type[W]) -> W:
        request = codec.encode(message)
        answer = await self._host.request(
            exchange.peer_id, RECONCILE_PROTOCOL, request, timeout_s=REQUEST_S
        )
        exchange.requests += 1
        size = len(request) + len(answer)
        if isinstance(message, AnnouncementsRequest | AnnouncementsGiven):
            exchange.body_bytes += size
        else:
            exchange.range_bytes += size
        return codec.decode(answer, kind)


def _over(exchange: Exchange) -> bool:
    """Whether a cap is reached; the exchange then says so."""
    exchange.capped |= (
        exchange.requests >= REQUESTS_MOST
        or exchange.range_bytes >= RANGE_BYTES_MOST
        or exchange.body_bytes >= BODY_BYTES_MOST
    )
    return exchange.capped
