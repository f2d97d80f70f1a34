"""Private set intersection of several parties on ristretto255.

Model. Parties P1..Pn each hold a secret scalar for one session. A party hashes its identifiers to
the group, masks the points and sends the list once round the ring, where each other party masks it
with its own scalar; Diffie-Hellman masks commute, so an identifier ends as the same point whichever
list it stood in. A helper without data finds the points that all lists share and returns to each
party the positions of its own rows, in one common order.

Adversary: curious parties and a curious helper; decisional Diffie-Hellman on ristretto255 and
SHA-512 as a random oracle. What leaks, by design:

- Each party learns which of its OWN rows are common to all, and how many ids each party brought.
  Of the others' ids that are not common it learns nothing but their number.
- The helper learns those numbers and, for every choice of parties, how many points their lists
  share; no identifier, and nothing by which it could test one: for that it would need a mask.
- A helper that colludes with a party can tell it which of its rows each single other party has.
  The helper is therefore of an operator without rows.
- A party can test guessed identifiers by putting them into its list: if they come back as common,
  all others have them. Nobody can test an identifier against a party's rows unless that party
  itself masks it, so each owner counts what it masks, by whose list it is, and the caller keeps a
  budget of it. Lists are not signed: a party can put other points in the place of a list that it
  passes on, and then learns from a colluding helper how they overlap, at the other's expense.
- The helper can leave common rows out, or send a party positions of rows that are not common. The
  second shows when the parties compare their salted hash of the common rows; the first does not,
  and the floor on their number is each party's own.

A list leaves in a secret order, so that its positions tell nothing of the order of the owner's
file. The domain is another one in each session, so that no point occurs in two.

Cost: each id is masked once by each party: n^2 multiplications for each common id, nine for three
parties, at about 25,000 a second and core. rbcl calls libsodium through ctypes, which releases the
interpreter's lock: threads use all cores, and processes were no faster.

Sources: Meadows 1986 and Huberman, Franklin and Hogg 1999 (commutative masks); RFC 9496
(ristretto255). Rejected: keyed hashes under a key that only the parties share and the helper does
not (Kamara et al. 2014) cost no multiplication, but a helper that colludes with one party could
then test any identifier it likes against every list.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Final

import numpy as np
import rbcl
from numpy.typing import NDArray

from protocol.errors import RemoteProtocolError

POINT_BYTES: Final = 32
CHUNK_POINTS: Final = 2048
"""Points that travel together: what a party holds of another's list at a time."""

Positions = NDArray[np.uint32]

_BLOCK_POINTS: Final = 128


class CohortTooSmall(RemoteProtocolError):  # noqa: N818  what it is, not whose fault
    """The parties have fewer rows in common than the floor; no position was released."""


class Masker:
    """One party's secret scalar and secret order for one session; masks on all cores."""

    def __init__(self, domain: bytes) -> None:
        """`domain` separates this session's points from every other's; all parties pass the same.

        The scalar and the order come from the operating system and never leave the object.
        """
        self._domain = len(domain).to_bytes(4, "big") + domain
        self._scalar = rbcl.crypto_core_ristretto255_scalar_random()
        self._order: Positions = np.zeros(0, np.uint32)
        self._cores = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "mask")

    def hashed(self, identifiers: Sequence[str]) -> Iterator[bytes]:
        """This party's own points, hashed and masked once, in its secret order, in chunks.

        `identifiers` are normalised and unique; ValueError if one stands there twice, since the
        helper could not tell which of the two rows is meant.
        """
        if len(set(identifiers)) != len(identifiers):
            raise ValueError("an identifier stands twice in the list to align")
        self._order = _secret_order(len(identifiers))

        def masked(place: int) -> bytes:
            digest = self._digest(identifiers[self._order[place]])
            return self._multiply(rbcl.crypto_core_ristretto255_from_hash(digest))

        count = len(identifiers)
        return (
            self._on_cores(masked, first, min(first + CHUNK_POINTS, count))
            for first in range(0, count, CHUNK_POINTS)
        )

    def mask(self, points: bytes, first: int = 0) -> bytes:
        """The same points under this party's mask too, their order kept.

        `first` is the place of the first one in its list. RemoteProtocolError, naming the place,
        if an entry is no point of the group, is its identity, or the length is no multiple of 32.
        """
        if len(points) % POINT_BYTES:
            raise RemoteProtocolError(f"a list of points has {len(points)} bytes, not whole points")

        def masked(place: int) -> bytes:
            point = points[POINT_BYTES * place : POINT_BYTES * (place + 1)]
            try:
                return self._multiply(point)
            except RuntimeError as error:
                reason = f"entry {first + place} is not a point of ristretto255"
                raise RemoteProtocolError(reason) from error

        return self._on_cores(masked, 0, len(points) // POINT_BYTES)

    def own_rows(self, positions: Positions) -> Positions:
        """This party's own row for each position that the helper named, in the common order.

        RemoteProtocolError if a position is out of range or stands there twice.
        """
        if positions.size and int(positions.max()) >= self._order.size:
            raise RemoteProtocolError(
                f"the helper names position {int(positions.max())} of {self._order.size} rows"
            )
        if np.unique(positions).size != positions.size:
            raise RemoteProtocolError("the helper names a row twice")
        return self._order[positions]

    def _digest(self, identifier: str) -> bytes:
        return hashlib.sha512(self._domain + identifier.encode()).digest()

    def _multiply(self, point: bytes) -> bytes:
        result: bytes = rbcl.crypto_scalarmult_ristretto255(self._scalar, point)
        return result

    def _on_cores(self, entry: Callable[[int], bytes], first: int, end: int) -> bytes:
        """Entries first..end-1 in order."""

        def block(start: int) -> bytes:
            return b"".join(map(entry, range(start, min(start + _BLOCK_POINTS, end))))

        return b"".join(self._cores.map(block, range(first, end, _BLOCK_POINTS)))


def common(lists: Mapping[str, bytes | bytearray], floor: int = 1) -> dict[str, Positions]:
    """For each party the positions of its rows that all have, in the order of the masked points.

    `lists` are the parties' lists after everybody's mask. RemoteProtocolError if a list holds a
    point twice or broken points; CohortTooSmall, before any position exists, if fewer than `floor`
    rows are common.
    """
    orders, ordered = {}, {}
    for party, points in lists.items():
        if len(points) % POINT_BYTES:
            raise RemoteProtocolError(f"the list of {party} does not consist of whole points")
        # All are equally long, so that what numpy thinks of trailing zeros makes no two equal.
        entries = np.frombuffer(points, f"S{POINT_BYTES}")
        orders[party] = np.argsort(entries)
        found = ordered[party] = entries[orders[party]]
        if (found[1:] == found[:-1]).any() or (found[:1] == b"").any():
            raise RemoteProtocolError(f"the list of {party} holds a point twice or the identity")
    shared = reduce(lambda a, b: np.intersect1d(a, b, assume_unique=True), ordered.values())
    if len(shared) < floor:
        raise CohortTooSmall(f"{len(shared)} rows are common to all, at least {floor} are needed")
    return {
        party: orders[party][np.searchsorted(found, shared)].astype(np.uint32)
        for party, found in ordered.items()
    }


def _secret_order(count: int) -> Positions:
    """Row numbers in a random order: that of 64 random bits for each, which hardly ever tie."""
    keys = np.frombuffer(os.urandom(8 * count), np.uint64)
    return np.argsort(keys).astype(np.uint32)
