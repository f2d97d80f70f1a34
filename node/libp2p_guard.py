"""Everything that touches py-libp2p 0.8.1, and a defence for each of its faults that was met.

Adversary: any peer that can open a TCP connection, speaks any bytes at any time, and restarts,
stalls or lies as it likes. What must hold: its bytes may end its stream, its connection and its
standing, never the process, and never a slot that others need. Noise authenticates the peer id;
nothing else that a peer says is believed here.

What is wrong in the library's own modules is mended in node.libp2p_mending, who gets in and how
much they hold is decided in node.libp2p_admitting, and a host is built, and spoken to, here. Each
defence names its fault, and tests/node/test_libp2p_faults.py shows it against the stock
library, so that the day upstream mends one its shim goes:

B1  an exception in any stream handler kills the host           `contain_streams`
B2  a bad key or a raising validator kills gossip               `SafePubsub`, `contain_tasks`
B3  250 connections, and no peer can connect any more           `Inbound`
B4  async validators run twice and deliver twice                `set_topic_validator(..., False)`
B5  sequence numbers restart from whole seconds                 `pubsub.counter`
B6  plaintext is accepted                                       `sec_opt`
B7  SO_REUSEPORT lets two processes share a port                `_claim_port_alone`
B8  a failed listen is ignored                                  `Guard.listen`
B9  sockets stay open after the end                             `_close`
B10 a rate limit per forwarder loses honest gossip              `spam_protection_enabled`, queues
B11 a heartbeat of two minutes                                  `heartbeat_interval`
B12 every dial waits 250 ms                                     `_HAPPY_EYEBALLS_DELAY`
B13 a failed dial blocks the peer for a minute                  `Guard.dial`
B14 a stopped process stays connected for ever                  `Guard.ping`, `Guard.sever`
B15 half-open streams never end                                 node.streams, timeouts
B16 a publish over the size limit vanishes                      `Guard.publish`
B19 a stream's receive window is announced but not enforced     `_watch_buffers`
B20 of several TCP addresses of a peer only one is dialled      `Guard.dial`
B21 closing a connection configures the root logger             `_quiet_logs`
B22 a protocol name may have any length                         `_read_short_line`
B23 what a peer says of itself is remembered for ever           `Guard.forget`
B24 the cache of seen messages leaves a thread behind           `open_guard`
B25 every read, of one byte too, sends a window update          `_release_window`
B26 every gossip frame carries a record that is signed anew     `_Records`
B27 addresses that peers claim are dialled unasked              `_build`
B28 one frame of gossip may hold any number of messages         `_read_gossip_frame`
B29 frames that were read together are handled without a pause  `_pace`
"""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import node.libp2p_loading  # noqa: F401  before libp2p, which it loads

# isort: split
import trio
from libp2p import new_host
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import ID as PING_PROTOCOL
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as Noise
from libp2p.security.pnet.protector import new_protected_conn
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr  # type: ignore[import-untyped]

from node.admission import Admission
from node.libp2p_admitting import (
    CONNECTION_BUFFER_LIMIT,
    EVERYBODY,
    Inbound,
    Limits,
    Watcher,
    admit_by_peer,
    contain_streams,
    is_open,
    quietly,
)
from node.libp2p_mending import SafePubsub, contain_tasks, mend_library
from node.log import get_logger
from node.streams import StreamBroken, read_exactly, reset
from protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "CONNECTION_BUFFER_LIMIT",
    "EVERYBODY",
    "Guard",
    "GuardedStream",
    "Limits",
    "Watcher",
    "open_guard",
]

log = get_logger("node.libp2p")

PING_SIZE = 32


class GuardedStream:
    """A libp2p stream as a `node.streams.ByteStream`: its exceptions become StreamBroken."""

    __slots__ = ("inner",)

    def __init__(self, stream: Any) -> None:
        self.inner = stream

    async def read(self, most: int) -> bytes:
        try:
            return bytes(await self.inner.read(most))
        except StreamEOF:
            return b""
        except Exception as error:
            raise StreamBroken(repr(error)) from error

    async def write(self, data: bytes) -> None:
        await self._do(self.inner.write(data))

    async def finish(self) -> None:
        await self._do(self.inner.close_write())

    async def close(self) -> None:
        await self._do(self.inner.close())

    async def reset(self) -> None:
        await quietly(self.inner.reset)

    async def _do(self, action: Awaitable[None]) -> None:
        try:
            await action
        except Exception as error:
            raise StreamBroken(repr(error)) from error


class _Circuit(RawConnection):
    """A stream through a relay as the connection that it carries (see node.relay)."""

    def __init__(self, stream: Any, initiator: bool) -> None:
        super().__init__(stream, initiator, ConnectionType.RELAYED, [])

    async def read(self, n: int | None = None) -> bytes:
        try:
            return await super().read(n)
        except StreamEOF:
            return b""

    def get_remote_address(self) -> tuple[str, int] | None:
        """None: the stream's own answer would be the relay's address."""
        return None


class _Changes:
    """A libp2p notifee that tells of peers coming and going, whatever their connections do.

    The library tells of a broken connection some 0.2 s late, when the peer may be back already.
    """

    def __init__(self, guard: "Guard", watcher: Watcher) -> None:
        self._guard = guard
        self._watcher = watcher
        self._told: dict[Any, list[Any]] = {}

    async def connected(self, _network: Any, connection: Any) -> None:
        peer = connection.muxed_conn.peer_id
        others = [other for other in self._told.get(peer, []) if is_open(other)]
        self._told[peer] = [*others, connection]
        if not others:
            self._watcher.connected(str(peer))

    async def disconnected(self, _network: Any, connection: Any) -> None:
        peer = connection.muxed_conn.peer_id
        others = [other for other in self._told.pop(peer, []) if is_open(other)]
        if others:
            self._told[peer] = others
        else:
            self._guard.forget(peer)
            self._watcher.disconnected(str(peer))

    async def opened_stream(self, _network: Any, _stream: Any) -> None: ...
    async def closed_stream(self, _network: Any, _stream: Any) -> None: ...
    async def listen(self, _network: Any, _address: Any) -> None: ...
    async def listen_close(self, _network: Any, _address: Any) -> None: ...


class Guard:
    """A libp2p host and its gossip, behind the defences of this module.

    Peers are base58 text, addresses multiaddr text. Made by `open_guard`.
    """

    def __init__(self, host: Any, pubsub: Any, topic: str, limits: Limits) -> None:
        self._host = host
        self._swarm = host.get_network()
        self._pubsub = pubsub
        self._topic = topic
        self._limits = limits
        self.peer_id = str(host.get_id())

    async def listen(self, addresses: Sequence[str], watcher: Watcher) -> tuple[str, ...]:
        """Connections are accepted from now on, and `watcher` is asked about them.

        The addresses that came up, without the peer id; none if none did (B8).
        """
        contain_streams(self._host, self._limits, watcher)
        admit_by_peer(self._swarm, self._limits, watcher)
        self._swarm.register_notifee(_Changes(self, watcher))
        await self._swarm.listen(*(Multiaddr(address) for address in addresses))
        return tuple(str(address) for address in self._host.get_transport_addrs())

    def connected(self) -> list[str]:
        """The peers with at least one open connection."""
        return [str(peer) for peer in list(self._swarm.connections) if self._open(peer)]

    def is_connected(self, peer_id: str) -> bool:
        """Whether `peer_id` has an open connection."""
        return bool(self._open(ID.from_string(peer_id)))

    def _open(self, peer: Any) -> list[Any]:
        return [each for each in self._swarm.get_connections(peer) if is_open(each)]

    def forget(self, peer: Any) -> None:
        """What a peer that left said of itself is gone from memory (B23)."""
        self._swarm.peerstore.clear_peerdata(peer)

    def remote_address(self, peer_id: str) -> str | None:
        """`ip:port` from which or to which the peer is connected, None if it is not.

        "relay" and the relay's peer id if all that there is leads through one.
        """
        found = None
        for connection in self._open(ID.from_string(peer_id)):
            remote = connection.muxed_conn.get_remote_address()
            if remote is not None:
                return f"{remote[0]}:{remote[1]}"
            found = f"relay {getattr(connection.muxed_conn, 'relay', '')}"
        return found

    def is_relayed(self, peer_id: str) -> bool:
        """Whether the peer is connected, and only through a relay."""
        return (self.remote_address(peer_id) or "").startswith("relay")

    async def join_outwards(self, stream: GuardedStream, peer_id: str, relay: str) -> None:
        """`stream` through `relay` is a connection to `peer_id`, which proved who it is.

        StreamBroken if it did not; then the stream is gone.
        """
        raw: Any = _Circuit(stream.inner, True)
        if self._swarm.psk is not None:
            raw = new_protected_conn(raw, self._swarm.psk)
        try:
            made = await self._swarm.upgrade_outbound_raw_conn(raw, ID.from_string(peer_id))
        except BaseException as error:
            await quietly(stream.reset)
            if isinstance(error, Exception):
                raise StreamBroken(_root_cause(error)) from error
            raise
        made.muxed_conn.relay = relay

    async def join_inwards(self, stream: GuardedStream, relay: str) -> None:
        """`stream` through `relay` was a connection from whoever proved to be there, and ended.

        StreamBroken if nobody did.
        """
        try:
            muxed = await self._swarm.upgrade_inbound_raw_conn(
                _Circuit(stream.inner, False), Multiaddr("/p2p-circuit")
            )
        except Exception as error:
            raise StreamBroken(_root_cause(error)) from error
        muxed.relay = relay
        await muxed.event_closed.wait()

    async def dial(self, peer_id: str, address: str) -> None:
        """A connection to `peer_id` at `address` is open. StreamBroken if it cannot be had.

        One address at a time (B20: the library would try one of several), without its blocking
        of peers that failed once (B13) and without retries, which are the caller's.
        """
        peer = ID.from_string(peer_id)
        with trio.move_on_after(self._limits.stop_timeout_s):
            # Until a broken connection is off the library's list, it counts it as one.
            while not self._open(peer) and self._swarm.get_connections(peer):  # noqa: ASYNC110
                await trio.sleep(0.02)
        self._swarm.unblock_peer(peer)
        self._swarm.peerstore.clear_addrs(peer)
        try:
            await self._host.connect(PeerInfo(peer, [Multiaddr(address)]))
        except Exception as error:
            raise StreamBroken(_root_cause(error)) from error

    async def open_stream(self, peer_id: str, protocol: str) -> GuardedStream:
        """A stream to a connected peer that speaks `protocol`.

        StreamBroken if it does not, or if the connection breaks.
        """
        try:
            stream = await self._host.new_stream(ID.from_string(peer_id), [TProtocol(protocol)])
        except Exception as error:
            raise StreamBroken(_root_cause(error)) from error
        return GuardedStream(stream)

    def handle(
        self, protocol: str, handler: Callable[[str, GuardedStream], Awaitable[None]]
    ) -> None:
        """Streams of `protocol` are given to `handler` with the id of the peer."""

        async def handle(stream: Any) -> None:
            await handler(str(stream.muxed_conn.peer_id), GuardedStream(stream))

        self._host.set_stream_handler(TProtocol(protocol), handle)

    async def ping(self, peer_id: str) -> float:
        """The seconds that 32 bytes took there and back; the deadline is the caller's.

        StreamBroken or RemoteProtocolError if they did not come back as they were.
        """
        stream = await self.open_stream(peer_id, str(PING_PROTOCOL))
        started = trio.current_time()
        try:
            sent = secrets.token_bytes(PING_SIZE)
            await stream.write(sent)
            same = await read_exactly(stream, PING_SIZE) == sent
            elapsed = trio.current_time() - started
            await stream.close()
        except BaseException:
            await reset(stream)
            raise
        if not same:
            raise RemoteProtocolError("the ping was answered with other bytes")
        return elapsed

    def heard_at(self, peer_id: str) -> float:
        """When the peer sent data last, in trio's time; 0 if it is not connected."""
        connections = self._open(ID.from_string(peer_id))
        return max((connection.muxed_conn.heard_at for connection in connections), default=0.0)

    async def sever(self, peer_id: str) -> None:
        """No connection to the peer is left, even if it reads nothing any more (B14).

        The sockets are closed under the library: a farewell in order would wait for a peer that
        stopped reading. The library's own reading loops then notice and clean up.
        """
        for connection in self._swarm.get_connections(ID.from_string(peer_id)):
            await quietly(connection.muxed_conn.secured_conn.close)
            with trio.move_on_after(self._limits.stop_timeout_s):
                await connection.event_closed.wait()

    async def publish(self, data: bytes) -> None:
        """`data` is on its way to the peers. LocalProtocolError beyond the size limit (B16)."""
        if len(data) > self._limits.gossip_limit:
            raise LocalProtocolError(f"gossip of {len(data)} bytes is over the limit")
        await self._pubsub.publish(self._topic, data)

    def listeners(self) -> list[str]:
        """The peers that are subscribed to the topic and can be written to."""
        subscribed = self._pubsub.peer_topics.get(self._topic, ())
        return [str(peer) for peer in subscribed if peer in self._pubsub.peers]

    async def gossip(
        self, check: Callable[[str, bytes], bool]
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        """Subscribes, and yields (author, data) of every message for which `check` says yes.

        `check` runs once for each message, before it is relayed (B4: the library runs async
        checks twice); the author's signature was verified before. What it raises is logged and
        counts as no (B2). Own messages are neither checked nor yielded.
        """

        def valid(_forwarder: Any, message: Any) -> bool:
            try:
                author = str(ID(message.from_id))
                if author == self.peer_id:
                    return True
                return len(message.data) <= self._limits.gossip_limit and check(
                    author, message.data
                )
            except Exception as error:  # noqa: BLE001  a raising validator would end gossip
                log.warning("gossip check failed", error=repr(error))
                return False

        self._pubsub.set_topic_validator(self._topic, valid, False)
        subscription = await self._pubsub.subscribe(self._topic)
        async for message in subscription:
            author = str(ID(message.from_id))
            if author != self.peer_id:
                yield author, message.data


def _root_cause(error: BaseException) -> str:
    while True:
        several = getattr(error, "errors", None)
        below = several[0] if several else error.__cause__
        if below is None:
            return str(error) or type(error).__name__
        error = below


def _build(private_key: bytes, network_key: bytes | None, limits: Limits) -> Any:
    keys = create_new_key_pair(private_key)
    most = limits.inbound_connections + 100
    host = new_host(
        key_pair=keys,
        sec_opt={NOISE_PROTOCOL: Noise(keys, noise_privkey=create_noise_key_pair().private_key)},
        muxer_opt={TProtocol(YAMUX_PROTOCOL): Yamux},
        psk=network_key.hex() if network_key is not None else None,
        disable_identify_address_discovery=True,
        connection_config=ConnectionConfig(
            max_connections=most,
            max_connections_per_peer=limits.connections_per_peer,
            high_watermark=most,
            low_watermark=0,
            min_connections=0,
            inbound_upgrade_timeout=limits.handshake_timeout_s,
            outbound_upgrade_timeout=limits.handshake_timeout_s,
            inbound_stream_protocol_negotiation_timeout=limits.negotiation_timeout_s,
            outbound_stream_protocol_negotiation_timeout=limits.negotiation_timeout_s,
        ),
    )
    swarm: Any = host.get_network()
    swarm.retry_config = RetryConfig(max_retries=0)
    swarm.auto_connector.maybe_connect = trio.lowlevel.checkpoint  # B27
    # Its rate limiter counts every peer that is not yet known as one; our own caps replace it.
    swarm.set_resource_manager(None)
    return host


def _build_gossip(host: Any, topic: str, limits: Limits) -> tuple[Any, Any]:
    heartbeat_s: Any = limits.heartbeat_interval_s  # annotated int, and slept with
    router = GossipSub(
        [PROTOCOL_ID_V12, PROTOCOL_ID_V11],
        degree=6,
        degree_low=4,
        degree_high=12,
        heartbeat_interval=heartbeat_s,  # B11
        spam_protection_enabled=False,  # B10
        adaptive_gossip_enabled=False,
    )
    pubsub = SafePubsub(
        host, router, allowed_topics={topic}, max_inbound_rpc_size=4 * limits.gossip_limit
    )
    pubsub.counter = time.time_ns()  # B5
    return pubsub, router


@asynccontextmanager
async def open_guard(
    private_key: bytes,
    topic: str,
    *,
    limits: Limits,
    admission: Admission = EVERYBODY,
    network_key: bytes | None = None,
) -> AsyncIterator[Guard]:
    """A host that gossips on `topic` until the block ends, and accepts nobody before `listen`.

    `private_key` is a 32-byte Ed25519 seed, `network_key` 32 bytes that all members of a closed
    network share. Afterwards no socket is open, within about `stop_timeout_s` (B9).
    """
    mend_library()
    host = _build(private_key, network_key, limits)
    swarm = host.get_network()
    Inbound(swarm, limits, admission)
    pubsub, router = _build_gossip(host, topic, limits)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(host.run([]))
        contain_tasks(swarm.manager)
        for service in (pubsub, router):
            contain_tasks(await stack.enter_async_context(background_trio_service(service)))
        await pubsub.wait_until_ready()
        try:
            yield Guard(host, pubsub, topic, limits)
        finally:
            await _close(host, limits)
            pubsub.seen_messages.stop()  # B24


async def _close(host: Any, limits: Limits) -> None:
    """B9. All connections at once: in order the library takes 0.2 s for each."""
    swarm = host.get_network()
    with trio.move_on_after(limits.stop_timeout_s) as scope:
        scope.shield = True
        async with trio.open_nursery() as nursery:
            for connection in swarm.get_connections():
                nursery.start_soon(quietly, connection.close, limits.stop_timeout_s)
    for connection in swarm.get_connections():
        await quietly(connection.muxed_conn.secured_conn.close)
    swarm.connections.clear()
    await quietly(host.close, limits.stop_timeout_s)
