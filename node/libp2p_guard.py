"""Everything that touches py-libp2p 0.8.1, and a defence for each of its faults that was met.

Adversary: any peer that can open a TCP connection, speaks any bytes at any time, and restarts,
stalls or lies as it likes. What must hold: its bytes may end its stream, its connection and its
standing, never the process, and never a slot that others need. Noise authenticates the peer id;
nothing else that a peer says is believed here.

Each defence names its fault, and tests/node/test_libp2p_faults.py shows it against the stock
library, so that the day upstream mends one its shim goes:

B1  an exception in any stream handler kills the host           `_contain_streams`
B2  a bad key or a raising validator kills gossip               `SafePubsub`, `_contain_tasks`
B3  250 connections, and no peer can connect any more           `_Inbound`
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

Logs: the library writes through `libp2p.*` loggers that do not propagate and have no handler, so
its warnings would reach stderr as bare text, and a peer can cause them at will. They are rewritten
as debug events of the logger `libp2p`, at most `LIBRARY_LINES_PER_MINUTE` of them; what matters to
an operator is logged by node.host in our own words.
"""

import logging
import secrets
import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import node.libp2p_loading  # noqa: F401  before libp2p, which it loads

# isort: split
import libp2p.network.swarm as swarm_module
import libp2p.protocol_muxer.multiselect_communicator as communicator_module
import libp2p.pubsub.gossipsub as gossipsub_module
import libp2p.pubsub.pubsub as pubsub_module
import libp2p.transport.tcp.tcp as tcp_module
import trio
from libp2p import new_host
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import ParseError
from libp2p.host.ping import ID as PING_PROTOCOL
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub import rpc_queue
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as Noise
from libp2p.security.pnet.protector import new_protected_conn
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE, Yamux, YamuxStream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr  # type: ignore[import-untyped]

from node.admission import Admission, origin
from node.log import get_logger
from node.standing import ByteRate
from node.streams import StreamBroken, read_exactly, reset
from protocol.errors import LocalProtocolError, RemoteProtocolError

log = get_logger("node.libp2p")

LIBRARY_LINES_PER_MINUTE = 30
NEGOTIATION_LINE_LIMIT = 1_024
PING_SIZE = 32
RECORDS_LIMIT = 1_000
EVERYBODY = Admission()
CONNECTION_BUFFER_LIMIT = 4 * 1_048_576


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node grants to its peers, and how long it waits for them.

    Counts are of things open at once; an address is an IPv4 address or an IPv6 /64, behind which
    several organisations may stand. Of more than `connections_per_peer` the oldest is closed. The
    bytes are what arrives, over all connections of one peer and of one address; what comes faster
    waits in the peer's own buffers.
    """

    inbound_connections: int = 200
    inbound_per_address: int = 64
    handshakes_per_address: int = 16
    connections_per_peer: int = 4
    streams_per_peer: int = 64
    handshake_timeout_s: float = 5.0
    negotiation_timeout_s: int = 5
    stop_timeout_s: float = 1.0
    dial_timeout_s: float = 8.0
    ping_interval_s: float = 5.0
    ping_timeout_s: float = 5.0
    bytes_per_second_per_peer: float = 32 * 1_048_576
    bytes_per_second_per_address: float = 64 * 1_048_576
    gossip_limit: int = 65_536
    heartbeat_interval_s: float = 1.0


class Watcher(Protocol):
    """Who decides about peers, given by base58 id. None of the methods may raise or block."""

    def admit(self, peer_id: str) -> str | None:
        """Why a connection with the peer is refused, or None if it is welcome."""

    def connected(self, peer_id: str) -> None:
        """The peer has an open connection, and had none just before."""

    def disconnected(self, peer_id: str) -> None:
        """The peer has no open connection any more."""

    def misbehaved(self, peer_id: str, error: Exception) -> None:
        """One of the peer's streams ended in `error`."""


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
        await _quietly(self.inner.reset)

    async def _do(self, action: Awaitable[None]) -> None:
        try:
            await action
        except Exception as error:
            raise StreamBroken(repr(error)) from error


async def _quietly(action: Callable[[], Awaitable[None]], timeout_s: float = 1.0) -> None:
    with trio.move_on_after(timeout_s) as scope:
        scope.shield = True
        try:
            await action()
        except Exception as error:  # noqa: BLE001  what is thrown away may break as it likes
            log.debug("clean-up failed", error=repr(error))


class _LibraryLog(logging.Handler):
    """Rewrites the library's warnings as a bounded number of debug events."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._minute = 0
        self._lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._lines = minute, 0
        self._lines += 1
        if self._lines <= LIBRARY_LINES_PER_MINUTE:
            log.debug("library", logger=record.name, said=record.getMessage()[:500])


def _quiet_logs() -> None:
    library = logging.getLogger("libp2p")
    for handler in list(library.handlers):
        library.removeHandler(handler)
    library.addHandler(_LibraryLog())
    library.setLevel(logging.WARNING)
    library.propagate = False
    # B21: this module calls logging.debug(), which gives the root logger a handler on stderr.
    module: Any = swarm_connection
    module.logging = logging.getLogger("libp2p.swarm_connection")


def _claim_port_alone(sock: Any) -> None:
    """B7. Only hole punching needs SO_REUSEPORT, and nothing here punches holes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


async def _read_short_line(reader: Any) -> bytes:
    """B22: the library reads a protocol name of any length, before it knows who sends it."""
    line = await read_varint_prefixed_bytes_limited(reader, NEGOTIATION_LINE_LIMIT)
    if not line.endswith(b"\n"):
        raise ParseError("a protocol name must end with a line feed")
    return line[:-1]


@cache
def mend_library() -> None:
    """The defences that only module globals allow are in place; a second call changes nothing."""
    _Records()
    yamux_stream: Any = YamuxStream
    yamux_stream._auto_tune_and_send_window_update = _release_window
    _quiet_logs()
    swarm_module._HAPPY_EYEBALLS_DELAY = 0.0  # B12
    tcp_module._set_reuse_flags = _claim_port_alone
    communicator: Any = communicator_module
    communicator.read_delim = _read_short_line
    pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = 4_096  # B10
    rpc_queue.RpcQueue.__init__.__defaults__ = (1_024, rpc_queue.DefaultMaxMessageSize)  # B10


def _watch_buffers(muxed: Any) -> None:
    """B19: a connection that holds more unread bytes than the limit is closed.

    The library only warns when a peer writes past the window that it was given, so without this
    one peer can fill the memory through a stream that nobody reads. TooSlowError is what the
    library's reading loop takes as the order to close the connection. A subclass of Yamux would
    be plainer, but the library makes its own class whatever it is configured with. Here it is
    noted, too, when the peer was heard last, for B14.
    """
    inner = muxed._read_data_body
    muxed.heard_at = trio.current_time()

    async def read_data_body(length: int) -> bytes:
        muxed.heard_at = trio.current_time()
        held = sum(len(buffer) for buffer in muxed.stream_buffers.values())
        if held + length > CONNECTION_BUFFER_LIMIT:
            raise trio.TooSlowError(f"{held} unread bytes")
        return bytes(await inner(length))

    muxed._read_data_body = read_data_body


def _pace(muxed: Any, wait_s: Callable[[int], float]) -> None:
    """Every byte that arrives, headers too, is paid for by waiting before the next is read."""
    secured = muxed.secured_conn
    inner = secured.read

    async def read(most: int | None = None) -> bytes:
        data = bytes(await inner(most))
        pause_s = wait_s(len(data))
        if pause_s > 0:
            await trio.sleep(pause_s)
        return data

    secured.read = read


async def _release_window(stream: Any, *, bytes_read: int = 0) -> None:
    """B25: the library sends a window update for every read, of which some are of one byte.

    Now one goes out for each half window that was read. The window no longer grows: 256 KiB a
    round trip is plenty for what nodes say to each other, and bounds what they hold.
    """
    stream._pending_recv_release += bytes_read
    released = stream._pending_recv_release
    if released >= DEFAULT_WINDOW_SIZE // 2:
        stream._pending_recv_release = 0
        stream.recv_window += released
        await stream.send_window_update(released)


class _Records:
    """B26: the library makes, sends and verifies a signed record of addresses with each frame.

    Nothing here uses them, but peers of the library refuse frames without; so a host's own is
    made once it listens, and a peer's is verified when it changes.
    """

    def __init__(self) -> None:
        library: Any = pubsub_module
        self._make = library.env_to_send_in_RPC
        self._verify = library.maybe_consume_signed_record
        self._own: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()
        self._verified: WeakKeyDictionary[Any, dict[Any, bytes]] = WeakKeyDictionary()
        for module in (pubsub_module, gossipsub_module):
            patched: Any = module
            patched.env_to_send_in_RPC = self.own
            patched.maybe_consume_signed_record = self.verified

    def own(self, host: Any) -> tuple[bytes, bool]:
        record = self._own.get(host)
        if record is not None:
            return record, False
        record, fresh = self._make(host)
        if host.get_network().listeners:
            self._own[host] = record
        return record, fresh

    def verified(self, message: Any, host: Any, peer: Any) -> bool:
        of_peers = self._verified.setdefault(host, {})
        if of_peers.get(peer) == message.senderRecord:
            return True
        accepted = bool(self._verify(message, host, peer))
        if accepted:
            if len(of_peers) >= RECORDS_LIMIT:
                of_peers.clear()
            of_peers[peer] = message.senderRecord
        return accepted


class SafePubsub(Pubsub):
    """B2: what a peer sends ends at most its own message."""

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001  the boundary at which gossip is dropped
            log.debug("gossip dropped", forwarder=str(msg_forwarder), error=repr(error))


def _contain_tasks(manager: Any) -> None:
    """An exception in a passing task of a library service no longer ends the service (B1, B2).

    Daemon tasks, on which the service depends, still end it: without its heartbeat or its accept
    loop a node would only seem to live.
    """
    inner = manager.run_task

    def run_task(action: Any, *args: Any, daemon: bool = False, **options: Any) -> None:
        async def contained(*args: Any) -> None:
            try:
                await action(*args)
            except Exception as error:
                if daemon:
                    raise
                log.debug("library task failed", task=repr(action), error=repr(error))

        inner(contained, *args, daemon=daemon, **options)

    manager.run_task = run_task


def _contain_streams(host: Any, limits: Limits, watcher: Watcher) -> None:
    """B1, and a cap on the inbound streams of each peer. Every inbound stream passes here."""
    inner = host._swarm_stream_handler
    open_streams: Counter[str] = Counter()

    async def guarded(stream: Any) -> None:
        peer_id = str(stream.muxed_conn.peer_id)
        if open_streams[peer_id] >= limits.streams_per_peer:
            await _quietly(stream.reset)
            watcher.misbehaved(peer_id, RemoteProtocolError("too many streams at once"))
            return
        open_streams[peer_id] += 1
        try:
            await inner(stream)
        except Exception as error:  # noqa: BLE001  the boundary at which a stream ends
            await _quietly(stream.reset)
            watcher.misbehaved(peer_id, error)
        finally:
            open_streams[peer_id] -= 1
            if not open_streams[peer_id]:
                del open_streams[peer_id]

    host.get_network().set_stream_handler(guarded)


def _admit_by_peer(swarm: Any, limits: Limits, watcher: Watcher) -> None:
    """The library has no gate by peer id. Every connection passes here before it is used."""
    inner = swarm.add_conn
    of_peers = ByteRate(limits.bytes_per_second_per_peer)
    of_places = ByteRate(limits.bytes_per_second_per_address)

    async def add_conn(muxed: Any, direction: str = "unknown") -> Any:
        peer_id = str(muxed.peer_id)
        reason = watcher.admit(peer_id)
        if reason is not None:
            await _quietly(muxed.secured_conn.close)
            raise SwarmException(f"{peer_id} is refused: {reason}")
        remote = muxed.get_remote_address()

        def wait_s(size: int) -> float:
            now = trio.current_time()
            wait = of_peers.wait_s(peer_id, size, now)
            return max(wait, of_places.wait_s(origin(remote[0]), size, now)) if remote else wait

        _watch_buffers(muxed)
        _pace(muxed, wait_s)
        added = await inner(muxed, direction)
        held = [each for each in swarm.get_connections(muxed.peer_id) if is_open(each)]
        for oldest in held[: -limits.connections_per_peer]:
            await _quietly(oldest.muxed_conn.secured_conn.close)
        return added

    swarm.add_conn = add_conn


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


class _Inbound:
    """B3: an accept path whose slots live exactly as long as their connections.

    Before a peer is known only its address is: one address holds at most
    `handshakes_per_address` unfinished handshakes and `inbound_per_address` connections, so idle
    sockets from one place cannot keep everyone else out for the length of a handshake timeout.
    """

    def __init__(self, swarm: Any, limits: Limits, admission: Admission) -> None:
        self._swarm = swarm
        self._limits = limits
        self._admission = admission
        self._handshakes: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()
        swarm._inbound_limiter = trio.CapacityLimiter(limits.inbound_connections)
        swarm._do_handle_inbound_connection = self._handle

    async def _handle(self, connection: Any, listener: Any, _event: Any) -> None:
        remote = connection.get_remote_address()
        address = remote[0] if remote else ""
        place = origin(address)
        try:
            if self._admission.refuse_address(address) is None and self._has_room(place):
                await self._hold(RawConnection(connection, False), listener, place)
        except Exception as error:  # noqa: BLE001  the boundary at which a connection ends
            log.debug("inbound connection ended", address=address, error=repr(error))
        finally:
            await _quietly(connection.close)

    def _has_room(self, place: str) -> bool:
        return (
            self._handshakes[place] < self._limits.handshakes_per_address
            and self._connections[place] < self._limits.inbound_per_address
        )

    async def _hold(self, raw: Any, listener: Any, place: str) -> None:
        with _counted(self._connections, place):
            with _counted(self._handshakes, place):
                muxed = await self._swarm.upgrade_inbound_raw_conn(raw, listener)
            await muxed.event_closed.wait()


@contextmanager
def _counted(counter: Counter[str], key: str) -> Iterator[None]:
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


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


def is_open(connection: Any) -> bool:
    """Whether the connection is usable; the library lists it for a while after it broke."""
    return not connection.is_closed and not connection.muxed_conn.event_shutting_down.is_set()


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
        _contain_streams(self._host, self._limits, watcher)
        _admit_by_peer(self._swarm, self._limits, watcher)
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
        except Exception as error:
            await _quietly(stream.reset)
            raise StreamBroken(_root_cause(error)) from error
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
            await _quietly(connection.muxed_conn.secured_conn.close)
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
    _Inbound(swarm, limits, admission)
    pubsub, router = _build_gossip(host, topic, limits)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(host.run([]))
        _contain_tasks(swarm.manager)
        for service in (pubsub, router):
            _contain_tasks(await stack.enter_async_context(background_trio_service(service)))
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
                nursery.start_soon(_quietly, connection.close, limits.stop_timeout_s)
    for connection in swarm.get_connections():
        await _quietly(connection.muxed_conn.secured_conn.close)
    swarm.connections.clear()
    await _quietly(host.close, limits.stop_timeout_s)
