"""Range-based set reconciliation: two nodes find out in what their sets differ.

Cost grows with the difference, hardly with the sets. A set's members are 32-byte entries: 16 bytes
of a hash of what the entry is about, then 16 bytes of a hash of what is said about it, so entries
are spread evenly and a changed announcement stays in its place. The asking side descends through
ranges of entries, which are prefixes in hexadecimal: where the other side holds few entries in a
range it names them, otherwise it gives the fingerprints of the sixteen ranges below, and only
those that differ from one's own are asked for next. The answering side keeps nothing between two
questions: either set may change meanwhile, and whoever asks can stop anywhere.

Source: A. Meyer, "Range-Based Set Reconciliation" (SRDS 2023). Fingerprints are SHA-256 along the
tree of ranges. Sums or XOR of hashes, which can be updated in one step, are rejected: announcing
is free, so entries can be chosen until two different sets have the same XOR (linear algebra) or
the same sum (Wagner's generalised birthday). Here two sets with one fingerprint are a collision
of SHA-256. The shape of the tree follows from the set alone: a range is split if it holds more
than LEAF_MOST entries.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from hashlib import sha256
from itertools import pairwise

from protocol.errors import RemoteProtocolError
from protocol.reconcile_messages import (
    ENTRY_BYTES,
    FINGERPRINT_BYTES,
    LEAF_MOST,
    RANGES_PER_QUESTION,
    RangeEntries,
    RangesAnswer,
    RangeSplit,
    RangesQuestion,
)

KEY_BYTES = 16
RANGES_MOST = 65_536
EXTRA_MOST = 4_096

_DIGITS = "0123456789abcdef"
_KEY_DOMAIN = b"northbund/reconcile/1\x00"


def entry_of(cdt: bytes, author: bytes, body: bytes) -> bytes:
    """The entry of the announcement `body` (as it travels) of `author` about `cdt`."""
    key = sha256(_KEY_DOMAIN + cdt + author).digest()[:KEY_BYTES]
    return key + sha256(body).digest()[: ENTRY_BYTES - KEY_BYTES]


def split_entries(joined: bytes) -> tuple[bytes, ...]:
    """The entries in `joined`; RemoteProtocolError unless they are whole, rising and unique."""
    if len(joined) % ENTRY_BYTES:
        raise RemoteProtocolError("a list of entries ends within an entry")
    found = tuple(joined[at : at + ENTRY_BYTES] for at in range(0, len(joined), ENTRY_BYTES))
    if any(first >= second for first, second in pairwise(found)):
        raise RemoteProtocolError("a list of entries is not in rising order")
    return found


class EntrySet:
    """A set of entries whose fingerprints are computed when asked for and kept until a change.

    About 80 bytes an entry. A change forgets the fingerprints on its way to the root, no more.
    """

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        ordered = sorted(entries)
        self._entries = ordered[:1] + [b for a, b in pairwise(ordered) if a != b]
        self._fingerprints: dict[str, bytes] = {}
        self._deepest = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: bytes) -> bool:
        place = bisect_left(self._entries, entry)
        return place < len(self._entries) and self._entries[place] == entry

    def add(self, entry: bytes) -> None:
        """Afterwards the set holds `entry`."""
        if entry not in self:
            insort(self._entries, entry)
            self._forget(entry)

    def replace(self, entry: bytes) -> None:
        """Afterwards the set holds `entry` and no other about the same."""
        place = bisect_left(self._entries, entry[:KEY_BYTES])
        while place < len(self._entries) and self._entries[place][:KEY_BYTES] == entry[:KEY_BYTES]:
            self._forget(self._entries.pop(place))
        self.add(entry)

    def discard(self, entry: bytes) -> None:
        """Afterwards the set does not hold `entry`."""
        if entry in self:
            del self._entries[bisect_left(self._entries, entry)]
            self._forget(entry)

    def within(self, prefix: str) -> list[bytes]:
        """The entries of the range, rising."""
        first, end = self._bounds(prefix)
        return self._entries[first:end]

    def fingerprint(self, prefix: str) -> bytes:
        """The range's fingerprint: equal for two sets only if they agree on the range."""
        kept = self._fingerprints.get(prefix)
        if kept is not None:
            return kept
        first, end = self._bounds(prefix)
        if end - first <= LEAF_MOST or len(prefix) >= 2 * ENTRY_BYTES:
            return sha256(b"\x00" + b"".join(self._entries[first:end])).digest()
        made = sha256(b"\x01" + self._below(prefix)).digest()
        self._fingerprints[prefix] = made
        self._deepest = max(self._deepest, len(prefix))
        return made

    def answer(self, question: RangesQuestion) -> RangesAnswer:
        """What this set holds in the ranges that are asked for."""
        return RangesAnswer(ranges=tuple(self._held(prefix) for prefix in question.prefixes))

    def _held(self, prefix: str) -> RangeSplit | RangeEntries:
        first, end = self._bounds(prefix)
        if end - first <= LEAF_MOST:
            return RangeEntries(entries=b"".join(self._entries[first:end]))
        return RangeSplit(fingerprints=self._below(prefix))

    def _below(self, prefix: str) -> bytes:
        return b"".join(self.fingerprint(prefix + digit) for digit in _DIGITS)

    def _bounds(self, prefix: str) -> tuple[int, int]:
        lowest = bytes.fromhex(prefix.ljust(2 * ENTRY_BYTES, "0"))
        highest = bytes.fromhex(prefix.ljust(2 * ENTRY_BYTES, "f"))
        first = bisect_left(self._entries, lowest)
        return first, bisect_right(self._entries, highest, first)

    def _forget(self, entry: bytes) -> None:
        path = entry.hex()
        for length in range(self._deepest + 1):
            self._fingerprints.pop(path[:length], None)


class Descent:
    """The asking side: from question to question, until the difference is known.

    `missing` are entries that only the other side has, `extra` those that only this side has (the
    first EXTRA_MOST of them). `complete` is False if the other side's answers led to more than
    RANGES_MOST ranges, which then were not all asked for.
    """

    def __init__(self, own: EntrySet) -> None:
        self._own = own
        self._pending = [""]
        self._ranges = 1
        self.missing: set[bytes] = set()
        self.extra: set[bytes] = set()
        self.complete = True

    def question(self) -> RangesQuestion | None:
        """What to ask next; None if there is nothing left.

        Deepest ranges first: a descent that is broken off has found something all the same.
        """
        if not self._pending:
            return None
        asked = tuple(self._pending[-RANGES_PER_QUESTION:])
        del self._pending[-RANGES_PER_QUESTION:]
        return RangesQuestion(prefixes=asked)

    def learn(self, question: RangesQuestion, answer: RangesAnswer) -> None:
        """The answer to `question` is taken in. RemoteProtocolError if it does not fit."""
        if len(answer.ranges) != len(question.prefixes):
            raise RemoteProtocolError("another number of ranges than was asked for")
        for prefix, held in zip(question.prefixes, answer.ranges, strict=True):
            if isinstance(held, RangeSplit):
                self._follow(prefix, held.fingerprints)
            else:
                self._compare(prefix, split_entries(held.entries))

    def _follow(self, prefix: str, fingerprints: bytes) -> None:
        if len(prefix) >= 2 * ENTRY_BYTES - 1:
            raise RemoteProtocolError("a range with room for sixteen entries was split")
        for number, digit in enumerate(_DIGITS):
            at = number * FINGERPRINT_BYTES
            theirs = fingerprints[at : at + FINGERPRINT_BYTES]
            if theirs == self._own.fingerprint(prefix + digit):
                continue
            if self._ranges >= RANGES_MOST:
                self.complete = False
                return
            self._ranges += 1
            self._pending.append(prefix + digit)

    def _compare(self, prefix: str, theirs: tuple[bytes, ...]) -> None:
        if not all(entry.hex().startswith(prefix) for entry in theirs):
            raise RemoteProtocolError("an entry stands outside the range that was asked for")
        mine = self._own.within(prefix)
        self.missing.update(set(theirs).difference(mine))
        room = EXTRA_MOST - len(self.extra)
        self.extra.update(sorted(set(mine).difference(theirs))[:room])
