"""Announcements that cannot be judged yet: their author is bound to nobody, or the asset is
claimed by two and on no chain. They wait here, in memory and within bounds; they are not relayed.

Keys are free to make, so whoever wants can push the oldest out. What is pushed out comes back by
reconciliation with the peers that know the binding.
"""

from collections import Counter, OrderedDict

from node.announcements import Heard

MOST = 1_000
MOST_OF_AUTHOR = 32
MOST_BYTES = 4_194_304


class WaitingRoom:
    """At most MOST announcements of MOST_BYTES together, MOST_OF_AUTHOR of one author."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[bytes, bytes], Heard] = OrderedDict()
        self._of_author: Counter[bytes] = Counter()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, heard: Heard) -> None:
        """Afterwards it waits, unless a newer one of its author about its asset does.

        The author's oldest, and the oldest of all, make room for it.
        """
        key = (heard.announcement.cdt, heard.author)
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.order >= heard.order:
            return
        if waiting is not None:
            self._remove(key)
        elif self._of_author[heard.author] >= MOST_OF_AUTHOR:
            self._remove(next(each for each in self._waiting if each[1] == heard.author))
        self._waiting[key] = heard
        self._of_author[heard.author] += 1
        self._bytes += len(heard.data)
        while len(self._waiting) > MOST or self._bytes > MOST_BYTES:
            self._remove(next(iter(self._waiting)))

    def leave(self, heard: Heard) -> None:
        """Afterwards this one does not wait any more."""
        key = (heard.announcement.cdt, heard.author)
        if self._waiting.get(key) == heard:
            self._remove(key)

    def everyone(self) -> list[Heard]:
        """All that wait, the longest waiting first."""
        return list(self._waiting.values())

    def _remove(self, key: tuple[bytes, bytes]) -> None:
        heard = self._waiting.pop(key)
        self._bytes -= len(heard.data)
        self._of_author[heard.author] -= 1
        if not self._of_author[heard.author]:
            del self._of_author[heard.author]
