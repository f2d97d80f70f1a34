"""Who gets in, and how much of this node one peer or one address can hold.

Adversary: any number of peers from any number of addresses; see node.libp2p_guard, whose table
names the faults that are answered here (B1, B3, B19).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import node.libp2p_loading  # noqa: F401  before libp2p, which it loads

# isort: split
import trio
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException

from node.admission import Admission, origin
from node.log import get_logger
from node.standing import ByteRate
from protocol.errors import RemoteProtocolError

log = get_logger("node.libp2p")

EVERYBODY = Admission()
READ_COST = 8_192
"""Bytes that a read counts for besides its own: 4,000 frames a second of one peer."""
CONNECTION_BUFFER_LIMIT = 4 * 1_048_576


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node grants to its peers, and how long it waits for them.

    Counts are of things open at once; an address is an IPv4 address or an IPv6 /64, behind which
    several organisations may stand. Of more than `connections_per_peer` the oldest is closed. The
    bytes, and the messages of gossip, are what arrives over all connections of one peer and of one
    address; what comes faster waits in the peer's own buffers.
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
    gossip_per_second_per_peer: float = 400.0
    gossip_per_second_per_address: float = 800.0
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


async def quietly(action: Callable[[], Awaitable[None]], timeout_s: float = 1.0) -> None:
    with trio.move_on_after(timeout_s) as scope:
        scope.shield = True
        try:
            await action()
        except Exception as error:  # noqa: BLE001  what is thrown away may break as it likes
            log.debug("clean-up failed", error=repr(error))


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
    """Every byte that arrives, headers too, is paid for by waiting before the next is read.

    B29: what is read already is handled without a pause, so a few kilobytes of tiny frames would
    hold up everybody. Here others have their turn after each read, and each costs READ_COST more.
    """
    secured = muxed.secured_conn
    inner = secured.read

    async def read(most: int | None = None) -> bytes:
        data = bytes(await inner(most))
        await trio.sleep(wait_s(len(data) + READ_COST))
        return data

    secured.read = read


def contain_streams(host: Any, limits: Limits, watcher: Watcher) -> None:
    """B1, and a cap on the inbound streams of each peer. Every inbound stream passes here."""
    inner = host._swarm_stream_handler
    open_streams: Counter[str] = Counter()

    async def guarded(stream: Any) -> None:
        peer_id = str(stream.muxed_conn.peer_id)
        if open_streams[peer_id] >= limits.streams_per_peer:
            await quietly(stream.reset)
            watcher.misbehaved(peer_id, RemoteProtocolError("too many streams at once"))
            return
        open_streams[peer_id] += 1
        try:
            await inner(stream)
        except Exception as error:  # noqa: BLE001  the boundary at which a stream ends
            await quietly(stream.reset)
            watcher.misbehaved(peer_id, error)
        finally:
            open_streams[peer_id] -= 1
            if not open_streams[peer_id]:
                del open_streams[peer_id]

    host.get_network().set_stream_handler(guarded)


def admit_by_peer(swarm: Any, limits: Limits, watcher: Watcher) -> None:
    """The library has no gate by peer id. Every connection passes here before it is used."""
    inner = swarm.add_conn
    bytes_wait_s = _waits(limits.bytes_per_second_per_peer, limits.bytes_per_second_per_address)
    gossip_wait_s = _waits(limits.gossip_per_second_per_peer, limits.gossip_per_second_per_address)

    async def add_conn(muxed: Any, direction: str = "unknown") -> Any:
        peer_id = str(muxed.peer_id)
        reason = watcher.admit(peer_id)
        if reason is not None:
            await quietly(muxed.secured_conn.close)
            raise SwarmException(f"{peer_id} is refused: {reason}")
        remote = muxed.get_remote_address()
        place = origin(remote[0]) if remote else None
        muxed.gossip_wait_s = partial(gossip_wait_s, peer_id, place)
        _watch_buffers(muxed)
        _pace(muxed, partial(bytes_wait_s, peer_id, place))
        added = await inner(muxed, direction)
        held = [each for each in swarm.get_connections(muxed.peer_id) if is_open(each)]
        for oldest in held[: -limits.connections_per_peer]:
            await quietly(oldest.muxed_conn.secured_conn.close)
        return added

    swarm.add_conn = add_conn


def _waits(of_peer: float, of_place: float) -> Callable[[str, str | None, int], float]:
    """How long who sent so much has to wait: as a peer, and as one of all behind an address."""
    of_peers, of_places = ByteRate(of_peer), ByteRate(of_place)

    def wait_s(peer_id: str, place: str | None, size: int) -> float:
        now = trio.current_time()
        wait = of_peers.wait_s(peer_id, size, now)
        return wait if place is None else max(wait, of_places.wait_s(place, size, now))

    return wait_s


class Inbound:
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
            await quietly(connection.close)

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


def is_open(connection: Any) -> bool:
    """Whether the connection is usable; the library lists it for a while after it broke."""
    return not connection.is_closed and not connection.muxed_conn.event_shutting_down.is_set()
