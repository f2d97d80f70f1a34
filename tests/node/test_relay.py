"""A peer that cannot be dialled is reached through a relay; what relays may not do."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr

from node import relay_client
from node.discovery import Discovery, discover
from node.host import Host, PeerUnreachable, open_host
from node.libp2p_guard import GuardedStream, Limits
from node.relay import CIRCUITS_OF_SOURCE, splice
from node.relay_messages import HOP, STOP, HopMessage, Status, StopMessage, read, write
from node.streams import StreamBroken
from protocol.ids import PeerId
from protocol.peers import peer_bytes

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"
SHUT = Limits(inbound_per_address=0)


async def echo(_peer: PeerId, request: bytes) -> bytes:
    return request


def seed(number: int) -> bytes:
    return bytes([number]) * 32


@asynccontextmanager
async def relay_and_hidden(
    network_key: bytes | None = None,
) -> AsyncIterator[tuple[Host, Host]]:
    async with (
        open_host(seed(1), ANY, "test", network_key=network_key) as relay,
        open_host(seed(2), ANY, "test", network_key=network_key, limits=SHUT) as hidden,
    ):
        discover(relay, Discovery(serve_relay=True), "test")
        discover(hidden, Discovery(relays=relay.addresses), "test")
        hidden.serve(ECHO, echo)
        await reachable(hidden, True)
        yield relay, hidden


async def test_a_closed_network_has_relays_too() -> None:
    async with (
        relay_and_hidden(seed(9)) as (_, hidden),
        open_host(seed(3), ANY, "test", network_key=seed(9)) as host,
    ):
        discover(host, Discovery(), "test")
        host.know(hidden.peer_id, hidden.addresses[1:])
        assert await host.request(hidden.peer_id, ECHO, b"x", timeout_s=5) == b"x"


async def test_a_relay_that_answers_in_anothers_place_gets_no_connection() -> None:
    """The relay's circuit ends at another peer than the one that was asked for."""
    async with (
        relay_and_hidden() as (relay, hidden),
        open_host(seed(3), ANY, "test") as impostor,
        open_host(seed(4), ANY, "test") as host,
    ):
        discover(impostor, Discovery(relays=relay.addresses), "test")
        discover(host, Discovery(), "test")
        await reachable(impostor, True)
        serve = relay.guard._host.get_mux().handlers

        async def swap(stream: Any) -> None:
            guarded = GuardedStream(stream)
            await read(guarded, HopMessage)
            far = await relay.guard.open_stream(impostor.peer_id, STOP)
            message = StopMessage(type=StopMessage.CONNECT)
            message.peer.id = peer_bytes(host.peer_id)
            await write(far, message)
            await read(far, StopMessage)
            await write(guarded, HopMessage(type=HopMessage.STATUS, status=Status.OK))
            await splice(guarded, far)

        serve[HOP] = swap
        host.know(hidden.peer_id, hidden.addresses[1:])
        with pytest.raises(PeerUnreachable):
            await host.request(hidden.peer_id, ECHO, b"x", timeout_s=10)
        assert not host.guard.is_connected(hidden.peer_id)


async def hop(host: Host, relay: PeerId, message: HopMessage) -> tuple[int, GuardedStream]:
    stream = await host.open_stream(relay, HOP)
    await write(stream, message)
    return (await read(stream, HopMessage)).status, stream


def to(peer_id: PeerId) -> HopMessage:
    message = HopMessage(type=HopMessage.CONNECT)
    message.peer.id = peer_bytes(peer_id)
    return message


async def test_a_reservation_says_until_when_and_where() -> None:
    async with (
        relay_and_hidden() as (relay, _),
        open_host(seed(3), ANY, "test", {relay.peer_id: relay.addresses}) as host,
    ):
        stream = await host.open_stream(relay.peer_id, HOP)
        await write(stream, HopMessage(type=HopMessage.RESERVE))
        told = (await read(stream, HopMessage)).reservation
        assert 0 < told.expire - time.time() <= 3_601
        assert [str(Multiaddr(each)) for each in told.addrs] == list(relay.addresses)


async def test_a_reservation_is_for_oneself_alone() -> None:
    """The library's own relay reserves for whatever peer a message names."""
    async with (
        relay_and_hidden() as (relay, _),
        open_host(seed(3), ANY, "test", {relay.peer_id: relay.addresses}) as victim,
        open_host(seed(4), ANY, "test", {relay.peer_id: relay.addresses}) as rude,
    ):
        forged = HopMessage(type=HopMessage.RESERVE)
        forged.peer.id = peer_bytes(victim.peer_id)
        assert (await hop(rude, relay.peer_id, forged))[0] == Status.OK
        assert (await hop(rude, relay.peer_id, to(victim.peer_id)))[0] == Status.NO_RESERVATION


async def test_circuits_of_one_source_have_an_end_and_do_not_end_each_other() -> None:
    async with (
        relay_and_hidden() as (relay, hidden),
        open_host(seed(3), ANY, "test", {relay.peer_id: relay.addresses}) as host,
    ):
        streams = []
        for _ in range(CIRCUITS_OF_SOURCE):
            status, stream = await hop(host, relay.peer_id, to(hidden.peer_id))
            assert status == Status.OK
            streams.append(stream)
        status, _ = await hop(host, relay.peer_id, to(hidden.peer_id))
        assert status == Status.RESOURCE_LIMIT_EXCEEDED
        await streams.pop(0).reset()
        for number in range(100):
            status, again = await hop(host, relay.peer_id, to(hidden.peer_id))
            if status == Status.OK:
                break
            await trio.sleep(0.02 * (number < 99))
        assert status == Status.OK
        for stream in (*streams, again):
            await stream.write(b"\x13/multistream/1.0.0\n")
            with trio.fail_after(5):
                assert await stream.read(1)


async def test_rubbish_on_the_relay_protocols_costs_a_stream_and_standing() -> None:
    async with (
        relay_and_hidden() as (relay, hidden),
        open_host(seed(3), ANY, "test", {relay.peer_id: relay.addresses}) as rude,
        open_host(seed(4), ANY, "test") as host,
    ):
        discover(host, Discovery(), "test")
        for said in (
            b"\x05rubbi",
            b"\xff\xff\xff\xff\xff",
            b"\x02\x08\x07",
            b"\x00",
            os.urandom(99),
        ):
            stream = await rude.open_stream(relay.peer_id, HOP)
            await stream.write(said)
            await stream.finish()
            with trio.fail_after(5):
                try:
                    while await stream.read(100):
                        pass
                except StreamBroken:
                    pass
        assert next(p.penalty for p in relay.peers() if p.peer_id == rude.peer_id) > 0
        host.know(hidden.peer_id, hidden.addresses[1:])
        assert await host.request(hidden.peer_id, ECHO, b"x", timeout_s=5) == b"x"


async def test_whoever_is_no_relay_of_ours_brings_no_circuit() -> None:
    async with (
        relay_and_hidden() as (relay, hidden),
        open_host(seed(3), ANY, "test") as stranger,
    ):
        hidden.know(stranger.peer_id, stranger.addresses)
        with trio.fail_after(5):
            while not stranger.guard.is_connected(hidden.peer_id):  # noqa: ASYNC110
                await trio.sleep(0.02)
        stream = await stranger.open_stream(hidden.peer_id, STOP)
        with pytest.raises(StreamBroken):  # noqa: PT012  whichever of the two hears of it
            await write(stream, StopMessage(type=StopMessage.CONNECT))
            await read(stream, StopMessage)
        assert next(p.penalty for p in hidden.peers() if p.peer_id == stranger.peer_id) > 0
        assert relay.guard.is_connected(hidden.peer_id)


async def test_circuits_leave_room_for_direct_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_client, "CIRCUITS_MOST", 2)
    async with (
        relay_and_hidden() as (relay, hidden),
        open_host(seed(3), ANY, "test", {relay.peer_id: relay.addresses}) as host,
    ):
        found = [(await hop(host, relay.peer_id, to(hidden.peer_id)))[0] for _ in range(3)]
        assert found == [Status.OK, Status.OK, Status.CONNECTION_FAILED]


async def test_a_relay_that_was_away_is_used_again() -> None:
    async with open_host(seed(2), ANY, "test", limits=SHUT) as hidden:
        async with open_host(seed(1), ANY, "test") as relay:
            discover(relay, Discovery(serve_relay=True), "test")
            discover(hidden, Discovery(relays=relay.addresses), "test")
            address = relay.addresses[0].partition("/p2p/")[0]
            await reachable(hidden, True)
        await reachable(hidden, False)
        async with open_host(seed(1), address, "test") as relay:
            discover(relay, Discovery(serve_relay=True), "test")
            await reachable(hidden, True)


async def reachable(host: Host, expected: bool) -> None:
    with trio.fail_after(15):
        while expected != any("p2p-circuit" in each for each in host.addresses):  # noqa: ASYNC110
            await trio.sleep(0.02)


class Pipe:
    """One end of a stream in memory."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[bytes](10)
        self.said: list[bytes] = []

    async def read(self, _most: int) -> bytes:
        try:
            return await self.receive.receive()
        except trio.EndOfChannel:
            return b""

    async def write(self, data: bytes) -> None:
        self.said.append(data)

    async def finish(self) -> None:
        self.said.append(b"")

    async def close(self) -> None: ...
    async def reset(self) -> None: ...


async def test_a_circuit_in_which_nothing_passes_ends(autojump_clock: trio.abc.Clock) -> None:
    near, far = Pipe(), Pipe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(splice, near, far, 100.0)
        await trio.sleep(90)
        await near.send.send(b"x")
        await trio.sleep(90)
        assert far.said == [b"x"]
        near.send.close()
        await trio.sleep(5)
        assert far.said == [b"x", b""]
    assert trio.current_time() == pytest.approx(190, abs=1)
