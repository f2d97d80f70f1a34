"""One request and one answer on one stream: framing, limits, deadlines.

A stream carries a single frame each way: a 4-byte big-endian length and that many bytes. Whoever
asks closes its writing side after the frame; whoever answers reads to that end, so bytes after the
frame are noticed and a stream is never left half open. Nothing here knows libp2p: `ByteStream` is
what `node.libp2p_guard` wraps around its streams.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from protocol.errors import LocalProtocolError, RemoteProtocolError

FRAME_LIMIT = 524_288
"""The largest payload of one frame, in bytes: two documents of the largest size."""

LENGTH_SIZE = 4
END_TIMEOUT_S = 5.0
RESET_TIMEOUT_S = 1.0


class StreamBroken(Exception):  # noqa: N818  an outcome of every network, not an error of ours
    """The peer reset the stream, or the connection under it is gone."""


class ByteStream(Protocol):
    """A stream in both directions. `StreamBroken` comes out of every method but `reset`."""

    async def read(self, most: int) -> bytes:
        """1 to `most` bytes; empty once the peer has finished writing."""

    async def write(self, data: bytes) -> None:
        """All of `data` is on its way."""

    async def finish(self) -> None:
        """The peer reads an end after what was written; reading goes on."""

    async def close(self) -> None:
        """Both directions have ended in order."""

    async def reset(self) -> None:
        """The stream is gone at once, for the peer too. Raises nothing."""


async def write_frame(stream: ByteStream, payload: bytes, limit: int = FRAME_LIMIT) -> None:
    """`payload` is written as one frame. LocalProtocolError beyond `limit` bytes."""
    if len(payload) > limit:
        raise LocalProtocolError(f"a frame of {len(payload)} bytes is over the limit of {limit}")
    await stream.write(len(payload).to_bytes(LENGTH_SIZE, "big") + payload)


async def read_frame(stream: ByteStream, limit: int = FRAME_LIMIT) -> bytes:
    """The payload of the next frame, at most `limit` bytes.

    RemoteProtocolError for a longer one, StreamBroken if the stream ends before its end: that is
    how a reset looks too. Memory grows with what arrived, never with what was announced.
    """
    size = int.from_bytes(await read_exactly(stream, LENGTH_SIZE), "big")
    if size > limit:
        raise RemoteProtocolError(f"a frame of {size} bytes is over the limit of {limit}")
    return await read_exactly(stream, size)


async def read_exactly(stream: ByteStream, size: int) -> bytes:
    """The next `size` bytes. StreamBroken if the stream ends before."""
    held = bytearray()
    while len(held) < size:
        part = await stream.read(size - len(held))
        if not part:
            raise StreamBroken(f"the stream ended after {len(held)} of {size} bytes")
        held += part
    return bytes(held)


async def write_delimited(stream: ByteStream, payload: bytes) -> None:
    """`payload` is written after its length as an unsigned varint, as libp2p's own protocols do."""
    size, prefix = len(payload), bytearray()
    while size >= 0x80:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    await stream.write(bytes(prefix) + bytes([size]) + payload)


async def read_delimited(stream: ByteStream, limit: int) -> bytes:
    """The next payload after a varint of its length, at most `limit` bytes (and below 2^28).

    RemoteProtocolError for a longer one, StreamBroken if the stream ends before its end.
    """
    size = 0
    for shift in (0, 7, 14, 21):
        byte = (await read_exactly(stream, 1))[0]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise RemoteProtocolError("a length of more than four bytes")
    if size > limit:
        raise RemoteProtocolError(f"a message of {size} bytes is over the limit of {limit}")
    return await read_exactly(stream, size)


async def ask(stream: ByteStream, payload: bytes, *, answer_limit: int = FRAME_LIMIT) -> bytes:
    """The peer's answer to `payload`. The stream is closed afterwards, reset on any exception.

    StreamBroken if the peer reset it, RemoteProtocolError if the answer breaks the framing. The
    deadline is the caller's: a cancelled `ask` resets the stream.
    """
    try:
        await write_frame(stream, payload)
        await stream.finish()
        answer = await read_frame(stream, answer_limit)
        await stream.close()
    except BaseException:
        await reset(stream)
        raise
    return answer


async def answer(
    stream: ByteStream,
    handler: Callable[[bytes], Awaitable[bytes]],
    *,
    request_limit: int,
    timeout_s: float,
) -> None:
    """One request was read, handled and answered, all within `timeout_s`; the stream is gone.

    RemoteProtocolError if the request breaks the framing, is followed by more bytes or by no end;
    TooSlowError if the time is over; whatever `handler` raises. In all these
    cases the stream was reset, so a peer that opens streams and falls silent holds nothing.
    """
    try:
        with trio.fail_after(timeout_s):
            await write_frame(stream, await handler(await _read_request(stream, request_limit)))
            await stream.close()
    except BaseException:
        await reset(stream)
        raise


async def _read_request(stream: ByteStream, limit: int) -> bytes:
    request = await read_frame(stream, limit)
    with trio.move_on_after(END_TIMEOUT_S) as scope:
        if await stream.read(1):
            raise RemoteProtocolError("bytes follow the request's frame")
    if scope.cancelled_caught:
        raise RemoteProtocolError("the stream was left open after the request's frame")
    return request


async def reset(stream: ByteStream) -> None:
    """The stream is reset even if the caller is being cancelled, in at most a second."""
    with trio.move_on_after(RESET_TIMEOUT_S) as scope:
        scope.shield = True
        await stream.reset()
