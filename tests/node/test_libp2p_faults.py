"""Each fault of the library that node.libp2p_guard answers: shown on the stock library, then gone.

When a test fails on its stock half, upstream has mended the fault and its shim can go.
"""

import contextlib
import gc
import importlib.util
import inspect
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.exceptions import ParseError
from libp2p.host.exceptions import StreamFailure
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message as KadMessage
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX, Pubsub
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.tcp import tcp as tcp_module
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr

from node import libp2p_admitting, libp2p_mending
from node.errors import Fault
from node.host import Host, open_host
from node.keys import PeerKey
from node.libp2p_guard import CONNECTION_BUFFER_LIMIT, Limits, open_guard
from node.relay_messages import HOP, HopMessage
from node.streams import StreamBroken
from protocol.errors import LocalProtocolError
from protocol.ids import PeerId

# The stock library leaves sockets open (B9); what it drops is collected within each test.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _collect_what_the_stock_library_drops() -> Iterator[None]:
    yield
    gc.collect()


ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"
TOPIC = "/northbund/test/cdt/1"
VICTIM = bytes([1]) * 32
KEYS = create_new_key_pair(VICTIM)
GARBAGE = b"\xff\xff\xff\xff\x07garbage"


def seed(number: int) -> bytes:
    return bytes([number]) * 32


def stock(library_module: str) -> ModuleType:
    """The module as it is on disk, whatever was done to the imported one."""
    spec = importlib.util.find_spec(library_module)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


class Stock:
    """A host of the stock library, with gossip."""

    def __init__(self, host: Any, pubsub: Any) -> None:
        self.host = host
        self.pubsub = pubsub
        self.swarm = host.get_network()

    @property
    def address(self) -> str:
        return str(self.host.get_transport_addrs()[0])

    @property
    def peer_id(self) -> str:
        return str(self.host.get_id())

    async def connect(self, peer_id: str, address: str) -> None:
        await self.host.connect(PeerInfo(ID.from_string(peer_id), [Multiaddr(address)]))

    async def stream(self, peer_id: str, protocol: str) -> Any:
        return await self.host.new_stream(ID.from_string(peer_id), [protocol])


def only_noise(keys: Any) -> dict[Any, Any]:
    return {NOISE: Noise(keys, noise_privkey=create_noise_key_pair().private_key)}


@asynccontextmanager
async def stock_host(
    secret: bytes, security: Callable[[Any], Any] = only_noise, **gossip: Any
) -> AsyncIterator[Stock]:
    keys = create_new_key_pair(secret)
    host = new_host(key_pair=keys, sec_opt=security(keys))
    router: Any = GossipSub(
        [PROTOCOL_ID_V12, PROTOCOL_ID_V11], 6, 4, 12, **{"heartbeat_interval": 1, **gossip}
    )
    pubsub = Pubsub(host, router)
    async with (
        host.run([Multiaddr(ANY)]),
        background_trio_service(pubsub),
        background_trio_service(router),
    ):
        await pubsub.wait_until_ready()
        yield Stock(host, pubsub)
        with trio.move_on_after(2):
            await host.close()
    pubsub.seen_messages.stop()


@asynccontextmanager
async def attacker() -> AsyncIterator[Stock]:
    """Speaks the library's protocols, and swallows what it is sent on gossip streams."""

    async def swallow(stream: Any) -> None:
        with contextlib.suppress(Exception):
            while await stream.read(4096):
                pass

    async with stock_host(os.urandom(32)) as made:
        for protocol in (PROTOCOL_ID_V12, PROTOCOL_ID_V11):
            made.host.set_stream_handler(protocol, swallow)
        yield made


async def echo(_peer: PeerId, request: bytes) -> bytes:
    return request


@asynccontextmanager
async def stock_victim() -> AsyncIterator[tuple[str, str]]:
    async def raises(_stream: Any) -> None:
        raise ValueError("a handler's bug")

    async with stock_host(VICTIM) as made:
        made.host.set_stream_handler("/raises", raises)
        await made.pubsub.subscribe(TOPIC)
        yield made.peer_id, made.address


@asynccontextmanager
async def guarded_victim() -> AsyncIterator[tuple[str, str]]:
    async def raises(_peer: str, _stream: Any) -> None:
        raise ValueError("a handler's bug")

    async def ignore(_author: PeerId, _payload: bytes) -> None: ...

    async with open_host(VICTIM, ANY, "test") as host:
        host.serve(ECHO, echo)
        host._guard.handle("/raises", raises)
        host.on_gossip(lambda _author, _payload: True, ignore)
        address, _, peer_id = host.addresses[0].partition("/p2p/")
        yield peer_id, address
        async with open_host(seed(9), ANY, "test", {host.peer_id: [address]}) as honest:
            assert await honest.request(host.peer_id, ECHO, b"alive", timeout_s=5) == b"alive"


async def dies(
    victim: AbstractAsyncContextManager[tuple[str, str]],
    attack: Callable[[Stock, str], Awaitable[None]],
) -> bool:
    """Whether `victim` ends with an exception of its own under `attack`."""
    try:
        async with victim as (peer_id, address):
            with trio.move_on_after(1.5):
                async with attacker() as made:
                    await made.connect(peer_id, address)
                    with contextlib.suppress(Exception):
                        await attack(made, peer_id)
                    await trio.sleep(0.5)
    except ExceptionGroup:
        return True
    return False


def gossip_frame(**fields: Any) -> bytes:
    rpc = rpc_pb2.RPC()
    message = {"data": b"x", "seqno": b"12345678", "topicIDs": [TOPIC], "signature": b"s", **fields}
    rpc.publish.append(rpc_pb2.Message(**message))
    return bytes(encode_varint_prefixed(rpc.SerializeToString()))


async def garbage_on_gossip(made: Stock, peer_id: str) -> None:
    stream = await made.stream(peer_id, PROTOCOL_ID_V12)
    await stream.write(encode_varint_prefixed(GARBAGE))


async def raising_handler(made: Stock, peer_id: str) -> None:
    await (await made.stream(peer_id, "/raises")).write(b"x")


async def bad_key_on_gossip(made: Stock, peer_id: str) -> None:
    stream = await made.stream(peer_id, PROTOCOL_ID_V12)
    author = b"\x12\x20" + b"\x11" * 32
    await stream.write(gossip_frame(from_id=author, key=b"\xffgarbage"))


@pytest.mark.parametrize(
    "attack", [garbage_on_gossip, raising_handler, bad_key_on_gossip], ids=lambda f: f.__name__
)
async def test_b1_b2_a_peers_bytes_kill_the_stock_host_alone(
    attack: Callable[[Stock, str], Awaitable[None]],
) -> None:
    assert await dies(stock_victim(), attack)
    assert not await dies(guarded_victim(), attack)


async def test_b2_a_raising_validator_kills_stock_gossip_alone() -> None:
    async def never(_author: PeerId, _payload: bytes) -> None:
        pytest.fail("delivered")

    def broken(*_arguments: Any) -> bool:
        raise ValueError("a validator's bug")

    async def publish(to: tuple[str, str]) -> None:
        async with stock_host(seed(2)) as publisher:
            await publisher.pubsub.subscribe(TOPIC)
            await publisher.connect(*to)
            await publisher.pubsub.wait_for_subscription(ID.from_string(to[0]), TOPIC)
            for _ in range(20):
                await publisher.pubsub.publish(TOPIC, b"x")
                await trio.sleep(0.1)

    async def break_stock() -> None:
        async with stock_host(VICTIM) as made:
            made.pubsub.set_topic_validator(TOPIC, broken, False)
            await made.pubsub.subscribe(TOPIC)
            await publish((made.peer_id, made.address))

    with pytest.raises(ExceptionGroup):
        await break_stock()
    async with open_host(VICTIM, ANY, "test") as host:
        host.on_gossip(broken, never)
        await publish((host.peer_id, host.addresses[0].partition("/p2p/")[0]))


async def visit(peer_id: str, address: str) -> bool:
    """Whether a new peer was let in."""
    async with stock_host(os.urandom(32)) as visitor:
        try:
            await visitor.connect(peer_id, address)
            await visitor.stream(peer_id, "/ipfs/ping/1.0.0")
        except SwarmException:
            return False
    return True


async def test_b3_the_stock_host_admits_a_number_of_peers_in_its_whole_life() -> None:
    async with stock_host(VICTIM) as made:
        made.swarm._inbound_limiter = trio.CapacityLimiter(3)
        admitted = [await visit(made.peer_id, made.address) for _ in range(4)]
        assert admitted == [True, True, True, False]
    async with open_host(VICTIM, ANY, "test", limits=Limits(inbound_connections=3)) as host:
        address = host.addresses[0].partition("/p2p/")[0]
        assert all([await visit(host.peer_id, address) for _ in range(7)])


def signed_message(keys: Any, data: bytes) -> Any:
    message = rpc_pb2.Message(
        data=data,
        topicIDs=[TOPIC],
        from_id=ID.from_pubkey(keys.public_key).to_bytes(),
        seqno=b"12345678",
    )
    body = PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
    message.signature = keys.private_key.sign(body)
    message.key = keys.public_key.serialize()
    return message


async def push_twice_at_once(pubsub: Any, message: Any) -> None:
    async with trio.open_nursery() as nursery:
        for number in (5, 6):
            forwarder = ID.from_pubkey(create_new_key_pair(seed(number)).public_key)
            nursery.start_soon(pubsub.push_msg, forwarder, message)


async def test_b4_asynchronous_validators_deliver_twice() -> None:
    calls: list[bytes] = []
    seen: list[bytes] = []
    message = signed_message(create_new_key_pair(seed(4)), b"once")

    async def slow(_forwarder: Any, checked: Any) -> bool:
        calls.append(checked.data)
        await trio.sleep(0.01)
        return True

    def check(_author: PeerId, payload: bytes) -> bool:
        calls.append(payload)
        return True

    async def receive(_author: PeerId, payload: bytes) -> None:
        seen.append(payload)

    async with stock_host(VICTIM) as made:
        made.pubsub.set_topic_validator(TOPIC, slow, True)
        subscription = await made.pubsub.subscribe(TOPIC)
        await push_twice_at_once(made.pubsub, message)
        for _ in range(2):
            with trio.fail_after(2):
                await subscription.get()
        assert len(calls) == 2
    calls.clear()
    async with open_host(VICTIM, ANY, "test") as host:
        host.on_gossip(check, receive)
        await trio.testing.wait_all_tasks_blocked()
        await push_twice_at_once(host._guard._pubsub, message)
        await trio.testing.wait_all_tasks_blocked()
    assert calls == seen == [b"once"]


async def test_b5_sequence_numbers_go_on_after_a_fast_restart() -> None:
    numbers = []
    for _ in range(2):
        async with open_guard(VICTIM, TOPIC, limits=Limits()) as guard:
            numbers.append(guard._pubsub.counter)
            guard._pubsub._next_seqno()
    assert numbers[1] > numbers[0] + 1_000
    async with stock_host(VICTIM) as made:
        assert made.pubsub.counter <= time.time()


async def test_b6_plaintext_is_accepted_by_the_stock_host_alone() -> None:
    def plaintext(keys: Any) -> Any:
        return {PLAINTEXT_PROTOCOL_ID: InsecureTransport(keys)}

    def default(_keys: Any) -> None:
        return None

    async with (
        stock_host(VICTIM, default) as made,
        open_host(seed(2), ANY, "test") as host,
        stock_host(seed(3), plaintext) as naked,
    ):
        await naked.connect(made.peer_id, made.address)
        with pytest.raises(SwarmException):
            await naked.connect(host.peer_id, host.addresses[0].partition("/p2p/")[0])


async def test_b7_two_stock_hosts_listen_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = stock("libp2p.transport.tcp.tcp")._set_reuse_flags
    with monkeypatch.context() as patch:
        patch.setattr(tcp_module, "_set_reuse_flags", shared)
        async with stock_host(seed(2)) as first:
            second = new_host(key_pair=create_new_key_pair(seed(3)))
            async with second.run([Multiaddr(first.address)]):
                assert [str(a) for a in second.get_transport_addrs()] == [first.address]
                await second.close()
    async with (
        open_host(seed(2), ANY, "test") as host,
        open_guard(seed(3), TOPIC, limits=Limits()) as guard,
    ):
        assert await guard.listen([host.addresses[0].partition("/p2p/")[0]], host) == ()


async def test_b8_a_failed_listen_passes_silently_in_the_stock_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        host = new_host(key_pair=create_new_key_pair(VICTIM))
        async with host.run([Multiaddr(address)]):
            assert host.get_transport_addrs() == []
            await host.close()
        with pytest.raises(Fault, match="already in use"):
            async with open_host(VICTIM, address, "test"):
                pytest.fail("listening where something else does")
        async with (
            open_host(seed(2), ANY, "test") as other,
            open_guard(VICTIM, TOPIC, limits=Limits()) as guard,
        ):
            assert await guard.listen([address], other) == ()


def open_sockets() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += "socket" in str(entry.readlink())
    return found


async def test_b9_b24_no_socket_and_no_thread_is_left() -> None:
    async def once() -> None:
        async with open_host(VICTIM, ANY, "test") as host:
            host.serve(ECHO, echo)
            async with open_host(seed(2), ANY, "test", {host.peer_id: host.addresses}) as other:
                await other.request(host.peer_id, ECHO, b"", timeout_s=5)

    await once()
    before = open_sockets(), threading.active_count()
    await once()
    assert (open_sockets(), threading.active_count()) == before
    made: Any = new_host(key_pair=create_new_key_pair(VICTIM), sec_opt=only_noise(KEYS))
    pubsub = Pubsub(made, GossipSub([PROTOCOL_ID_V12], 6, 4, 12))
    async with made.run([Multiaddr(ANY)]):
        pass
    gc.collect()
    left = open_sockets(), threading.active_count()
    assert left[0] > before[0]
    assert left[1] > before[1]
    pubsub.seen_messages.stop()
    await made.close()


async def test_b10_the_stock_router_loses_what_is_said_quickly() -> None:
    async def heard(receiver: Any, publisher: Stock, peer_id: str, address: str) -> int:
        await publisher.pubsub.subscribe(TOPIC)
        await publisher.connect(peer_id, address)
        await publisher.pubsub.wait_for_subscription(ID.from_string(peer_id), TOPIC)
        await trio.sleep(0.3)
        for number in range(40):
            await publisher.pubsub.publish(TOPIC, str(number).encode())
        with trio.move_on_after(3):
            await receiver(40)
        return 0

    got: list[bytes] = []

    async def receive(_author: PeerId, payload: bytes) -> None:
        got.append(payload)

    async def until(count: int) -> None:
        while len(got) < count:  # noqa: ASYNC110
            await trio.sleep(0.01)

    async with stock_host(VICTIM) as made, stock_host(seed(2)) as publisher:
        subscription = await made.pubsub.subscribe(TOPIC)

        async def collect(count: int) -> None:
            for _ in range(count):
                got.append((await subscription.get()).data)

        await heard(collect, publisher, made.peer_id, made.address)
    assert len(got) < 40
    got.clear()
    async with (
        open_host(VICTIM, ANY, "test") as host,
        stock_host(seed(2), spam_protection_enabled=False) as publisher,
    ):
        host.on_gossip(lambda _author, _payload: True, receive)
        await heard(until, publisher, host.peer_id, host.addresses[0].partition("/p2p/")[0])
    assert len(got) == 40


async def test_b11_the_stock_router_tends_its_mesh_every_two_minutes() -> None:
    assert inspect.signature(GossipSub).parameters["heartbeat_interval"].default >= 60
    async with open_guard(VICTIM, TOPIC, limits=Limits()) as guard:
        assert guard._pubsub.router.heartbeat_interval == 1


def test_b12_every_dial_of_the_stock_library_waits() -> None:
    assert stock("libp2p.network.swarm")._HAPPY_EYEBALLS_DELAY >= 0.1
    libp2p_mending.mend_library()
    assert libp2p_mending.swarm_module._HAPPY_EYEBALLS_DELAY == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def test_b13_a_peer_that_failed_once_is_blocked_by_the_stock_host() -> None:
    port = free_port()
    address = f"/ip4/127.0.0.1/tcp/{port}"
    peer_id = PeerKey(VICTIM).peer_id
    async with (
        stock_host(seed(2)) as made,
        open_guard(seed(3), TOPIC, limits=Limits()) as guard,
    ):
        with pytest.raises(SwarmException):
            await made.connect(peer_id, address)
        with pytest.raises(StreamBroken):
            await guard.dial(peer_id, address)
        async with open_host(VICTIM, address, "test"):
            with pytest.raises(SwarmException, match="negative cache"):
                await made.connect(peer_id, address)
            await guard.dial(peer_id, address)


class Cable:
    """A TCP relay that can be cut in the way a pulled cable is: nothing passes, nobody is told."""

    def __init__(self, nursery: trio.Nursery, target: tuple[str, int]) -> None:
        self._nursery = nursery
        self._target = target
        self.whole = True
        self.port = 0

    async def run(self) -> None:
        listeners: Sequence[trio.SocketListener] = await trio.open_tcp_listeners(
            0, host="127.0.0.1"
        )
        self.port = listeners[0].socket.getsockname()[1]
        self._nursery.start_soon(trio.serve_listeners, self._join, listeners)

    async def _join(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream(*self._target)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, near, far)
            nursery.start_soon(self._pass, far, near)

    async def _pass(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while self.whole and (data := await source.receive_some(65_536)):
                if not self.whole:
                    break
                await sink.send_all(data)
            if self.whole:
                await sink.send_eof()
            else:
                await trio.sleep_forever()


async def test_b14_a_silent_peer_stays_connected_in_the_stock_host() -> None:
    limits = Limits(ping_interval_s=0.1, ping_timeout_s=0.5)
    async with (
        trio.open_nursery() as nursery,
        open_host(VICTIM, ANY, "test") as far,
        open_host(seed(2), ANY, "test", limits=limits) as near,
        stock_host(seed(3)) as made,
    ):
        port = int(far.addresses[0].split("/")[4])
        cable = Cable(nursery, ("127.0.0.1", port))
        await cable.run()
        near.know(far.peer_id, [f"/ip4/127.0.0.1/tcp/{cable.port}"])
        await made.connect(far.peer_id, f"/ip4/127.0.0.1/tcp/{cable.port}")
        with trio.fail_after(5):
            while not is_connected(near, far.peer_id):  # noqa: ASYNC110
                await trio.sleep(0.01)
        cable.whole = False
        with trio.fail_after(5):
            while is_connected(near, far.peer_id):  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert made.swarm.get_connections(ID.from_string(far.peer_id))
        nursery.cancel_scope.cancel()


def is_connected(host: Host, peer_id: PeerId) -> bool:
    return any(peer.connected for peer in host.peers() if peer.peer_id == peer_id)


async def test_b15_a_stream_that_is_left_open_is_reset() -> None:
    waiting = 0

    async def patient(stream: Any) -> None:
        """As the library's own handlers do: reads until something comes."""
        nonlocal waiting
        waiting += 1
        await stream.read(4)

    async with stock_host(VICTIM) as stock_made, attacker() as made:
        stock_made.host.set_stream_handler(ECHO, patient)
        await made.connect(stock_made.peer_id, stock_made.address)
        held = await made.stream(stock_made.peer_id, ECHO)
        with pytest.raises(trio.TooSlowError), trio.fail_after(1.5):
            await held.read(1)
        assert waiting == 1
    async with open_host(VICTIM, ANY, "test") as host, attacker() as made:
        host.serve(ECHO, echo, timeout_s=0.3)
        await made.connect(host.peer_id, host.addresses[0].partition("/p2p/")[0])
        for said in (b"", b"\x00\x00", b"\x00\x00\x00\x05abc", b"\x00\x00\x00\x01a"):
            stream = await made.stream(host.peer_id, ECHO)
            if said:
                await stream.write(said)
            with trio.fail_after(3), contextlib.suppress(StreamEOF, StreamReset):
                await stream.read(1)


async def test_b16_what_is_too_large_vanishes_in_the_stock_host() -> None:
    async with stock_host(VICTIM) as made, stock_host(seed(2)) as publisher:
        subscription = await made.pubsub.subscribe(TOPIC)
        await publisher.connect(made.peer_id, made.address)
        await publisher.pubsub.wait_for_subscription(ID.from_string(made.peer_id), TOPIC)
        await publisher.pubsub.publish(TOPIC, bytes(2 << 20))
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.5):
            await subscription.get()
    async with open_host(VICTIM, ANY, "test") as host:
        with pytest.raises(LocalProtocolError):
            await host.publish(bytes(65_537))


async def overflow(made: Stock, peer_id: str) -> None:
    """Writes past the window of a stream that nobody reads."""
    stream = await made.stream(peer_id, "/hold")
    connection = stream.muxed_conn
    number = stream.muxed_stream.stream_id
    frame = struct.pack(">BBHII", 0, 0, 0, number, 65_536) + bytes(65_536)
    with contextlib.suppress(Exception):
        for _ in range(CONNECTION_BUFFER_LIMIT // 65_536 + 16):
            await connection._write_frame(frame)


async def test_b19_the_stock_host_holds_whatever_is_sent() -> None:
    async def hold(*_arguments: Any) -> None:
        await trio.sleep_forever()

    def held(swarm: Any) -> int:
        connections = swarm.get_connections()
        return sum(len(b) for c in connections for b in c.muxed_conn.stream_buffers.values())

    async with stock_host(VICTIM) as made, attacker() as rude:
        made.host.set_stream_handler("/hold", hold)
        await rude.connect(made.peer_id, made.address)
        await overflow(rude, made.peer_id)
        with trio.fail_after(5):
            while held(made.swarm) <= CONNECTION_BUFFER_LIMIT:  # noqa: ASYNC110
                await trio.sleep(0.01)
    async with open_host(VICTIM, ANY, "test") as host, attacker() as rude:
        host._guard.handle("/hold", hold)
        await rude.connect(host.peer_id, host.addresses[0].partition("/p2p/")[0])
        await overflow(rude, host.peer_id)
        with trio.fail_after(5):
            while is_connected(host, PeerId(rude.peer_id)):  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert held(host._guard._swarm) <= CONNECTION_BUFFER_LIMIT


async def test_b20_the_second_address_is_tried_by_the_guarded_host_alone() -> None:
    dead = f"/ip4/127.0.0.1/tcp/{free_port()}"
    async with (
        open_host(VICTIM, ANY, "test") as far,
        open_host(seed(2), ANY, "test") as near,
        stock_host(seed(3)) as made,
    ):
        far.serve(ECHO, echo)
        alive = far.addresses[0].partition("/p2p/")[0]
        addresses = [Multiaddr(dead), Multiaddr(alive)]
        with pytest.raises(SwarmException):
            await made.host.connect(PeerInfo(ID.from_string(far.peer_id), addresses))
        near.know(far.peer_id, [dead, alive])
        assert await near.request(far.peer_id, ECHO, b"x", timeout_s=5) == b"x"


def test_b21_the_stock_connection_logs_through_the_root_logger() -> None:
    assert stock("libp2p.network.connection.swarm_connection").logging is logging
    libp2p_mending.mend_library()
    assert isinstance(libp2p_mending.swarm_connection.logging, logging.Logger)


def test_the_librarys_warnings_do_not_reach_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    libp2p_mending.mend_library()
    for _ in range(100):
        logging.getLogger("libp2p.network.swarm").error("a peer did something")
    assert capfd.readouterr().err.count("a peer did something") <= 60
    assert "a peer did something\n" not in capfd.readouterr().err


async def test_b22_a_protocol_name_has_an_end() -> None:
    class Endless:
        read_bytes = 0

        async def read(self, most: int) -> bytes:
            await trio.lowlevel.checkpoint()
            if self.read_bytes < 3:
                self.read_bytes += 1
                return b"\xff\xff\x7f"[self.read_bytes - 1 : self.read_bytes]
            self.read_bytes += most
            return bytes(most)

    greedy = Endless()
    with pytest.raises(Exception, match="delimited"):
        await stock("libp2p.utils.varint").read_delim(greedy)
    assert greedy.read_bytes > 2_000_000
    bounded = Endless()
    with pytest.raises(Exception, match="exceeds maximum"):
        await libp2p_mending._read_short_line(bounded)
    assert bounded.read_bytes == 3


async def test_b23_what_a_peer_said_of_itself_is_forgotten_when_it_leaves() -> None:
    async def remembers(swarm: Any, peer_id: str, address: str) -> bool:
        async with stock_host(seed(2)) as guest:
            await guest.connect(peer_id, address)
            await guest.stream(peer_id, "/ipfs/ping/1.0.0")
            guest_id = guest.host.get_id()
        with trio.fail_after(5):
            while swarm.get_connections(guest_id):  # noqa: ASYNC110
                await trio.sleep(0.01)
        await trio.sleep(0.3)
        return guest_id in swarm.peerstore.peer_ids()

    async with stock_host(VICTIM) as made:
        assert await remembers(made.swarm, made.peer_id, made.address)
    async with open_host(VICTIM, ANY, "test") as host:
        address = host.addresses[0].partition("/p2p/")[0]
        assert not await remembers(host._guard._swarm, host.peer_id, address)


async def test_b27_the_stock_host_dials_what_peers_claim() -> None:
    async def knocked(swarm: Any) -> bool:
        """Whether the library dials an address of which a peer spoke."""
        heard = trio.Event()

        async def door(stream: trio.SocketStream) -> None:
            heard.set()
            await stream.aclose()

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        claimed = ID.from_string(PeerKey(seed(77)).peer_id)
        swarm.peerstore.add_addrs(claimed, [Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")], 3_600)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, door, listeners)
            with trio.move_on_after(2):
                await swarm.auto_connector.maybe_connect()
                await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        return heard.is_set()

    async with stock_host(VICTIM) as made:
        assert await knocked(made.swarm)
    async with open_host(VICTIM, ANY, "test") as host:
        assert not await knocked(host._guard._swarm)


@pytest.mark.slow
async def test_bytes_of_one_peer_are_paced_headers_too() -> None:
    """A flood of frames without a body, which no window holds back, and one of a stream."""
    limits = Limits(bytes_per_second_per_peer=65_536.0)
    async with open_host(VICTIM, ANY, "test", limits=limits) as host, attacker() as made:
        host.serve(ECHO, echo)
        await made.connect(host.peer_id, host.addresses[0].partition("/p2p/")[0])
        stream = await made.stream(host.peer_id, ECHO)
        connection = stream.muxed_conn
        update = struct.pack(">BBHII", 0, 1, 0, stream.muxed_stream.stream_id, 1)
        taken = host._guard._swarm.get_connections(made.host.get_id())[0].muxed_conn.secured_conn
        heard = 0
        inner = taken.read

        async def count(most: int | None = None) -> bytes:
            nonlocal heard
            data = bytes(await inner(most))
            heard += len(data)
            return data

        taken.read = count
        with trio.move_on_after(2):
            for _ in range(100):
                await connection._write_frame(update * 1_000)
        assert heard <= 4 * 65_536
        async with open_host(seed(9), ANY, "test", {host.peer_id: host.addresses}) as honest:
            assert await honest.request(host.peer_id, ECHO, b"alive", timeout_s=5) == b"alive"


async def test_of_too_many_connections_of_one_peer_the_oldest_is_closed() -> None:
    """So a peer that lost its connections without a word gets in again at once."""
    async with open_host(VICTIM, ANY, "test", limits=Limits(connections_per_peer=2)) as host:
        host.serve(ECHO, echo)
        address = host.addresses[0].partition("/p2p/")[0]
        async with contextlib.AsyncExitStack() as stack:
            guests = []
            for _ in range(5):
                guest = await stack.enter_async_context(open_guard(seed(5), TOPIC, limits=Limits()))
                await guest.dial(host.peer_id, address)
                guests.append(guest)
            with trio.fail_after(5):
                while sum(guest.is_connected(host.peer_id) for guest in guests) > 2:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            assert guests[-1].is_connected(host.peer_id)
            assert guests[-2].is_connected(host.peer_id)


async def test_streams_of_one_peer_are_counted() -> None:
    async with (
        open_host(VICTIM, ANY, "test", limits=Limits(streams_per_peer=4)) as host,
        attacker() as made,
    ):
        host.serve(ECHO, echo)
        await made.connect(host.peer_id, host.addresses[0].partition("/p2p/")[0])
        opened = 0
        with contextlib.suppress(Exception):
            for _ in range(20):
                await made.stream(host.peer_id, ECHO)
                opened += 1
        assert opened <= 4
        penalty = next(p.penalty for p in host.peers() if p.peer_id == made.peer_id)
        assert penalty > 0


async def test_b28_a_frame_of_gossip_holds_few_messages_and_is_paid_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Frames:
        """A stream whose peer sends one frame, over a connection that may send 10 a second."""

        def __init__(self, messages: int) -> None:
            frame = rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[TOPIC])] * messages)
            self.said = encode_varint_prefixed(frame.SerializeToString())
            self.muxed_conn = SimpleNamespace(gossip_wait_s=lambda count: count / 10)

        async def read(self, most: int) -> bytes:
            await trio.lowlevel.checkpoint()
            part, self.said = self.said[:most], self.said[most:]
            return part

    read = stock("libp2p.utils.varint").read_varint_prefixed_bytes_limited
    assert await read(Frames(8_000), 1 << 18)
    with pytest.raises(ParseError, match="8000 messages"):
        await libp2p_mending._read_gossip_frame(Frames(8_000), 1 << 18)
    began = trio.current_time()
    assert await libp2p_mending._read_gossip_frame(Frames(100), 1 << 18)
    assert trio.current_time() - began == pytest.approx(10)
    libp2p_mending.mend_library()
    used: Any = libp2p_mending.pubsub_module
    assert used.read_varint_prefixed_bytes_limited is libp2p_mending._read_gossip_frame


async def test_b28_a_flood_of_crumbs_delays_nobody() -> None:
    frame = rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[TOPIC])] * 8_000)
    said = encode_varint_prefixed(frame.SerializeToString())
    async with (
        open_host(VICTIM, ANY, "test") as host,
        open_host(seed(2), ANY, "test") as honest,
        attacker() as rude,
    ):
        host.serve(ECHO, echo)
        honest.know(host.peer_id, host.addresses)
        assert await honest.request(host.peer_id, ECHO, b"x", timeout_s=5) == b"x"
        await rude.connect(host.peer_id, host.addresses[0].partition("/p2p/")[0])
        stream = await rude.stream(host.peer_id, str(PROTOCOL_ID_V12))
        await stream.write(said)
        began = trio.current_time()
        assert await honest.request(host.peer_id, ECHO, b"x", timeout_s=20) == b"x"
        assert trio.current_time() - began < 5


async def test_b29_tiny_frames_are_paid_for_and_hold_up_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def read(most: int) -> bytes:
        return bytes(most)

    paid: list[int] = []
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    def wait_s(size: int) -> float:
        paid.append(size)
        return 0.0

    muxed = SimpleNamespace(secured_conn=SimpleNamespace(read=read))
    libp2p_admitting._pace(muxed, wait_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        for _ in range(100):
            assert await muxed.secured_conn.read(12) == bytes(12)
        nursery.cancel_scope.cancel()
    assert turns >= 99
    assert paid == [12 + libp2p_admitting.READ_COST] * 100


async def test_the_stock_relay_reserves_in_anothers_name() -> None:
    """Why node.relay is our own; tests/node/test_relay.py shows that it does not."""
    async with stock_host(VICTIM) as made, attacker() as rude, stock_host(seed(3)) as honest:
        relay = CircuitV2Protocol(made.host, allow_hop=True)
        async with background_trio_service(relay):
            await relay.event_started.wait()
            await honest.connect(made.peer_id, made.address)
            await rude.connect(made.peer_id, made.address)
            stream = await rude.stream(made.peer_id, HOP)
            message = HopMessage(type=HopMessage.RESERVE)
            message.peer.id = honest.host.get_id().to_bytes()
            await stream.write(encode_varint_prefixed(message.SerializeToString()))
            with trio.fail_after(5):
                await stream.read(1)
            assert relay.resource_manager.has_reservation(honest.host.get_id())


async def test_twelve_silent_streams_stop_stock_kademlia() -> None:
    """Why node.kademlia is our own; tests/node/test_discovery.py shows that they do not."""
    target = ID.from_string(PeerKey(seed(5)).peer_id)
    question = KadMessage(type=KadMessage.FIND_NODE, key=target.to_bytes())
    async with stock_host(VICTIM) as made, attacker() as rude, stock_host(seed(3)) as honest:
        KadDHT(made.host, DHTMode.SERVER)
        await honest.connect(made.peer_id, made.address)
        await rude.connect(made.peer_id, made.address)
        said = encode_varint_prefixed(question.SerializeToString())
        stream = await honest.stream(made.peer_id, "/ipfs/kad/1.0.0")
        await stream.write(said)
        assert await stream.read(1)
        await stream.close()
        for _ in range(12):
            await rude.stream(made.peer_id, "/ipfs/kad/1.0.0")
        await trio.sleep(0.2)
        with pytest.raises((SwarmException, StreamFailure, StreamEOF, StreamReset)):  # noqa: PT012
            stream = await honest.stream(made.peer_id, "/ipfs/kad/1.0.0")
            await stream.write(said)
            await stream.read(1)
