"""The answering side of reconciliation: ranges, announcements, and taking what was offered.

It keeps nothing of an exchange but, for each peer, what it wanted of the last offer: announcements
are read only if they were wanted. Adversary: a peer that asks without end, or gives what it likes;
it is slowed by losing its standing.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from node.announcements import Announcements
from node.catalogue import Catalogue
from node.host import Host
from node.standing import AuthorRate
from node.unwanted import Unwanted
from protocol import codec
from protocol.codec import MAX_MESSAGE_BYTES, Wire
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import PeerId
from protocol.reconcile_messages import (
    BATCH_BYTES,
    RECONCILE_PROTOCOL,
    AnnouncementsAnswer,
    AnnouncementsGiven,
    AnnouncementsRequest,
    AnnouncementsTaken,
    EntriesOffer,
    EntriesWanted,
    RangesQuestion,
)
from protocol.reconciliation import split_entries

REQUESTS_PER_SECOND = 20.0
REQUESTS_BURST = 1_000
OFFERING_PEERS_MOST = 256


class ReconcileService:
    """Serves RECONCILE_PROTOCOL."""

    def __init__(
        self,
        host: Host,
        catalogue: Catalogue,
        announcements: Announcements,
        unwanted: Unwanted,
    ) -> None:
        self._catalogue = catalogue
        self._announcements = announcements
        self._unwanted = unwanted
        self._rate = AuthorRate(REQUESTS_PER_SECOND, REQUESTS_BURST)
        self._wanted: OrderedDict[str, frozenset[bytes]] = OrderedDict()
        self._on_taken: list[Callable[[], None]] = []
        host.serve(RECONCILE_PROTOCOL, self._serve, limit=MAX_MESSAGE_BYTES)

    def on_taken(self, action: Callable[[], None]) -> None:
        """`action` is called each time that what a peer gave was news."""
        self._on_taken.append(action)

    async def _serve(self, peer_id: PeerId, data: bytes) -> bytes:
        if not self._rate.allows(peer_id, trio.current_time()):
            raise RemoteProtocolError("asks to reconcile too often")
        message: Wire = codec.decode(data, *KINDS)
        await self._announcements.build()
        match message:
            case RangesQuestion():
                return codec.encode(self._announcements.entries().answer(message))
            case AnnouncementsRequest(entries=joined):
                bodies, reached = self._announcements.bodies(split_entries(joined), BATCH_BYTES)
                return codec.encode(AnnouncementsAnswer(bodies=tuple(bodies), reached=reached))
            case EntriesOffer(entries=joined):
                return codec.encode(self._choose(peer_id, split_entries(joined)))
            case AnnouncementsGiven(bodies=bodies):
                return codec.encode(await self._take(peer_id, bodies))
        raise LocalProtocolError(f"{type(message).__name__} has no answer")

    def _choose(self, peer_id: PeerId, offered: tuple[bytes, ...]) -> EntriesWanted:
        """Those that are not here and not known to be unwanted; they may be given from now on."""
        held = self._announcements.entries()
        wanted: tuple[bytes, ...] = ()
        if self._unwanted.has_credit(peer_id):
            wanted = tuple(e for e in offered if e not in held and not self._unwanted.knows(e))
        self._wanted[peer_id] = frozenset(wanted)
        self._wanted.move_to_end(peer_id)
        if len(self._wanted) > OFFERING_PEERS_MOST:
            self._wanted.popitem(last=False)
        return EntriesWanted(entries=b"".join(wanted))

    async def _take(self, peer_id: PeerId, bodies: tuple[bytes, ...]) -> AnnouncementsTaken:
        wanted = self._wanted.pop(peer_id, None)
        if wanted is None:  # its offer was long ago, and others have offered since
            return AnnouncementsTaken(news=0)
        taken = await self._catalogue.take(bodies, wanted)
        self._wanted.setdefault(peer_id, wanted - taken.entries)
        self._unwanted.note(peer_id, taken.unwanted)
        self._unwanted.postpone(taken.early)
        if taken.news:
            for action in self._on_taken:
                action()
        return AnnouncementsTaken(news=taken.news)


KINDS: Final[tuple[type[Wire], ...]] = (
    RangesQuestion,
    AnnouncementsRequest,
    EntriesOffer,
    AnnouncementsGiven,
)
