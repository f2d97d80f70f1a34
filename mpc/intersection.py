"""Private set intersection of several parties on ristretto255.

Model. Parties P1..Pn each hold a secret scalar for one session. A party hashes its identifiers to
the group, masks the points and sends the list once round the ring, where each other party masks it
with its own scalar; Diffie-Hellman masks commute, so an identifier ends as the same point whichever
list it stood in. A helper without data finds the points that all lists share and returns to each
party the positions of its own rows, in one common order.

Adversary: curious parties and a curious helper; decisional Diffie-Hellman on ristretto255 and
SHA-512 as a random oracle. What leaks, by design: each party learns which of its own rows are
common, and every size; the helper learns the sizes and how the masked lists overlap, and no
identifier. A helper that colludes with a party can tell it pairwise overlaps, and a party can test
guessed identifiers by putting them into its own list: sizes are therefore committed and capped, and
tests budgeted, by the caller. A list leaves in a secret order, so that its positions tell nothing
of the order of the owner's file.

Sources: Meadows 1986 and Huberman, Franklin and Hogg 1999 (commutative masks); RFC 9496
(ristretto255).
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import rbcl
from numpy.typing import NDArray

from protocol.errors import RemoteProtocolError

POINT_BYTES = 32
Positions = NDArray[np.uint32]

_THREADS = 2
_CHUNK_POINTS = 256
_IDENTITY = bytes(POINT_BYTES)


class CohortTooSmall(RemoteProtocolError):  # noqa: N818  what it is, not whose fault
    """The parties have fewer rows in common than the floor; no position was released."""


class Masker:
    """One party's secret scalar and secret order for one session."""

    def __init__(self, domain: bytes) -> None:
        """`domain` separates this session's points from every other's; all parties pass the same.

        The scalar and the order come from the operating system and never leave the object.
        """
        self._domain = len(domain).to_bytes(4, "big") + domain
        self._scalar = rbcl.crypto_core_ristretto255_scalar_random()
        self._order: Positions = np.zeros(0, np.uint32)

    def hash_ids(self, identifiers: Sequence[str]) -> bytes:
        """This party's own points, hashed and masked once, in its secret order; n * 32 bytes.

        `identifiers` are normalised and unique; ValueError if one stands there twice, since the
        helper could not tell which of the two rows is meant.
        """
        if len(set(identifiers)) != len(identifiers):
            raise ValueError("an identifier stands twice in the list to align")
        order = list(range(len(identifiers)))
        secrets.SystemRandom().shuffle(order)
        self._order = np.array(order, np.uint32)

        def masked(place: int) -> bytes:
            point = rbcl.crypto_core_ristretto255_from_hash(self._hashed(identifiers[order[place]]))
            return self._multiply(point)

        return _in_threads(masked, len(order))

    def mask(self, points: bytes) -> bytes:
        """The same list under this party's mask too, its order kept.

        RemoteProtocolError, naming the position, if an entry is no point of the group, is its
        identity, or the length is no multiple of 32.
        """
        if len(points) % POINT_BYTES:
            raise RemoteProtocolError(f"a list of points has {len(points)} bytes, not whole points")

        def masked(place: int) -> bytes:
            point = points[POINT_BYTES * place : POINT_BYTES * (place + 1)]
            try:
                return self._multiply(point)
            except RuntimeError as error:
                raise RemoteProtocolError(
                    f"entry {place} is not a point of ristretto255"
                ) from error

        return _in_threads(masked, len(points) // POINT_BYTES)

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

    def _hashed(self, identifier: str) -> bytes:
        return hashlib.sha512(self._domain + identifier.encode()).digest()

    def _multiply(self, point: bytes) -> bytes:
        result: bytes = rbcl.crypto_scalarmult_ristretto255(self._scalar, point)
        return result


def common(lists: Mapping[str, bytes], floor: int = 1) -> dict[str, Positions]:
    """For each party the positions of its rows that all have, in the order of the masked points.

    `lists` are the parties' lists after everybody's mask. RemoteProtocolError if a list holds a
    point twice or broken points; CohortTooSmall, before any position exists, if fewer than `floor`
    rows are common.
    """
    places: dict[str, dict[bytes, int]] = {}
    for party, points in lists.items():
        if len(points) % POINT_BYTES:
            raise RemoteProtocolError(f"the list of {party} does not consist of whole points")
        entries = [points[at : at + POINT_BYTES] for at in range(0, len(points), POINT_BYTES)]
        places[party] = {point: place for place, point in enumerate(entries)}
        if len(places[party]) != len(entries) or _IDENTITY in places[party]:
            raise RemoteProtocolError(f"the list of {party} holds a point twice or the identity")
    shared = set.intersection(*(set(found) for found in places.values())) if places else set()
    if len(shared) < floor:
        raise CohortTooSmall(f"{len(shared)} rows are common to all, at least {floor} are needed")
    order = sorted(shared)
    return {
        party: np.array([found[point] for point in order], np.uint32)
        for party, found in places.items()
    }


def _in_threads(entry: Callable[[int], bytes], count: int) -> bytes:
    """Entries 0..count-1 in order; the group's arithmetic releases the interpreter's lock."""

    def chunk(start: int) -> bytes:
        return b"".join(entry(place) for place in range(start, min(start + _CHUNK_POINTS, count)))

    with ThreadPoolExecutor(_THREADS) as pool:
        return b"".join(pool.map(chunk, range(0, count, _CHUNK_POINTS)))
