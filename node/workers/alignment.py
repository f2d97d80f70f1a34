"""Finding the common rows over the session's connections, as party and as helper.

Sizes go round the ring before any point does, so that nobody can choose its list after seeing
another's; a list that is longer than was said or than the roster's cap is refused. Then the daemon
counts, durably, how many ids are tested against this owner's rows (floor 12), and nothing is
masked before it has said so.

Each list flows through a party in chunks: received, masked, passed on. A connection of its own for
each step keeps the lists from waiting for each other, and a slow receiver slows its sender down:
a party holds no more of another's list than a chunk and what the connections' buffers hold. The
helper holds all lists, 32 bytes for each id.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpc import topology
from mpc.channels import Inbound
from mpc.intersection import CHUNK_POINTS, POINT_BYTES, Masker, Positions, common
from mpc.watch import SessionError
from node.workers import messages as m
from node.workers.session import Session
from protocol.errors import RemoteProtocolError
from protocol.identifiers import rows_hash

_SALT_BYTES = 32
_SIZE_BYTES = 4
_DOMAIN = b"northbund/alignment/1"
_GLANCE_S = 0.2


@dataclass(frozen=True, slots=True)
class CommonRows:
    """This party's own rows that all parties have, in the common order, and their salted hash."""

    rows: Positions
    rows_hash: bytes


def align(session: Session, ids: Sequence[str], cohort_floor: int) -> CommonRows:
    """Find the rows common to all who align; `ids` are normalised and unique.

    SessionError if a party breaks the protocol or is late, a list is longer or shorter than it may
    be, or fewer than `cohort_floor` rows are common.
    """
    session.stage = "align"
    party = _Party(session)
    sizes = party.exchange_sizes(len(ids))
    brought = tuple(m.BroughtIds(party=name, ids=size) for name, size in sizes.items())
    session.desk.report(m.Sized(brought=brought))
    session.desk.receive(m.Mask, glance=session.mesh.check)
    positions = party.exchange_points(ids)
    if len(positions) < cohort_floor:
        raise SessionError(
            f"{len(positions)} rows are common to all, {session.me} needs at least {cohort_floor}"
        )
    salt = _salt(session)
    return CommonRows(positions, rows_hash(salt, (ids[row] for row in positions)))


class _Party:
    """One place in the ring; list number j is that of the party j places before this one."""

    def __init__(self, session: Session) -> None:
        self._session, self._mesh = session, session.mesh
        parties = _who_align(session)
        place, count = parties.index(session.me), len(parties)
        self._owners = [parties[(place - hop) % count] for hop in range(count)]
        following, before = parties[(place + 1) % count], self._owners[1]
        hops = range(1, count)
        self._in = {hop: session.mesh.of(before, topology.at_hop(hop)) for hop in hops}
        self._out = [session.mesh.to(following, topology.at_hop(hop)) for hop in hops]
        self._out.append(session.mesh.to(session.roster.helper, topology.MASKED))
        self._sizes: dict[str, int] = {}
        self._passed = [0] * count

    def exchange_sizes(self, own: int) -> dict[str, int]:
        """Every party's size travels once round the ring, and to the helper in its list's way."""
        self._note_size(self._session.me, own)
        self._out[0].send(_size(own), self._left)
        for hop, owner in enumerate(self._owners[1:], start=1):
            inbound = self._in[hop]
            data = inbound.receive(self._left, limit=_SIZE_BYTES, what=f"the size of {owner}")
            self._note_size(owner, _read_size(data, inbound))
            self._out[hop].send(data, self._left)
        return dict(self._sizes)

    def exchange_points(self, ids: Sequence[str]) -> Positions:
        """Every list travels once round the ring and to the helper; this party's own rows."""
        masker = Masker(_DOMAIN + self._session.roster_digest)
        lists = [masker.hashed(ids)]
        lists += [self._masked(masker, hop) for hop in range(1, len(self._owners))]
        with ThreadPoolExecutor(len(lists), "list") as pool:
            passing = [pool.submit(self._pass_on, *each) for each in enumerate(lists)]
            _wait_for(self._session, passing, self._progress)
        return self._own_rows(masker, len(ids))

    def _masked(self, masker: Masker, hop: int) -> Iterator[bytes]:
        """The list of the party `hop` places before, as it comes, under this party's mask too."""
        inbound, owner = self._in[hop], self._owners[hop]
        size, place = self._sizes[owner], 0
        while place < size:
            points = _receive_points(self._session, inbound, size - place, owner)
            try:
                yield masker.mask(points, place)
            except RemoteProtocolError as error:
                raise _broken(inbound, f"the list of {owner}: {error}") from error
            place += len(points) // POINT_BYTES

    def _pass_on(self, hop: int, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self._out[hop].send(chunk, self._left)
            self._passed[hop] += len(chunk) // POINT_BYTES

    def _progress(self) -> None:
        self._session.progress("align", sum(self._passed), sum(self._sizes.values()))

    def _own_rows(self, masker: Masker, size: int) -> Positions:
        inbound = self._mesh.of(self._session.roster.helper, topology.POSITIONS)
        data = inbound.receive(self._left, limit=size * _SIZE_BYTES, what="the common rows")
        if len(data) % _SIZE_BYTES:
            raise _broken(inbound, "its positions are no whole numbers")
        try:
            return masker.own_rows(np.frombuffer(data, "<u4"))
        except RemoteProtocolError as error:
            raise _broken(inbound, str(error)) from error

    def _note_size(self, owner: str, size: int) -> None:
        roster = self._session.roster
        if not roster.cohort_floor <= size <= roster.size_cap:
            reason = (
                f"{owner} brings {size} rows to the alignment, {roster.cohort_floor} to "
                f"{roster.size_cap} may be"
            )
            raise SessionError(reason, (owner,))
        self._sizes[owner] = size

    @property
    def _left(self) -> float:
        return self._session.alignment_left_s()


def help_align(session: Session) -> None:
    """The helper: finds the points that all masked lists share, and tells each party its own rows.

    SessionError, before any position is released, if fewer rows than the roster's floor are
    common, or a list is not what it should be.
    """
    session.stage = "align"
    parties = _who_align(session)
    with ThreadPoolExecutor(len(parties), "list") as pool:
        coming = {
            owner: pool.submit(_whole_list, session, owner, parties[place - 1])
            for place, owner in enumerate(parties)  # whose last step is that from before its owner
        }
        _wait_for(session, coming.values(), lambda: None)
    lists = {owner: each.result() for owner, each in coming.items()}
    try:
        positions = common(lists, session.roster.cohort_floor)
    except RemoteProtocolError as error:
        raise SessionError(f"the alignment failed: {error}") from error
    for party, own in positions.items():
        channel = session.mesh.to(party, topology.POSITIONS)
        channel.send(own.astype("<u4").tobytes(), session.alignment_left_s())


def _whole_list(session: Session, owner: str, last: str) -> bytearray:
    """The list of `owner` after everybody's mask, as `last` passes it on."""
    inbound = session.mesh.of(last, topology.MASKED)
    left = session.alignment_left_s()
    size = _read_size(inbound.receive(left, limit=_SIZE_BYTES, what="a size"), inbound)
    if size > session.roster.size_cap:
        raise _broken(inbound, f"a list of {size} rows, at most {session.roster.size_cap} may be")
    points = bytearray()  # grows with what comes, not with what was said
    while len(points) < size * POINT_BYTES:
        points += _receive_points(session, inbound, size - len(points) // POINT_BYTES, owner)
    return points


def _receive_points(session: Session, inbound: Inbound, rest: int, owner: str) -> bytes:
    """The next points of a list of which `rest` are still to come: whole ones, and not none."""
    limit = min(rest, CHUNK_POINTS) * POINT_BYTES
    left = session.alignment_left_s()
    points = bytes(inbound.receive(left, limit=limit, what=f"the list of {owner}"))
    if not points or len(points) % POINT_BYTES:
        raise _broken(inbound, f"the list of {owner} goes on with {len(points)} bytes")
    return points


def _wait_for(session: Session, passing: Iterable[Future[Any]], tell: Callable[[], None]) -> None:
    """Return when all lists have passed; the first that cannot ends the session for all others."""
    pending = set(passing)
    while pending:
        done, pending = wait(pending, _GLANCE_S, FIRST_EXCEPTION)
        for each in done:
            try:
                each.result()
            except SessionError as error:
                session.mesh.watch.fail(error)  # wakes the threads that wait on connections
                raise
        tell()


def _who_align(session: Session) -> tuple[str, ...]:
    return (*session.contributors, session.recipient)


def _size(ids: int) -> bytes:
    return ids.to_bytes(_SIZE_BYTES, "little")


def _read_size(data: bytes | bytearray, inbound: Inbound) -> int:
    if len(data) != _SIZE_BYTES:
        raise _broken(inbound, "it sent no size")
    return int.from_bytes(data, "little")


def _broken(inbound: Inbound, why: str) -> SessionError:
    return SessionError(f"{inbound.peer} broke the protocol: {why}", (inbound.peer,))


def _salt(session: Session) -> bytes:
    """32 bytes that the recipient draws and all contributors receive; members never see them."""
    left = session.alignment_left_s()
    if session.me == session.recipient:
        salt = os.urandom(_SALT_BYTES)
        for owner in session.contributors:
            session.mesh.to(owner, topology.SALT).send(salt, left)
        return salt
    inbound = session.mesh.of(session.recipient, topology.SALT)
    data = bytes(inbound.receive(left, limit=_SALT_BYTES, what="the salt"))
    if len(data) != _SALT_BYTES:
        raise _broken(inbound, "it sent no salt")
    return data
