"""Documents between real hosts: holders that cut their connection, stall, lie, or serve."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from node import document_holders, document_stock
from node.document_exchange import DocumentExchange
from node.host import Host, open_host
from protocol import codec, documents
from protocol.ids import PeerId
from protocol.messages import DOCUMENT_PROTOCOL, DocumentAnswer, DocumentRequest

ANY = "/ip4/127.0.0.1/tcp/0"


@asynccontextmanager
async def hosts(count: int) -> AsyncIterator[list[Host]]:
    """The first one is connected to all others."""
    async with AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(open_host(os.urandom(32), ANY, "test"))
            for _ in range(count)
        ]
        known = {other.peer_id: other.addresses for other in others}
        own = await stack.enter_async_context(open_host(os.urandom(32), ANY, "test", known))
        with trio.fail_after(10):
            while sum(peer.connected for peer in own.peers()) < count:  # noqa: ASYNC110
                await trio.sleep(0.01)
        yield [own, *others]


def holds(host: Host, body: bytes) -> list[int]:
    """The host serves the document honestly; the offsets that it was asked for are noted."""
    offsets: list[int] = []

    async def serve(_peer: PeerId, data: bytes) -> bytes:
        offset = codec.decode(data, DocumentRequest).offset
        offsets.append(offset)
        part = body[offset : offset + 65_536]
        return codec.encode(DocumentAnswer(total=len(body), part=part, wait_s=0))

    host.serve(DOCUMENT_PROTOCOL, serve)
    return offsets


async def test_a_document_passes_from_node_to_node(scene, make_document) -> None:
    body = make_document("largest", 262_000)
    async with hosts(1) as (own, other):
        exchange = DocumentExchange(scene.engine, own, scene.directory)
        offsets = holds(other, body)
        await exchange.obtain(documents.proof_of(body), [other.peer_id])
        assert scene.has(body)
        assert offsets == [0, 65_536, 131_072, 196_608]


async def test_a_holder_that_leaves_in_the_middle_is_followed_by_another(
    scene, make_document
) -> None:
    body = make_document("large", 200_000)
    async with hosts(2) as (own, leaver, other):

        async def leave(peer: PeerId, data: bytes) -> bytes:
            offset = codec.decode(data, DocumentRequest).offset
            if offset:
                await leaver.drop(peer)
            part = body[offset : offset + 65_536]
            return codec.encode(DocumentAnswer(total=len(body), part=part, wait_s=0))

        leaver.serve(DOCUMENT_PROTOCOL, leave)
        offsets = holds(other, body)
        exchange = DocumentExchange(scene.engine, own, scene.directory)
        with trio.fail_after(20):
            await exchange.obtain(documents.proof_of(body), [leaver.peer_id])
        assert scene.has(body)
        assert offsets == [65_536, 131_072, 196_608]


async def test_a_stalled_holder_is_followed_by_another(scene, make_document, monkeypatch) -> None:
    monkeypatch.setattr(document_holders, "PART_TIMEOUT_S", 0.3)
    body = make_document("facts")
    async with hosts(2) as (own, stalled, other):

        async def stall(_peer: PeerId, _data: bytes) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        stalled.serve(DOCUMENT_PROTOCOL, stall)
        holds(other, body)
        exchange = DocumentExchange(scene.engine, own, scene.directory)
        await exchange.obtain(documents.proof_of(body), [stalled.peer_id])
        assert scene.has(body)


@pytest.mark.parametrize("size", [0, 200_000])
async def test_who_serves_a_wrong_document_loses_standing_and_is_banned_in_the_end(
    scene, make_document, size
) -> None:
    async with hosts(1) as (own, liar):
        exchange = DocumentExchange(scene.engine, own, scene.directory)
        holds(liar, make_document("wrong", size))
        for number in range(6):
            right = make_document(f"right-{number}", size)
            with pytest.raises(Exception, match="no connected peer has"):
                await exchange.obtain(documents.proof_of(right), [liar.peer_id])
        (status,) = own.peers()
        assert status.banned is not None
        assert "hash" in status.banned


async def test_two_nodes_serve_each_other_under_their_quotas(
    scene, make_document, tmp_path
) -> None:
    body = make_document("facts")
    with scene.engine.transaction() as tx:
        document_stock.keep(tx, body)
    async with hosts(1) as (own, other):
        DocumentExchange(scene.engine, own, scene.directory)
        request = DocumentRequest(cid=documents.cid_of(documents.proof_of(body)), offset=0)
        data = await other.request(
            own.peer_id, DOCUMENT_PROTOCOL, codec.encode(request), timeout_s=5
        )
        assert codec.decode(data, DocumentAnswer).part == body
