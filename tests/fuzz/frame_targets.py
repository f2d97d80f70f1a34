"""Frames of libp2p streams, of workers' connections and of a worker's pipe, and what is in them."""

import numpy as np
import trio

from mpc import intersection, programs, rounds, transport
from mpc.supervisor import Worker
from mpc.watch import Abort, Beat, Done
from node.streams import FRAME_LIMIT, StreamBroken, answer, ask, read_frame
from protocol import codec
from protocol.errors import RemoteProtocolError
from tests.fuzz import wire_kinds
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import examples


class Scripted:
    """A peer that has already said everything."""

    def __init__(self, said: bytes) -> None:
        self._said = memoryview(said)

    async def read(self, most: int) -> bytes:
        part, self._said = self._said[:most], self._said[most:]
        return bytes(part)

    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    async def close(self) -> None: ...
    async def reset(self) -> None: ...

    async def receive_some(self, most: int) -> bytes:
        """The same as a pipe."""
        return await self.read(most)


class _Socket:
    """What a TLS connection looks like to the reader of frames."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def recv_into(self, target: memoryview) -> int:
        part = self._said[: len(target)]
        self._said = self._said[len(part) :]
        target[: len(part)] = part
        return len(part)


def frames() -> list[Target]:
    """Frames of libp2p streams, of workers' connections and of a worker's pipe."""
    frame = len(b"hello").to_bytes(4, "big") + b"hello"
    ends = (RemoteProtocolError, StreamBroken)

    async def echo(request: bytes) -> bytes:
        return request

    async def served(data: bytes) -> None:
        await answer(Scripted(data), echo, request_limit=4096, timeout_s=5)

    async def asked(data: bytes) -> None:
        if len(await ask(Scripted(data), b"?")) > FRAME_LIMIT:
            raise AssertionError("an answer over the limit")

    async def framed(data: bytes) -> None:
        stream = Scripted(data)
        while True:
            await read_frame(stream, 4096)

    def worker_frame(data: bytes) -> None:
        tls: object = _Socket(data)
        while True:
            size = transport.receive_length(tls, 4096)  # type: ignore[arg-type]
            transport.receive_exactly(tls, memoryview(bytearray(size)))  # type: ignore[arg-type]

    return [
        Target("stream-request", lambda data: trio.run(served, data), (frame,), ends),
        Target("stream-answer", lambda data: trio.run(asked, data), (frame,), ends),
        Target("stream-frames", lambda data: trio.run(framed, data), (frame * 3,), ends),
        Target(
            "worker-frames",
            worker_frame,
            (transport.Frame(9).whole.tobytes() * 2,),
            (RemoteProtocolError, EOFError),
        ),
    ]


class _Process:
    """A worker process that has said everything and ended."""

    pid = 1
    stdin = None

    def __init__(self, said: bytes) -> None:
        self.stdout = Scripted(said)


def workers() -> list[Target]:
    """What workers say to each other and to their daemon."""
    points = b"".join(intersection.Masker(b"domain").hashed(["a", "b", "c"]))
    masker = intersection.Masker(b"domain")
    b"".join(masker.hashed(["a", "b", "c"]))
    header = examples()["signed"]
    order = rounds.pack_order(header, np.arange(4, dtype=np.uint32), np.ones((4, 2), np.float32))
    head = bytearray(rounds.stream_offset(len(header)))
    rounds.write_stream_head(memoryview(head), header, 8)
    kinds = tuple(wire_kinds.kinds().values())
    report = examples()["finished"]

    async def reported(data: bytes) -> None:
        process: object = _Process(data)
        worker = Worker(process, kinds, 1 << 16)  # type: ignore[arg-type]
        while await worker.report() is not None:
            pass

    def share_stream(data: bytes) -> None:
        rounds.read_stream_head(memoryview(data))

    def lists(data: bytes) -> None:
        half = len(data) // 2 // 32 * 32
        intersection.common({"a": data[:half], "b": data[half:]})

    def positions(data: bytes) -> None:
        masker.own_rows(np.frombuffer(data[: len(data) // 4 * 4], "<u4"))

    codec_of_mpyc = programs.IntegerCodec(lambda _reason: None)
    integers = (codec_of_mpyc.dumps(7), codec_of_mpyc.dumps(np.arange(3)))
    return [
        Target("mpyc-integers", codec_of_mpyc.loads, integers),
        Target("notice", lambda data: codec.decode(data, Beat, Done, Abort)),
        Target("order", rounds.unpack_order, (order,)),
        Target("share-stream", share_stream, (bytes(head),)),
        Target("round-header", rounds.header_of, (header,)),
        Target("masked-points", masker.mask, (points,)),
        Target("masked-lists", lists, (points * 2,)),
        Target("row-positions", positions, (bytes(4) + b"\1\0\0\0",)),
        Target(
            "worker-reports",
            lambda data: trio.run(reported, data),
            (len(report).to_bytes(4, "big") + report,),
        ),
    ]
