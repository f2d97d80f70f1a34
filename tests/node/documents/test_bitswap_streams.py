"""Bitswap as a peer meets it: what it asks for and sends, in order or not."""

import os
import random

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libp2p.bitswap.client import BitswapClient
from libp2p.bitswap.pb.bitswap_pb2 import Message
from libp2p.peer.id import ID

from node import assets, document_stock
from node.bitswap import STREAMS_PER_PEER, Bitswap
from node.host import open_host
from node.libp2p_guard import Limits, open_guard
from node.streams import StreamBroken
from protocol import bitswap, documents
from protocol.bitswap import BITSWAP_PROTOCOL, CID_PREFIX
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId

ANY = "/ip4/127.0.0.1/tcp/0"


class Pipe:
    """A stream from a peer that wrote `data` in pieces and then ends, or falls silent."""

    def __init__(self, data: bytes, *, silent: bool = False, piece: int = 1 << 20) -> None:
        self._data = data
        self._silent = silent
        self._piece = piece
        self.ended = ""

    async def read(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._data and self._silent:
            await trio.sleep_forever()
        size = min(most, self._piece)
        part, self._data = self._data[:size], self._data[size:]
        return part

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.ended = "closed"

    async def reset(self) -> None:
        self.ended = "reset"


@pytest.fixture
def serve(scene):
    Bitswap(scene.engine, scene.host, scene.exchange.quota)

    async def call(stream: Pipe, peer_id: str = "ipfs") -> list[Message]:
        scene.host.sent.clear()
        await scene.host.streams[BITSWAP_PROTOCOL](PeerId(peer_id), stream)
        return [read(data) for _, data in scene.host.sent]

    return call


def read(data: bytes) -> Message:
    """The one message of a stream."""
    start = next(at for at, byte in enumerate(data, 1) if byte < 0x80)
    assert bitswap.length(data[:start]) == len(data) - start
    message = Message()
    message.ParseFromString(data[start:])
    return message


def keep(scene, *bodies: bytes) -> list[bytes]:
    """The addresses of the documents, which are here afterwards."""
    with scene.engine.transaction() as tx:
        for body in bodies:
            document_stock.keep(tx, body)
    return [CID_PREFIX + documents.proof_of(body) for body in bodies]


def wantlist(*cids: bytes, presence: bool = False, dont_have: bool = False) -> bytes:
    message = Message()
    for cid in cids:
        message.wantlist.entries.add(block=cid, wantType=int(presence), sendDontHave=dont_have)
    return bitswap.frame(message.SerializeToString())


async def test_blocks_and_presences_are_answered(scene, serve, autojump_clock, make_document):
    body = make_document("facts")
    (cid,) = keep(scene, body)
    other = CID_PREFIX + bytes(32)
    stream = Pipe(
        wantlist(cid, other, dont_have=True)
        + wantlist(cid, other, presence=True)
        + wantlist(other, b"\x12\x20" + bytes(32))
    )
    first, second = await serve(stream)
    assert [(each.prefix, each.data) for each in first.payload] == [(CID_PREFIX, body)]
    assert [(each.cid, each.type) for each in first.blockPresences] == [(other, Message.DontHave)]
    assert [(each.cid, each.type) for each in second.blockPresences] == [(cid, Message.Have)]
    assert (len(second.payload), stream.ended) == (0, "closed")


async def test_many_large_blocks_come_in_several_messages(
    scene, serve, autojump_clock, make_document
):
    bodies = [make_document(f"large-{number}", 200_000) for number in range(5)]
    messages = await serve(Pipe(wantlist(*keep(scene, *bodies)), piece=7))
    assert [len(message.payload) for message in messages] == [2, 2, 1]
    assert [block.data for message in messages for block in message.payload] == bodies


async def test_what_a_peer_pushes_is_not_stored(scene, serve, autojump_clock, make_document):
    body = make_document("pushed")
    message = Message(blocks=[body])
    message.payload.add(prefix=CID_PREFIX, data=body)
    assert await serve(Pipe(bitswap.frame(message.SerializeToString()))) == []
    assert not scene.has(body)


async def test_over_its_quota_a_peer_hears_that_nothing_is_here(
    scene, serve, autojump_clock, make_document, monkeypatch
):
    body = make_document("facts")
    (cid,) = keep(scene, body)
    monkeypatch.setattr(scene.exchange.quota, "served", lambda _peer, _size: 9.0)
    (message,) = await serve(Pipe(wantlist(cid, dont_have=True)))
    assert (len(message.payload), message.blockPresences[0].type) == (0, Message.DontHave)
    monkeypatch.setattr(scene.exchange.quota, "asked", lambda _peer, _count: 9.0)
    assert await serve(Pipe(wantlist(cid, dont_have=True))) == []


@pytest.mark.parametrize("data", [b"", b"\x85", wantlist(bytes(36))[:-5]])
async def test_a_peer_that_falls_silent_loses_its_stream(serve, autojump_clock, data):
    stream = Pipe(data, silent=True)
    with pytest.raises(trio.TooSlowError):
        await serve(stream)
    assert stream.ended == "reset"
    assert trio.current_time() <= 31


async def test_a_cut_message_and_an_oversized_one_end_the_stream(serve, autojump_clock):
    stream = Pipe(wantlist(bytes(36))[:-5])
    with pytest.raises(StreamBroken):
        await serve(stream)
    assert stream.ended == "reset"
    stream = Pipe(b"\xff\xff\xff\x7f" + bytes(1_000))
    with pytest.raises(RemoteProtocolError):
        await serve(stream)
    assert stream.ended == "reset"


async def test_a_peer_that_left_before_its_answer_is_forgotten(
    scene, serve, autojump_clock, make_document
):
    scene.host.gone = True
    stream = Pipe(wantlist(*keep(scene, make_document("facts"))))
    assert await serve(stream) == []
    assert stream.ended == "reset"


async def test_the_streams_of_one_peer_are_bounded(scene, serve, autojump_clock, make_document):
    (cid,) = keep(scene, make_document("facts"))
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            for _ in range(STREAMS_PER_PEER):
                nursery.start_soon(serve, Pipe(b"", silent=True))
            await trio.sleep(0.5)
            one_more = Pipe(wantlist(cid))
            assert await serve(one_more) == []
            assert one_more.ended == "reset"
            assert len(await serve(Pipe(wantlist(cid)), "another")) == 1
    assert len(await serve(Pipe(wantlist(cid)))) == 1  # the slots come back


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_garbage_ends_its_stream_and_nothing_else(scene, serve, data: bytes, framed: bool):
    async def attack() -> None:
        stream = Pipe(bitswap.frame(data) if framed else data)
        try:
            await serve(stream)
        except (RemoteProtocolError, StreamBroken):
            assert stream.ended == "reset"
        else:
            assert stream.ended == "closed"

    trio.run(attack)


async def test_a_document_over_a_real_socket_amid_garbage(scene, make_document):
    body = make_document("large", 200_000)
    (cid,) = keep(scene, body)
    got: list[Message] = []
    heard = trio.Event()

    async def receive(_peer: str, stream) -> None:
        data = b""
        while part := await stream.read(1 << 20):
            data += part
        got.append(read(data))
        heard.set()

    async with open_host(os.urandom(32), ANY, "test") as host:
        Bitswap(scene.engine, host, scene.exchange.quota)
        address = host.addresses[0].partition("/p2p/")[0]
        async with open_guard(os.urandom(32), "none", limits=Limits()) as guest:
            guest.handle(BITSWAP_PROTOCOL, receive)
            await guest.dial(host.peer_id, address)
            chaos = random.Random(5)
            for _ in range(3):
                stream = await guest.open_stream(host.peer_id, BITSWAP_PROTOCOL)
                await stream.write(chaos.randbytes(400))
                await stream.finish()
            stream = await guest.open_stream(host.peer_id, BITSWAP_PROTOCOL)
            await stream.write(wantlist(cid))
            await stream.finish()
            with trio.fail_after(10):
                await heard.wait()
    assert [block.data for block in got[0].payload] == [body]
    assert assets.has_document(scene.db, documents.proof_of(body))


async def test_the_librarys_own_client_gets_a_document_by_its_cid(scene, make_document):
    body = make_document("large", 200_000)
    (cid,) = keep(scene, body)
    async with (
        open_host(os.urandom(32), ANY, "test") as host,
        open_guard(os.urandom(32), "none", limits=Limits()) as guest,
        trio.open_nursery() as nursery,
    ):
        Bitswap(scene.engine, host, scene.exchange.quota)
        client = BitswapClient(guest._host)
        client.set_nursery(nursery)
        await client.start()
        await guest.dial(host.peer_id, host.addresses[0].partition("/p2p/")[0])
        with trio.fail_after(20):
            got = await client.new_session().get_block(cid, peer_id=ID.from_string(host.peer_id))
        await client.stop()
        nursery.cancel_scope.cancel()
    assert got == body
