"""Framing, limits and deadlines, over streams in memory."""

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from node.streams import (
    FRAME_LIMIT,
    ByteStream,
    StreamBroken,
    answer,
    ask,
    read_frame,
    write_frame,
)
from protocol.errors import LocalProtocolError, RemoteProtocolError


class MemoryStream:
    """One end of a pair in memory, with the outcomes of a network stream."""

    def __init__(self, half: trio.testing._memory_streams.StapledStream) -> None:  # type: ignore[name-defined]
        self._half = half
        self.was_reset = False

    async def read(self, most: int) -> bytes:
        try:
            return bytes(await self._half.receive_some(most))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamBroken(str(error)) from error

    async def write(self, data: bytes) -> None:
        try:
            await self._half.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamBroken(str(error)) from error

    async def finish(self) -> None:
        await self._half.send_eof()

    async def close(self) -> None:
        await self._half.aclose()

    async def reset(self) -> None:
        self.was_reset = True
        await self._half.aclose()


class Scripted:
    """A peer that has already said everything: for decoding alone."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    async def read(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        part, self._said = self._said[:most], self._said[most:]
        return part

    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    async def close(self) -> None: ...
    async def reset(self) -> None: ...


def pair() -> tuple[MemoryStream, MemoryStream]:
    one, two = trio.testing.memory_stream_pair()
    return MemoryStream(one), MemoryStream(two)


async def shout(request: bytes) -> bytes:
    return request.upper()


async def serve(stream: ByteStream, errors: list[Exception], timeout_s: float = 2.0) -> None:
    try:
        await answer(stream, shout, request_limit=16, timeout_s=timeout_s)
    except Exception as error:  # noqa: BLE001
        errors.append(error)


async def test_one_request_and_one_answer() -> None:
    near, far = pair()
    errors: list[Exception] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, far, errors)
        assert await ask(near, b"hello") == b"HELLO"
    assert errors == []
    assert not near.was_reset
    assert not far.was_reset


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"\x00\x00\x00\x11" + bytes(17), "over the limit of 16"),
        (b"\xff\xff\xff\xff", "over the limit of 16"),
        (b"\x00\x00\x00\x01ab", "bytes follow"),
        (b"\x00\x00\x00\x05abc", "ended after 3 of 5"),
        (b"\x00\x00", "ended after 2 of 4"),
        (b"", "ended after 0 of 4"),
    ],
)
async def test_a_request_that_breaks_the_framing_resets_the_stream(
    said: bytes, expected: str
) -> None:
    near, far = pair()
    errors: list[Exception] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, far, errors)
        await near.write(said)
        await near.finish()
    assert expected in str(errors[0])
    assert far.was_reset


async def test_a_request_that_stays_open_ends_after_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = pair()
    errors: list[Exception] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, far, errors, 60.0)
        await write_frame(near, b"x")
    assert isinstance(errors[0], RemoteProtocolError)
    assert "left open" in str(errors[0])


async def test_a_silent_peer_has_the_streams_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    _near, far = pair()
    errors: list[Exception] = []
    await serve(far, errors, 3.0)
    assert isinstance(errors[0], trio.TooSlowError)
    assert trio.current_time() == pytest.approx(3.0)
    assert far.was_reset


async def test_an_asker_that_is_cancelled_resets_its_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, _far = pair()
    with trio.move_on_after(1):
        await ask(near, b"anybody there?")
    assert near.was_reset


async def test_a_frame_over_the_limit_is_never_sent() -> None:
    near, _far = pair()
    with pytest.raises(LocalProtocolError):
        await write_frame(near, bytes(FRAME_LIMIT + 1))


@given(said=st.binary(max_size=64), limit=st.integers(0, 32))
def test_whatever_is_said_is_a_frame_or_a_named_failure(said: bytes, limit: int) -> None:
    async def read() -> bytes | None:
        try:
            return await read_frame(Scripted(said), limit)
        except (RemoteProtocolError, StreamBroken):
            return None

    frame = trio.run(read)
    size = int.from_bytes(said[:4], "big")
    whole = len(said) >= 4 and size <= limit and len(said) >= 4 + size
    assert frame == (said[4 : 4 + size] if whole else None)
