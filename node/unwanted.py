"""Announcements that this node does not want, remembered by entry and counted for each peer.

Two nodes may lastingly differ in what they keep: in whom they know, in their clocks. Without this
memory the same announcements would be fetched again at every exchange.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeVar

from node.standing import TABLE_LIMIT, AuthorRate

REMEMBERED_MOST = 16_384
REMEMBERED_S = 900.0
POSTPONED_S = 60.0
PER_SECOND = 1.0
BURST = 512
CLOSED_S = 300.0

K = TypeVar("K")


class Unwanted:
    """Bounded: what was noted longest ago is forgotten first. `clock` never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._credit = AuthorRate(PER_SECOND, BURST)
        self._closed: OrderedDict[str, float] = OrderedDict()

    def knows(self, entry: bytes) -> bool:
        """True if this announcement was unwanted lately."""
        return self._until.get(entry, 0.0) > self._clock()

    def has_credit(self, peer_id: str) -> bool:
        """False for a while if this peer has lately brought too much that was unwanted."""
        return self._closed.get(peer_id, 0.0) <= self._clock()

    def note(self, peer_id: str, entries: Iterable[bytes]) -> None:
        """The peer has brought these, or named and not brought them, and they are unwanted."""
        now = self._clock()
        for entry in entries:
            _put(self._until, entry, now + REMEMBERED_S, REMEMBERED_MOST)
            if not self._credit.allows(peer_id, now):
                _put(self._closed, peer_id, now + CLOSED_S, TABLE_LIMIT)

    def postpone(self, entries: Iterable[bytes]) -> None:
        """These are to be asked for again a little later; nobody is to blame."""
        for entry in entries:
            _put(self._until, entry, self._clock() + POSTPONED_S, REMEMBERED_MOST)

    def forget(self) -> None:
        """Every announcement may be asked for again: who speaks for whom has changed."""
        self._until.clear()


def _put(table: OrderedDict[K, float], key: K, until: float, most: int) -> None:
    table[key] = until
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
