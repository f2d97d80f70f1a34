"""Two hosts in one process, over real sockets on loopback."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
import trio

from node.admission import Admission
from node.errors import Fault
from node.host import Host, PeerRefused, PeerTimeout, PeerUnreachable, open_host
from node.libp2p_guard import GuardedStream
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import PeerId

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"
STRANGER = PeerId("12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8")


def seed(number: int) -> bytes:
    return bytes([number]) * 32


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Returns once `condition` holds; TooSlowError otherwise."""
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110  the host has no event for every state
            await trio.sleep(0.01)


def is_connected(host: Host, peer_id: PeerId) -> bool:
    return any(peer.connected for peer in host.peers() if peer.peer_id == peer_id)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Host, Host]]:
    async with (
        open_host(seed(1), ANY, "test") as one,
        open_host(seed(2), ANY, "test", {one.peer_id: one.addresses}) as two,
    ):
        yield one, two


async def echo(_peer: PeerId, request: bytes) -> bytes:
    return b"echo " + request


async def test_a_request_is_answered_by_whoever_was_asked() -> None:
    async with pair() as (one, two):
        one.serve(ECHO, echo)
        assert await two.request(one.peer_id, ECHO, b"hello", timeout_s=5) == b"echo hello"


async def test_the_handler_learns_who_asks() -> None:
    async def who(peer: PeerId, _request: bytes) -> bytes:
        return peer.encode()

    async with pair() as (one, two):
        one.serve(ECHO, who)
        assert await two.request(one.peer_id, ECHO, b"", timeout_s=5) == two.peer_id.encode()


async def test_a_payload_of_the_largest_size_travels_both_ways() -> None:
    async with pair() as (one, two):
        one.serve(ECHO, _same)
        payload = bytes(524_288)
        assert await two.request(one.peer_id, ECHO, payload, timeout_s=10) == payload
        with pytest.raises(LocalProtocolError):
            await two.request(one.peer_id, ECHO, payload + b"x", timeout_s=5)


async def _same(_peer: PeerId, request: bytes) -> bytes:
    return request


async def test_identity_is_the_seed() -> None:
    async with open_host(seed(7), ANY, "test") as first:
        peer_id = first.peer_id
    async with open_host(seed(7), ANY, "test") as again:
        assert again.peer_id == peer_id
        assert again.addresses[0].endswith(f"/p2p/{peer_id}")


async def test_a_request_on_an_unserved_protocol_is_refused() -> None:
    async with pair() as (one, two):
        with pytest.raises(PeerRefused) as caught:
            await two.request(one.peer_id, "/northbund/nothing/1", b"", timeout_s=5)
        assert caught.value.kind == "peer-refused"
        assert is_connected(two, one.peer_id)


async def test_a_peer_without_address_is_unreachable() -> None:
    async with open_host(seed(1), ANY, "test") as host:
        with pytest.raises(PeerUnreachable):
            await host.request(STRANGER, ECHO, b"", timeout_s=5)


async def test_a_peer_that_is_not_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with open_host(seed(1), ANY, "test") as host:
        host.know(STRANGER, [f"/ip4/127.0.0.1/tcp/{port}"])
        with pytest.raises(PeerUnreachable, match="failed"):
            await host.request(STRANGER, ECHO, b"", timeout_s=5)
        await until(lambda: bool(host.peers()[0].failures))
        status = host.peers()[0]
        assert not status.connected
        assert status.known
        assert str(port) in status.trouble


async def test_a_silent_peer_times_out() -> None:
    async def never(_peer: PeerId, _request: bytes) -> bytes:
        await trio.sleep_forever()
        return b""

    async with pair() as (one, two):
        one.serve(ECHO, never)
        await until(lambda: is_connected(two, one.peer_id))
        with pytest.raises(PeerTimeout, match=r"within 0\.3 s"):
            await two.request(one.peer_id, ECHO, b"", timeout_s=0.3)
        one.serve(ECHO, echo)
        assert await two.request(one.peer_id, ECHO, b"again", timeout_s=5) == b"echo again"


async def test_a_peer_at_the_address_of_another_is_not_taken_for_it() -> None:
    async with (
        open_host(seed(1), ANY, "test") as one,
        open_host(seed(2), ANY, "test") as two,
    ):
        one.serve(ECHO, echo)
        two.know(STRANGER, [one.addresses[0].split("/p2p/")[0]])
        with pytest.raises(PeerUnreachable):
            await two.request(STRANGER, ECHO, b"", timeout_s=5)
        assert not is_connected(two, STRANGER)


@pytest.mark.parametrize("error", [RemoteProtocolError("nonsense"), ValueError("our bug")])
async def test_a_failing_handler_costs_one_stream(error: Exception) -> None:
    async def fail(_peer: PeerId, _request: bytes) -> bytes:
        raise error

    async with pair() as (one, two):
        one.serve(ECHO, fail)
        with pytest.raises(PeerRefused):
            await two.request(one.peer_id, ECHO, b"", timeout_s=5)
        one.serve(ECHO, echo)
        assert await two.request(one.peer_id, ECHO, b"", timeout_s=5) == b"echo "
        penalty = next(peer.penalty for peer in one.peers() if peer.peer_id == two.peer_id)
        assert (penalty > 0) == isinstance(error, RemoteProtocolError)


async def test_a_peer_that_keeps_breaking_rules_is_banned_with_the_reason() -> None:
    async def refuse(_peer: PeerId, _request: bytes) -> bytes:
        raise RemoteProtocolError("nonsense")

    async with pair() as (one, two):
        one.serve(ECHO, refuse)
        await until(lambda: is_connected(two, one.peer_id))
        for _ in range(6):
            with pytest.raises(Fault):
                await two.request(one.peer_id, ECHO, b"", timeout_s=5)
        await until(lambda: not is_connected(one, two.peer_id))
        banned = next(peer.banned for peer in one.peers() if peer.peer_id == two.peer_id)
        assert banned is not None
        assert "nonsense" in banned
        with pytest.raises(Fault):
            await two.request(one.peer_id, ECHO, b"", timeout_s=2)


def _collector(seen: list[tuple[PeerId, bytes]]) -> Callable[[PeerId, bytes], Awaitable[None]]:
    async def receive(author: PeerId, payload: bytes) -> None:
        seen.append((author, payload))

    return receive


async def test_gossip_reaches_others_with_its_author_and_not_oneself() -> None:
    at_one: list[tuple[PeerId, bytes]] = []
    at_two: list[tuple[PeerId, bytes]] = []
    async with pair() as (one, two):
        one.on_gossip(lambda _author, _payload: True, _collector(at_one))
        two.on_gossip(lambda _author, _payload: True, _collector(at_two))
        await until(lambda: is_connected(one, two.peer_id))
        await two.publish(b"from two")
        await until(lambda: bool(at_one))
        await one.publish(b"from one")
        await until(lambda: bool(at_two))
        assert at_one == [(two.peer_id, b"from two")]
        assert at_two == [(one.peer_id, b"from one")]


async def test_gossip_that_fails_the_check_or_breaks_it_is_not_received() -> None:
    seen: list[tuple[PeerId, bytes]] = []

    def check(_author: PeerId, payload: bytes) -> bool:
        if payload == b"break":
            raise RuntimeError("the check is broken")
        return payload != b"bad"

    async with pair() as (one, two):
        one.on_gossip(check, _collector(seen))
        two.on_gossip(lambda _author, _payload: True, _collector([]))
        await until(lambda: is_connected(one, two.peer_id))
        for payload in (b"bad", b"break", b"good"):
            await two.publish(payload)
        await until(lambda: bool(seen))
        assert [payload for _, payload in seen] == [b"good"]


async def test_a_failing_receiver_costs_one_message() -> None:
    seen: list[bytes] = []

    async def receive(_author: PeerId, payload: bytes) -> None:
        seen.append(payload)
        raise ValueError("our bug")

    async with pair() as (one, two):
        one.on_gossip(lambda _author, _payload: True, receive)
        two.on_gossip(lambda _author, _payload: True, _collector([]))
        await until(lambda: is_connected(one, two.peer_id))
        await two.publish(b"first")
        await until(lambda: bool(seen))
        await two.publish(b"second")
        await until(lambda: len(seen) == 2)


async def test_a_port_in_use_is_one_sentence() -> None:
    async with open_host(seed(1), ANY, "test") as one:
        taken = one.addresses[0].split("/p2p/")[0]
        with pytest.raises(Fault, match="already in use") as caught:
            async with open_host(seed(2), taken, "test"):
                pytest.fail("two hosts on one port")
        assert caught.value.kind == "port-in-use"
        assert taken in caught.value.sentence


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:4001", "/ip4/192.0.2.1/tcp/0", "/ip4/127.0.0.1/udp/4001/quic-v1"]
)
async def test_an_address_that_cannot_be_listened_on_is_one_sentence(address: str) -> None:
    with pytest.raises(Fault) as caught:
        async with open_host(seed(1), address, "test"):
            pytest.fail("listening on nothing")
    assert caught.value.kind == "address-invalid"


async def test_an_address_of_another_peer_is_not_taken_for_this_one() -> None:
    async with open_host(seed(1), ANY, "test") as one, open_host(seed(2), ANY, "test") as two:
        with pytest.raises(Fault, match="another peer"):
            two.know(STRANGER, one.addresses)


async def test_a_closed_network_admits_only_holders_of_its_key() -> None:
    async with (
        open_host(seed(1), ANY, "test", network_key=seed(9)) as one,
        open_host(seed(2), ANY, "test", network_key=seed(9)) as member,
        open_host(seed(3), ANY, "test", network_key=seed(8)) as stranger,
        open_host(seed(4), ANY, "test") as outsider,
    ):
        one.serve(ECHO, echo)
        for host in (member, stranger, outsider):
            host.know(one.peer_id, one.addresses)
        assert await member.request(one.peer_id, ECHO, b"", timeout_s=5) == b"echo "
        for host in (stranger, outsider):
            with pytest.raises((PeerUnreachable, PeerTimeout)):
                await host.request(one.peer_id, ECHO, b"", timeout_s=0.7)


async def test_a_dropped_connection_is_made_again() -> None:
    async with pair() as (one, two):
        one.serve(ECHO, echo)
        await two.request(one.peer_id, ECHO, b"", timeout_s=5)
        await one.drop(two.peer_id)
        await until(lambda: is_connected(one, two.peer_id))
        assert await two.request(one.peer_id, ECHO, b"", timeout_s=5) == b"echo "


async def test_peers_and_ranges_on_the_deny_lists_are_refused_both_ways() -> None:
    local = (ip_network("127.0.0.0/8"),)
    async with open_host(seed(2), ANY, "test") as two:
        for lists in (
            Admission(deny_peers=frozenset([two.peer_id])),
            Admission(allow_peers=frozenset([STRANGER])),
            Admission(deny_ranges=local),
            Admission(allow_ranges=(ip_network("192.0.2.0/24"),)),
        ):
            # Inbound alone first: once `one` has dialled, its own refusal would hide a missing one.
            async with open_host(seed(1), ANY, "test", admission=lists) as one:
                one.serve(ECHO, echo)
                two.know(one.peer_id, one.addresses)
                with pytest.raises(Fault):
                    await two.request(one.peer_id, ECHO, b"", timeout_s=1)
            async with open_host(seed(3), ANY, "test", admission=lists) as other:
                other.know(two.peer_id, two.addresses)
                with pytest.raises(PeerUnreachable):
                    await other.request(two.peer_id, ECHO, b"", timeout_s=1)
        allowed = Admission(allow_peers=frozenset([two.peer_id]), allow_ranges=local)
        async with open_host(seed(1), ANY, "test", admission=allowed) as one:
            one.serve(ECHO, echo)
            two.know(one.peer_id, one.addresses)
            assert await two.request(one.peer_id, ECHO, b"", timeout_s=5) == b"echo "


async def test_whoever_connects_is_welcomed_each_time() -> None:
    welcomed: list[PeerId] = []

    async def welcome(peer: PeerId) -> None:
        welcomed.append(peer)
        raise ValueError("our bug")

    async with open_host(seed(1), ANY, "test") as one:
        one.on_connected(welcome)
        for number in (2, 3, 2):
            async with open_host(seed(number), ANY, "test", {one.peer_id: one.addresses}) as guest:
                await until(lambda: is_connected(one, guest.peer_id))
        assert len(welcomed) == 3


async def test_a_reported_peer_loses_standing() -> None:
    async with pair() as (one, two):
        await until(lambda: is_connected(one, two.peer_id))
        for _ in range(6):
            one.report(two.peer_id, "a wrong document")
        status = next(peer for peer in one.peers() if peer.peer_id == two.peer_id)
        assert status.banned == "a wrong document"


async def test_an_answer_over_the_limit_loses_standing() -> None:
    async def flood(_peer: str, stream: GuardedStream) -> None:
        await stream.write(b"\xff\xff\xff\xff")

    async with pair() as (one, two):
        one._guard.handle(ECHO, flood)
        with pytest.raises(RemoteProtocolError, match="over the limit"):
            await two.request(one.peer_id, ECHO, b"", timeout_s=5)
        assert next(peer.penalty for peer in two.peers() if peer.peer_id == one.peer_id) > 0


@pytest.mark.parametrize("text", ["", "nobody", "12D3Koo!", "Qm", "0" * 52])
async def test_what_is_no_peer_id_is_refused_in_a_sentence(text: str) -> None:
    async with open_host(seed(1), ANY, "test") as host:
        with pytest.raises(Fault, match="no peer id"):
            host.know(PeerId(text), [])
        with pytest.raises(PeerUnreachable, match="no peer id"):
            await host.request(PeerId(text), ECHO, b"", timeout_s=1)
