"""The rounds over the network: an owner shares, the members add, the recipient opens.

Memory is bounded by a chunk of 65,536 elements and not by the matrix: every party keeps one
buffer for each connection, and a receiver that falls behind holds its senders back. The buffers
that go to TLS are those into which the shares were computed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from nacl.signing import SigningKey
from numpy.typing import NDArray

from mpc import rounds, topology
from mpc.channels import Inbound, Outbound
from mpc.committee import Committee
from mpc.field import Elements, PrimeField
from mpc.fixedpoint import Grid
from mpc.mesh import Mesh
from mpc.rounds import Gradient, Rows
from mpc.shares import (
    KEY_BYTES,
    InconsistentError,
    KeyStream,
    fresh_key,
    open_shares,
    split,
)
from mpc.transport import Frame
from mpc.watch import SessionError
from protocol.envelope import seal
from protocol.errors import RemoteProtocolError
from protocol.manifest import RoundHeader, Stage

Adding = Callable[[Sequence[Elements], Elements], None]
"""Writes the sum of all elements of the first argument into the second."""

_HEAD_ROOM: Final = rounds.MAX_HEADER_BYTES + 128
PATIENCE_S: Final = 1.0
"""How much longer the recipient waits than members do, and owners than the recipient: whoever
stands nearest to the party that is late shall name it."""


def chunk_bytes(field: PrimeField, width: int) -> int:
    """The size of the largest frame of a round."""
    return _HEAD_ROOM + rounds.chunk_rows(width) * width * field.word_bytes


class ShareSender:
    """An owner's way to the committee."""

    def __init__(
        self, mesh: Mesh, committee: Committee, field: PrimeField, width: int, deadline_s: float
    ) -> None:
        shares = topology.SHARES
        self._keyed = [mesh.to(member, shares) for member in committee.keyed]
        self._channels = [
            mesh.to(member, shares) for member in committee.members if member not in committee.keyed
        ]
        self._field, self._deadline_s = field, deadline_s
        self._frames = [Frame(chunk_bytes(field, width)) for _ in self._channels]

    def send(self, header: bytes, elements: int, chunks: Iterable[Elements]) -> None:
        """Share each chunk with fresh masks and send it under the round's `header`."""
        offset = 0
        for frame in self._frames:
            offset = rounds.write_stream_head(frame.payload, header, elements)
        streams = [self._send_key(channel, header, elements) for channel in self._keyed]
        for chunk in chunks:
            outputs = [
                np.frombuffer(frame.payload, self._field.dtype, chunk.size, offset)
                for frame in self._frames
            ]
            drawn = [stream.elements(self._field, chunk.size) for stream in streams]
            split(self._field, chunk, drawn, outputs)
            size = offset + chunk.size * self._field.word_bytes
            for channel, frame in zip(self._channels, self._frames, strict=True):
                channel.send_frame(frame.prefix(size), self._deadline_s)
            offset = 0

    def _send_key(self, channel: Outbound, header: bytes, elements: int) -> KeyStream:
        """The stream of the share whose fresh key the member at the other end now holds too."""
        key = fresh_key()
        frame = Frame(_HEAD_ROOM)
        offset = rounds.write_stream_head(frame.payload, header, elements)
        frame.payload[offset : offset + KEY_BYTES] = key
        channel.send_frame(frame.prefix(offset + KEY_BYTES), self._deadline_s)
        return KeyStream(key)


def adding(field: PrimeField) -> Adding:
    """The lane's own engine: sums in numpy."""

    def add(terms: Sequence[Elements], total: Elements) -> None:
        if len(terms) == 1:
            total[:] = terms[0]
            return
        field.add(terms[0], terms[1], out=total)
        for term in terms[2:]:
            field.add_into(total, term)

    return add


class Adder:
    """A member: adds the owners' streams of each round and answers the recipient."""

    def __init__(
        self,
        mesh: Mesh,
        contributors: Sequence[str],
        recipient: str,
        field: PrimeField,
        width: int,
        *,
        keyed: bool,
        recipient_key: bytes,
        manifest: bytes,
        attempt: int,
        deadline_s: float,
    ) -> None:
        self._recipient, self._recipient_key = recipient, recipient_key
        self._expected = (manifest, attempt)
        self._field, self._width, self._deadline_s = field, width, deadline_s
        self._parts = self._drawn if keyed else self._received
        self._headers = mesh.of(recipient, topology.HEADERS)
        self._answers = mesh.to(recipient, topology.SUMS)
        self._streams = [mesh.of(owner, topology.SHARES) for owner in contributors]
        size = chunk_bytes(field, width)
        self._buffers = [memoryview(bytearray(size)) for _ in contributors]
        self._answer = Frame(size)
        self._number = 0
        self.numbers = 0

    def next_header(self, within_s: float) -> tuple[bytes, RoundHeader]:
        """The header of the next round, as the recipient sent it here."""
        limit = rounds.MAX_HEADER_BYTES
        data = bytes(self._headers.receive(within_s, limit=limit, what="the next round"))
        try:
            header = rounds.header_of(data)
            if (header.manifest, header.attempt) != self._expected:
                raise RemoteProtocolError("the round belongs to another session or attempt")
            if header.number != self._number + 1:
                raise RemoteProtocolError(f"round {header.number} follows {self._number}")
        except RemoteProtocolError as error:
            raise SessionError(
                f"{self._recipient} broke the protocol: {error}", (self._recipient,)
            ) from error
        self._number = header.number
        return data, header

    def add_round(self, own: bytes, header: RoundHeader, add: Adding) -> None:
        """Add the streams of the round `header` chunk by chunk, and answer each.

        SessionError naming two parties whose views of the round differ; nothing is answered.
        """
        total = header.rows * self._width
        sizes = self._frames()
        offset = self._check_heads(own, total, sizes)
        for terms in self._parts(sizes, offset, total):
            self._reply(terms, add)
        self.numbers += total

    def _frames(self) -> list[int]:
        """The lengths of the owners' next frames, which are now in the buffers."""
        return [
            stream.receive_into(buffer, self._deadline_s, what="a share")
            for stream, buffer in zip(self._streams, self._buffers, strict=True)
        ]

    def _chunks(self, total: int) -> Iterator[int]:
        """How many elements each chunk of a round has."""
        step = rounds.chunk_rows(self._width) * self._width
        return (min(step, total - start) for start in range(0, total, step))

    def _received(self, sizes: list[int], offset: int, total: int) -> Iterator[list[Elements]]:
        """The owners' shares chunk by chunk, as they arrive."""
        for place, count in enumerate(self._chunks(total)):
            if place:
                sizes, offset = self._frames(), 0
            yield [
                self._elements(stream, buffer, size, offset, count)
                for stream, buffer, size in zip(self._streams, self._buffers, sizes, strict=True)
            ]

    def _drawn(self, sizes: list[int], offset: int, total: int) -> Iterator[list[Elements]]:
        """The owners' shares chunk by chunk, out of the keys that they have sent."""
        for stream, size in zip(self._streams, sizes, strict=True):
            if size != offset + KEY_BYTES:
                raise _broke(stream.peer, "the key of a share has another size than it should")
        keys = [bytes(buffer[offset : offset + KEY_BYTES]) for buffer in self._buffers]
        drawn = [KeyStream(key) for key in keys]
        for count in self._chunks(total):
            yield [stream.elements(self._field, count) for stream in drawn]

    def _check_heads(self, own: bytes, total: int, sizes: Sequence[int]) -> int:
        carried: dict[str, bytes] = {}
        offset = 0
        for stream, buffer, size in zip(self._streams, self._buffers, sizes, strict=True):
            try:
                header, elements, offset = rounds.read_stream_head(buffer[:size])
            except RemoteProtocolError as error:
                raise _broke(stream.peer, str(error)) from error
            carried[stream.peer] = header
            if elements != total and header == own:
                raise _broke(stream.peer, f"{elements} elements where {total} were asked for")
        try:
            rounds.compare_headers(self._recipient, own, carried, self._recipient_key)
        except rounds.ViewsDifferError as error:
            raise SessionError(str(error), error.between) from error
        return offset

    def _elements(
        self, stream: Inbound, buffer: memoryview, size: int, offset: int, count: int
    ) -> Elements:
        if size != offset + count * self._field.word_bytes:
            raise _broke(stream.peer, "a chunk of shares has another size than it should")
        elements = np.frombuffer(buffer, self._field.dtype, count, offset)
        if not self._field.in_range(elements):
            raise _broke(stream.peer, "a share is not an element of the field")
        return elements

    def _reply(self, terms: Sequence[Elements], add: Adding) -> None:
        prefix, count = rounds.ANSWER_PREFIX, terms[0].size
        prefix.pack_into(self._answer.payload, 0, self._number)
        total = np.frombuffer(self._answer.payload, self._field.dtype, count, prefix.size)
        add(terms, total)
        size = prefix.size + count * self._field.word_bytes
        self._answers.send_frame(self._answer.prefix(size), self._deadline_s + PATIENCE_S)


class Opener:
    """The recipient: orders rounds, asks all members, and opens only what fits together."""

    def __init__(
        self,
        mesh: Mesh,
        contributors: Sequence[str],
        committee: Committee,
        grid: Grid,
        width: int,
        *,
        session_key: SigningKey,
        manifest: bytes,
        attempt: int,
        deadline_s: float,
    ) -> None:
        self._orders = {owner: mesh.to(owner, topology.ORDERS) for owner in contributors}
        self._headers = {member: mesh.to(member, topology.HEADERS) for member in committee.members}
        self._answers = [mesh.of(member, topology.SUMS) for member in committee.members]
        self._committee, self._grid, self._width = committee, grid, width
        self._session_key, self._manifest, self._attempt = session_key, manifest, attempt
        self._deadline_s = deadline_s
        size = chunk_bytes(grid.field, width)
        self._buffers = [memoryview(bytearray(size)) for _ in committee.members]
        self.number = 0
        self.corrected: set[str] = set()

    def open(self, stage: Stage, rows: Rows, gradient: Gradient | None) -> NDArray[np.float64]:
        """Z of `rows`, float64 (n, k), after handing every owner the `gradient` of the last round.

        SessionError if a party is lost or late, or the answers do not fit together and it cannot
        be told whose is wrong. A wrong answer that could be left out is noted in `corrected`.
        """
        self.number += 1
        self._send_orders(self._orders_for(stage, rows, gradient))
        opened = np.empty(len(rows) * self._width)
        step = rounds.chunk_rows(self._width) * self._width
        for start in range(0, opened.size, step):
            count = min(step, opened.size - start)
            answers = [
                self._answer(inbound, buffer, count)
                for inbound, buffer in zip(self._answers, self._buffers, strict=True)
            ]
            opened[start : start + count] = self._grid.reals(self._combine(answers))
        return opened.reshape(-1, self._width)

    def _header(self, stage: Stage, rows: Rows, gradient: Gradient | None) -> bytes:
        header = RoundHeader(
            manifest=self._manifest,
            number=self.number,
            attempt=self._attempt,
            stage=stage,
            rows=len(rows),
            rows_hash=rounds.rows_digest(rows),
            gradient_hash=rounds.gradient_digest(gradient),
        )
        return rounds.encoded_header(seal(header, self._session_key))

    def _orders_for(
        self, stage: Stage, rows: Rows, gradient: Gradient | None
    ) -> Mapping[str, bytes]:
        """The bytes for each party: the signed header for members, the order for owners."""
        header = self._header(stage, rows, gradient)
        order = rounds.pack_order(header, rows, gradient)
        return dict.fromkeys(self._headers, header) | dict.fromkeys(self._orders, order)

    def _send_orders(self, orders: Mapping[str, bytes]) -> None:
        for name, channel in (*self._headers.items(), *self._orders.items()):
            channel.send(orders[name], self._deadline_s)

    def _answer(self, inbound: Inbound, buffer: memoryview, count: int) -> Elements:
        prefix, field = rounds.ANSWER_PREFIX, self._grid.field
        size = inbound.receive_into(buffer, self._deadline_s + PATIENCE_S, what="a sum")
        if size != prefix.size + count * field.word_bytes:
            raise _broke(inbound.peer, "a sum has another size than it should")
        (number,) = prefix.unpack_from(buffer)
        elements = np.frombuffer(buffer, field.dtype, count, prefix.size)
        if number != self.number or not field.in_range(elements):
            raise _broke(inbound.peer, "a sum of another round, or outside the field")
        return elements

    def _combine(self, answers: Sequence[Elements]) -> Elements:
        committee = self._committee
        try:
            value, wrong = open_shares(
                self._grid.field, committee.points, answers, committee.threshold
            )
        except InconsistentError as error:
            reason = (
                f"round {self.number}: {error}; it is a member, or a contributor whose shares "
                "were of no such polynomial"
            )
            raise SessionError(reason, committee.members) from error
        self.corrected.update(committee.named(wrong))
        return value


def _broke(party: str, what: str) -> SessionError:
    return SessionError(f"{party} broke the protocol: {what}", (party,))
