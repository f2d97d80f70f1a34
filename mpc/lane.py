"""The rounds over the network: an owner shares, the members add; `mpc.opening` opens.

Memory is bounded by a chunk of 65,536 elements and not by the matrix: every party keeps one
buffer for each connection, and a receiver that falls behind holds its senders back. The buffers
that go to TLS are those into which the shares were computed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from mpc import rounds, topology
from mpc.channels import Inbound
from mpc.checking import Prover, Witnessing
from mpc.field import Elements, PrimeField
from mpc.rounds import Admitted
from mpc.setting import PATIENCE_S, Setting, broke
from mpc.shares import KEY_BYTES, KeyStream, fresh_key, split
from mpc.transport import Frame
from mpc.watch import SessionError
from protocol.errors import RemoteProtocolError
from protocol.manifest import RoundHeader

Adding = Callable[[Sequence[Elements], Elements], None]
"""Writes the sum of all elements of the first argument into the second."""

_KEY_ROOM: Final = rounds.MAX_HEADER_BYTES + 128


class ShareSender:
    """An owner's way to the committee."""

    def __init__(self, setting: Setting) -> None:
        mesh, shares = setting.mesh, topology.SHARES
        keyed = setting.committee.keyed
        self._setting = setting
        self._keyed = {member: mesh.to(member, shares) for member in keyed}
        self._channels = {
            member: mesh.to(member, shares) for member in setting.members if member not in keyed
        }
        self._frames = [Frame(setting.chunk_bytes) for _ in self._channels]
        self._prover = Prover(setting)

    def send(self, admitted: Admitted, chunks: Iterable[Elements]) -> None:
        """Share each chunk of what was admitted with fresh masks, and prove it where that is due.

        SessionError if a member is lost or late, or the recipient cheats in a check.
        """
        setting = self._setting
        header, elements = admitted.header_bytes, len(admitted.rows) * setting.width
        checked = setting.checked(admitted.header.stage, admitted.header.number, elements)
        offset = 0
        for frame in self._frames:
            offset = rounds.write_stream_head(frame.payload, header, elements)
        keys = [fresh_key() for _ in self._keyed]
        streams = [KeyStream(key) for key in keys]
        for member, key in zip(self._keyed, keys, strict=True):
            self._send_key(member, header, elements, key)
        self._prover.begin(admitted.header.number, keys)
        for place, chunk in enumerate(chunks):
            drawn = [stream.elements(setting.field, chunk.size) for stream in streams]
            outputs = self._deal(chunk, drawn, offset)
            self._prover.dealt([chunk, *drawn], outputs, checked=checked)
            offset = 0
            if checked and setting.ends_segment(place, elements):
                self._prover.prove()

    def prove(self) -> None:
        """Prove the sharing of the last round, whose opening has failed."""
        self._prover.prove()

    def _deal(self, chunk: Elements, drawn: list[Elements], offset: int) -> list[Elements]:
        """Send each member its share of the chunk; it stands in a frame until the next chunk."""
        field = self._setting.field
        outputs = [
            np.frombuffer(frame.payload, field.dtype, chunk.size, offset) for frame in self._frames
        ]
        split(field, chunk, drawn, outputs)
        size = offset + chunk.size * field.word_bytes
        for (member, channel), frame in zip(self._channels.items(), self._frames, strict=True):
            self._setting.deliver(member, channel, frame.prefix(size))
        return outputs

    def _send_key(self, member: str, header: bytes, elements: int, key: bytes) -> None:
        frame = Frame(_KEY_ROOM)
        offset = rounds.write_stream_head(frame.payload, header, elements)
        frame.payload[offset : offset + KEY_BYTES] = key
        self._setting.deliver(member, self._keyed[member], frame.prefix(offset + KEY_BYTES))


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

    def __init__(self, setting: Setting) -> None:
        mesh, self._setting = setting.mesh, setting
        self._parts = self._drawn if setting.keyed else self._received
        self._headers = mesh.of(setting.recipient, topology.HEADERS)
        self._answers = mesh.to(setting.recipient, topology.SUMS)
        self._streams = [mesh.of(owner, topology.SHARES) for owner in setting.contributors]
        self._buffers = [memoryview(bytearray(setting.chunk_bytes)) for _ in self._streams]
        self._answer = Frame(setting.chunk_bytes)
        self._witnessing = Witnessing(setting)
        self._number = 0
        self._asked = False
        self.numbers = 0

    def next_header(self, within_s: float) -> tuple[bytes, RoundHeader]:
        """The header of the next round, as the recipient sent it here.

        A check of the last round is witnessed on the way.
        """
        setting, limit = self._setting, rounds.MAX_HEADER_BYTES
        while True:
            data = bytes(self._headers.receive(within_s, limit=limit, what="the next round"))
            try:
                header = rounds.header_of(data)
                if (header.manifest, header.attempt) != (setting.manifest, setting.attempt):
                    raise RemoteProtocolError("the round belongs to another session or attempt")
                if not header.check:
                    rounds.follows(header, self._number)
                    break
                rounds.may_check(header, self._number, asked=self._asked)
            except RemoteProtocolError as error:
                raise broke(setting.recipient, str(error)) from error
            self._asked = True
            self._witnessing.witness()
        self._number = header.number
        return data, header

    def add_round(self, own: bytes, header: RoundHeader, add: Adding) -> None:
        """Add the streams of the round `header` chunk by chunk, and answer each.

        Where a check is due, it is witnessed. SessionError naming two parties whose views of the
        round differ; nothing is answered.
        """
        setting = self._setting
        total = header.rows * setting.width
        checked = setting.checked(header.stage, header.number, total)
        self._asked = checked
        self._witnessing.begin(header.number)
        sizes = self._frames()
        offset = self._check_heads(own, total, sizes)
        for place, terms in enumerate(self._parts(sizes, offset, total)):
            self._witnessing.was_dealt(terms, checked=checked)
            self._reply(terms, add)
            if checked and setting.ends_segment(place, total):
                self._witnessing.witness()
        self.numbers += total

    def _frames(self) -> list[int]:
        """The lengths of the owners' next frames, which are now in the buffers."""
        return [
            stream.receive_into(buffer, self._setting.deadline_s, what="a share")
            for stream, buffer in zip(self._streams, self._buffers, strict=True)
        ]

    def _received(self, sizes: list[int], offset: int, total: int) -> Iterator[list[Elements]]:
        """The owners' shares chunk by chunk, as they arrive."""
        for place, count in enumerate(self._setting.chunks(total)):
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
                raise broke(stream.peer, "the key of a share has another size than it should")
        keys = [bytes(buffer[offset : offset + KEY_BYTES]) for buffer in self._buffers]
        self._witnessing.hold(keys)
        drawn = [KeyStream(key) for key in keys]
        for count in self._setting.chunks(total):
            yield [stream.elements(self._setting.field, count) for stream in drawn]

    def _check_heads(self, own: bytes, total: int, sizes: Sequence[int]) -> int:
        carried: dict[str, bytes] = {}
        offset = 0
        for stream, buffer, size in zip(self._streams, self._buffers, sizes, strict=True):
            try:
                header, elements, offset = rounds.read_stream_head(buffer[:size])
            except RemoteProtocolError as error:
                raise broke(stream.peer, str(error)) from error
            carried[stream.peer] = header
            if elements != total and header == own:
                raise broke(stream.peer, f"{elements} elements where {total} were asked for")
        try:
            rounds.compare_headers(
                self._setting.recipient, own, carried, self._setting.recipient_key
            )
        except rounds.ViewsDifferError as error:
            raise SessionError(str(error), error.between) from error
        return offset

    def _elements(
        self, stream: Inbound, buffer: memoryview, size: int, offset: int, count: int
    ) -> Elements:
        if size != offset + count * self._setting.field.word_bytes:
            raise broke(stream.peer, "a chunk of shares has another size than it should")
        elements = np.frombuffer(buffer, self._setting.field.dtype, count, offset)
        if not self._setting.field.in_range(elements):
            raise broke(stream.peer, "a share is not an element of the field")
        return elements

    def _reply(self, terms: Sequence[Elements], add: Adding) -> None:
        prefix, count = rounds.ANSWER_PREFIX, terms[0].size
        prefix.pack_into(self._answer.payload, 0, self._number)
        total = np.frombuffer(self._answer.payload, self._setting.field.dtype, count, prefix.size)
        add(terms, total)
        size = prefix.size + count * self._setting.field.word_bytes
        self._answers.send_frame(self._answer.prefix(size), self._setting.deadline_s + PATIENCE_S)
