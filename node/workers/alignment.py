"""Finding the common rows over the session's connections, as party and as helper.

Sizes go round the ring before any point does, so that nobody can choose its list after seeing
another's, and a list that is longer than what was said or than the roster's cap is refused. The
lists are sent by a thread of their own: every party sends to the next while it receives from the
one before, and two full pipes would wait for each other for ever.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mpc import topology
from mpc.intersection import POINT_BYTES, Masker, Positions, common
from mpc.watch import SessionError
from node.workers.session import Session
from protocol.errors import RemoteProtocolError
from protocol.identifiers import rows_hash

_SALT_BYTES = 32
_SIZE_BYTES = 4
_DOMAIN = b"northbund/alignment/1"


@dataclass(frozen=True, slots=True)
class CommonRows:
    """This party's own rows that all parties have, in the common order, and their salted hash."""

    rows: Positions
    rows_hash: bytes


def align(session: Session, ids: Sequence[str], cohort_floor: int) -> CommonRows:
    """Find the rows common to all who align; `ids` are normalised and unique.

    SessionError if a party breaks the protocol or is late, a list is longer than it may be, or
    fewer than `cohort_floor` rows are common.
    """
    session.stage = "align"
    parties = (*session.contributors, session.recipient)
    with ThreadPoolExecutor(1, "align") as pool:
        party = _Party(session, parties, pool)
        party.exchange_sizes(len(ids))
        positions = party.exchange_points(ids)
    if len(positions) < cohort_floor:
        raise SessionError(
            f"{len(positions)} rows are common to all, {session.me} needs at least {cohort_floor}"
        )
    salt = _salt(session)
    return CommonRows(positions, rows_hash(salt, (ids[row] for row in positions)))


class _Party:
    """One place in the ring; list number j is that of the party j places before this one."""

    def __init__(self, session: Session, parties: Sequence[str], pool: ThreadPoolExecutor) -> None:
        self._session, self._parties, self._pool = session, parties, pool
        place = parties.index(session.me)
        count = len(parties)
        self._owners = [parties[(place - hop) % count] for hop in range(count)]
        self._out = session.mesh.to(parties[(place + 1) % count], topology.RING)
        self._in = session.mesh.of(self._owners[1], topology.RING)
        self._helper = session.mesh.to(session.roster.helper, topology.MASKED)
        self._positions = session.mesh.of(session.roster.helper, topology.POSITIONS)
        self._sizes: dict[str, int] = {}

    def exchange_sizes(self, own: int) -> None:
        """Every party's size travels once round the ring."""
        self._note_size(self._session.me, own)
        self._send(own.to_bytes(_SIZE_BYTES, "little"))
        for hop, owner in enumerate(self._owners[1:], start=1):
            data = self._receive(_SIZE_BYTES, "a size")
            if len(data) != _SIZE_BYTES:
                raise SessionError(f"{self._in.peer} sent no size", (self._in.peer,))
            self._note_size(owner, int.from_bytes(data, "little"))
            if hop < len(self._owners) - 1:
                self._send(data)

    def exchange_points(self, ids: Sequence[str]) -> Positions:
        """Every list travels once round the ring and to the helper; this party's own rows."""
        masker = Masker(_DOMAIN + self._session.roster_digest)
        sending = self._send(masker.hash_ids(ids))
        last = len(self._owners) - 1
        for hop, owner in enumerate(self._owners[1:], start=1):
            points = self._receive(self._sizes[owner] * POINT_BYTES, f"the list of {owner}")
            if len(points) != self._sizes[owner] * POINT_BYTES:
                reason = f"the list of {owner} has another length than was said"
                raise SessionError(reason, (self._in.peer, owner))
            sending.result()
            masked = self._blaming(masker.mask, points)
            sending = self._send(masked, to_helper=hop == last)
            self._session.progress("align", hop, last)
        sending.result()
        return self._own_rows(masker, len(ids))

    def _own_rows(self, masker: Masker, size: int) -> Positions:
        limit = size * _SIZE_BYTES
        left = self._session.alignment_left_s()
        data = self._positions.receive(left, limit=limit, what="the common rows")
        helper = self._session.roster.helper
        if len(data) % _SIZE_BYTES:
            raise SessionError(f"{helper} sent broken positions", (helper,))
        try:
            return masker.own_rows(np.frombuffer(data, "<u4"))
        except RemoteProtocolError as error:
            raise SessionError(f"{helper} broke the protocol: {error}", (helper,)) from error

    def _note_size(self, owner: str, size: int) -> None:
        cap = self._session.roster.size_cap
        if size > cap:
            reason = f"{owner} brings {size} rows to the alignment, at most {cap} are allowed"
            raise SessionError(reason, (owner,))
        self._sizes[owner] = size

    def _send(self, data: bytes | bytearray, *, to_helper: bool = False) -> Future[None]:
        channel = self._helper if to_helper else self._out
        return self._pool.submit(channel.send, bytes(data), self._session.alignment_left_s())

    def _receive(self, limit: int, what: str) -> bytearray:
        return self._in.receive(self._session.alignment_left_s(), limit=limit, what=what)

    def _blaming(self, mask: Callable[[bytes], bytes], points: bytearray) -> bytes:
        try:
            return mask(bytes(points))
        except RemoteProtocolError as error:
            peer = self._in.peer
            raise SessionError(f"{peer} broke the protocol: {error}", (peer,)) from error


def help_align(session: Session) -> None:
    """The helper: finds the points that all masked lists share, and tells each party its own rows.

    SessionError, before any position is released, if fewer rows than the roster's floor are
    common, or a list is not what it should be.
    """
    session.stage = "align"
    parties = (*session.contributors, session.recipient)
    limit = session.roster.size_cap * POINT_BYTES
    lists: dict[str, bytes] = {}
    for place, party in enumerate(parties):
        inbound = session.mesh.of(party, topology.MASKED)
        left = session.alignment_left_s()
        points = inbound.receive(left, limit=limit, what="a masked list")
        lists[parties[(place + 1) % len(parties)]] = bytes(points)
    try:
        positions = common(lists, session.roster.cohort_floor)
    except RemoteProtocolError as error:
        raise SessionError(f"the alignment failed: {error}") from error
    for party, own in positions.items():
        channel = session.mesh.to(party, topology.POSITIONS)
        channel.send(own.astype("<u4").tobytes(), session.alignment_left_s())


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
        raise SessionError(f"{session.recipient} sent no salt", (session.recipient,))
    return data
