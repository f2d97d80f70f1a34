"""Peers found by their id through others, and on the local network."""

import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr

from node import kademlia, mdns
from node.discovery import Discovery, discover
from node.errors import Fault
from node.host import Host, PeerUnreachable, open_host
from node.kademlia import ASKED_MOST, NEAREST, distance, protocol_of
from node.keys import PeerKey
from node.libp2p_guard import GuardedStream
from node.peer_store import PER_SOURCE
from node.streams import StreamBroken, read_delimited, write_delimited
from protocol.ids import PeerId
from protocol.peers import peer_bytes

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"
KAD = protocol_of("test")
KADEMLIA = Discovery(kademlia=True)


def seed(number: int) -> bytes:
    return number.to_bytes(32, "big")


def peer(number: int) -> PeerId:
    return PeerKey(seed(number)).peer_id


async def echo(_peer: PeerId, request: bytes) -> bytes:
    return request


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110  the host has no event for every state
            await trio.sleep(0.02)


@asynccontextmanager
async def node(number: int, *known: Host, settings: Discovery = KADEMLIA) -> AsyncIterator[Host]:
    addresses = {each.peer_id: each.addresses for each in known}
    async with open_host(seed(number), ANY, "test", addresses) as host:
        host.serve(ECHO, echo)
        discover(host, settings, "test")
        yield host


async def test_a_peer_is_found_through_peers_of_peers() -> None:
    """A line of nodes, each of which knows its neighbour alone."""
    async with AsyncExitStack() as stack:
        line = [await stack.enter_async_context(node(1))]
        for number in range(2, 6):
            line.append(await stack.enter_async_context(node(number, line[-1])))
        first, last = line[0], line[-1]
        await until(lambda: all(each.store.peers(["peer"]) for each in line[1:-1]))
        assert last.configured(first.peer_id) == ()
        assert await last.request(first.peer_id, ECHO, b"found", timeout_s=10) == b"found"


async def test_what_a_stranger_says_of_another_is_dialled_and_not_passed_on() -> None:
    async with node(1) as asked, node(2, asked) as liar, node(3, asked) as host:
        await until(lambda: len(asked.store.peers(["peer"])) == 2)
        asked.learn(peer(99), ["/ip4/127.0.0.1/tcp/9"], "lookup")
        asked.learn(peer(98), ["/ip4/127.0.0.1/tcp/9"], "local-network")
        asked.learn(peer(97), ["/ip4/127.0.0.1/tcp/9"], "announcement")
        answer = await question(host, asked, peer(99))
        named = {bytes(each.id) for each in answer.closerPeers}
        assert named == {peer_bytes(liar.peer_id), peer_bytes(peer(97))}


async def question(host: Host, asked: Host, target: PeerId, *said: PeerId) -> Message:
    message = Message(type=Message.FIND_NODE, key=peer_bytes(target))
    for each in said:
        entry = message.closerPeers.add()
        entry.id = peer_bytes(each)
        entry.addrs.append(Multiaddr("/ip4/127.0.0.1/tcp/9").to_bytes())
    stream = await host.open_stream(asked.peer_id, KAD)
    await write_delimited(stream, message.SerializeToString())
    return Message.FromString(await read_delimited(stream, 65_536))


async def test_nobody_tells_addresses_in_anothers_name() -> None:
    async with node(1) as asked, node(2, asked, settings=Discovery()) as liar:
        await question(liar, asked, peer(5), peer(98), peer(99))
        assert asked.store.peers(["peer", "lookup"]) == []
        await question(liar, asked, peer(5), liar.peer_id)
        assert asked.store.peers(["peer"]) == [liar.peer_id]


async def test_an_answer_without_end_ends_the_lookup() -> None:
    """Each peer that is asked names sixteen new ones, nearer than all before."""
    asked: list[bytes] = []

    async def endless(_peer: PeerId, stream: GuardedStream) -> None:
        message = Message.FromString(await read_delimited(stream, 65_536))
        asked.append(message.key)
        answer = Message(type=Message.FIND_NODE)
        for _ in range(200):
            entry = answer.closerPeers.add()
            entry.id = peer_bytes(PeerKey(os.urandom(32)).peer_id)
            for _ in range(20):
                entry.addrs.append(Multiaddr("/ip4/127.0.0.1/tcp/1").to_bytes())
        await write_delimited(stream, answer.SerializeToString()[:32_768])
        await stream.close()

    async with (
        node(1, settings=Discovery()) as rude,
        node(2, rude) as host,
    ):
        rude.serve_stream(KAD, endless)
        await until(lambda: host.guard.is_connected(rude.peer_id))
        with trio.fail_after(30), pytest.raises(Fault):
            await host.request(peer(77), ECHO, b"", timeout_s=25)
        assert asked
        assert len(host.store.peers(["lookup"])) <= ASKED_MOST * NEAREST


async def test_rubbish_and_silence_on_kademlia_cost_a_stream() -> None:
    """Twelve silent streams end the library's own; they are its only places."""
    async with node(1) as asked, node(2, asked, settings=Discovery()) as rude, node(3) as other:
        silent = [await rude.open_stream(asked.peer_id, KAD) for _ in range(20)]
        for said in (b"\x05rubbi", b"\xff\xff\xff\xff\xff", b"\x02\x08\x00", b"\x00"):
            stream = await rude.open_stream(asked.peer_id, KAD)
            await stream.write(said)
            with pytest.raises(StreamBroken), trio.fail_after(5):
                await read_delimited(stream, 65_536)
        assert next(p.penalty for p in asked.peers() if p.peer_id == rude.peer_id) > 0
        other.know(asked.peer_id, asked.addresses)
        assert (await question(other, asked, peer(5))).type == Message.FIND_NODE
        assert len(silent) == 20


async def test_who_looks_for_peers_without_end_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kademlia, "QUESTIONS_AT_ONCE", 5.0)
    monkeypatch.setattr(kademlia, "QUESTIONS_PER_SECOND", 0.0)
    async with node(1) as asked, node(2, asked, settings=Discovery()) as rude:
        for _ in range(5):
            assert (await question(rude, asked, peer(5))).type == Message.FIND_NODE
        with pytest.raises(StreamBroken), trio.fail_after(5):
            await question(rude, asked, peer(5))
        assert next(p.penalty for p in asked.peers() if p.peer_id == rude.peer_id) > 0


async def test_a_lookup_that_finds_nothing_says_so() -> None:
    async with node(1) as one, node(2, one) as two:
        with pytest.raises(PeerUnreachable, match="no address of it is known"):
            await two.request(peer(99), ECHO, b"", timeout_s=10)


def test_distance_is_a_metric() -> None:
    ids = [peer(number) for number in range(1, 6)]
    for a in ids:
        assert distance(a, a) == 0
        for b in ids:
            assert distance(a, b) == distance(b, a)
            assert all(distance(a, c) <= distance(a, b) + distance(b, c) for c in ids)


@pytest.mark.slow
async def test_peers_of_one_local_network_meet() -> None:
    """Multicast on the loopback interface alone, by the library's own broadcaster and browser."""
    local = Discovery(local_network=True)
    async with node(1, settings=local) as one, node(2, settings=local) as two:
        await until(lambda: one.guard.is_connected(two.peer_id), 15)
        assert await one.request(two.peer_id, ECHO, b"x", timeout_s=5) == b"x"
        await until(lambda: all(status.known for each in (one, two) for status in each.peers()))


@pytest.mark.slow
async def test_rubbish_by_multicast_keeps_nobody_apart() -> None:
    local, seeded = Discovery(local_network=True), random.Random(5)
    header = struct.pack(">HHHHHH", 0, 0x8400, 0, 60_000, 0, 0)
    async with node(1, settings=local) as one:
        await trio.sleep(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude:
            rude.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
            )
            for size in range(300):
                rubbish = seeded.randbytes(size)
                for packet in (rubbish, header + rubbish, header + b"\xc0\x0c" * size):
                    rude.sendto(packet[:1_400], ("224.0.0.251", 5_353))
        async with node(2, settings=local) as two:
            await until(lambda: one.guard.is_connected(two.peer_id), 20)


async def test_the_local_network_has_so_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "PEERS_MOST", 3)
    async with node(1, settings=Discovery()) as host:
        heard = mdns._Heard(host, trio.lowlevel.current_trio_token())
        for number in range(10, 30):
            addresses = [Multiaddr(f"/ip4/127.0.0.1/tcp/{each}") for each in range(1, 20)]
            heard.add_addrs(peer(number), addresses, 120)
        heard.add_addrs("nobody", [Multiaddr("/ip4/127.0.0.1/tcp/9")], 120)
        await trio.testing.wait_all_tasks_blocked()
        assert len(host.store.peers(["local-network"])) == 3
        assert len(host.store.addresses(peer(10))) == PER_SOURCE
