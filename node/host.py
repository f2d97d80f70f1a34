"""The node among its peers: who they are, asking them, being asked, and gossip.

Adversary: a peer that sends anything, at any rate, on any protocol, or nothing at all. It can
lose its stream, its connection and its standing; the host lives. Leaks: whoever can connect
learns this node's peer id, its addresses and which protocols it serves; gossip is public.

A host keeps a connection to every peer that it was told of (`know`): it redials with back-off and
jitter, and it pings what is connected, so a peer whose process is stopped, or whose cable is out,
is dropped after about `ping_interval_s` + `ping_timeout_s` of its `Limits`. Everybody else may
connect until the caps there are reached.

Nothing here trusts a peer's word: peer ids are proved by the Noise handshake, authors of gossip by
their signature; what they say is checked by whoever serves the protocol.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from secrets import SystemRandom

import trio

from node.addresses import dialable, endpoint, port_in_use, probe
from node.admission import Admission
from node.errors import Fault
from node.libp2p_guard import EVERYBODY, Guard, GuardedStream, Limits, open_guard
from node.log import get_logger
from node.peers import PeerRefused, PeerStatus, PeerTimeout, PeerUnreachable
from node.standing import BAN_AT, AuthorRate, Standing
from node.streams import FRAME_LIMIT, ByteStream, StreamBroken, answer, ask, reset
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import PeerId
from protocol.messages import topic
from protocol.peers import is_peer_id

__all__ = ["Host", "PeerRefused", "PeerStatus", "PeerTimeout", "PeerUnreachable", "open_host"]

log = get_logger("node.host")

BACK_OFF_FIRST_S = 0.25
BACK_OFF_MOST_S = 30.0
STEADY_AFTER_S = 5.0
HANDLER_TIMEOUT_S = 30.0
PENALTY_PROTOCOL = 20.0
PENALTY_STREAM = 5.0
GOSSIP_PER_SECOND = 100.0
GOSSIP_BURST = 400.0
STRANGER_LINES_PER_SECOND = 0.5
STRANGER_LINES_BURST = 30.0
DEFAULT_LIMITS = Limits()

Handler = Callable[[PeerId, bytes], Awaitable[bytes]]
StreamHandler = Callable[[PeerId, ByteStream], Awaitable[None]]
Check = Callable[[PeerId, bytes], bool]
Receive = Callable[[PeerId, bytes], Awaitable[None]]


class _Peer:
    """One peer's mutable state; `changed` is replaced each time that it is set."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.known = False
        self.changed = trio.Event()
        self.dialling = trio.Lock()
        self.failures = 0
        self.last_seen: float | None = None
        self.connected_at: float | None = None
        self.round_trip_s: float | None = None
        self.last_error = "it closed the connection"


class Host:
    """One libp2p host with requests, served protocols and one topic. Made by `open_host`."""

    def __init__(
        self, guard: Guard, nursery: trio.Nursery, limits: Limits, admission: Admission
    ) -> None:
        self._guard = guard
        self._limits = limits
        self._admission = admission
        self._nursery = nursery
        self._peers: dict[str, _Peer] = {}
        self._standing = Standing()
        self._random = SystemRandom()
        self._on_connected: list[Callable[[PeerId], Awaitable[None]]] = []
        self._lines = AuthorRate(STRANGER_LINES_PER_SECOND, STRANGER_LINES_BURST)
        self._rate = AuthorRate(GOSSIP_PER_SECOND, GOSSIP_BURST)
        self.addresses: tuple[str, ...] = ()

    @property
    def peer_id(self) -> PeerId:
        """This host's own peer id."""
        return PeerId(self._guard.peer_id)

    async def request(
        self, peer_id: PeerId, protocol: str, payload: bytes, *, timeout_s: float
    ) -> bytes:
        """The peer's answer to `payload` on `protocol`, at most FRAME_LIMIT bytes.

        A known peer that is not connected is dialled first, within the same `timeout_s`.
        PeerUnreachable, PeerTimeout, PeerRefused; RemoteProtocolError if its answer breaks the
        framing; LocalProtocolError if `payload` is over FRAME_LIMIT.
        """
        if not is_peer_id(peer_id):
            raise PeerUnreachable(peer_id, "that is no peer id")
        if len(payload) > FRAME_LIMIT:
            raise LocalProtocolError(f"a request of {len(payload)} bytes is over the limit")
        with trio.move_on_after(timeout_s):
            stream = await self._open_stream(peer_id, protocol)
            try:
                received = await ask(stream, payload)
            except StreamBroken as error:
                if self._guard.is_connected(peer_id):
                    raise PeerRefused(peer_id, protocol, str(error)) from error
                raise PeerUnreachable(peer_id, str(error)) from error
            except RemoteProtocolError as error:
                self._penalise(peer_id, PENALTY_PROTOCOL, f"{protocol}: {error}")
                raise
            self._seen(peer_id)
            return received
        raise PeerTimeout(peer_id, protocol, timeout_s)

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        limit: int = FRAME_LIMIT,
        timeout_s: float = HANDLER_TIMEOUT_S,
    ) -> None:
        """Requests of at most `limit` bytes on `protocol` are answered by `handler`.

        Reading, handling and answering take at most `timeout_s` together. When `handler` raises
        the stream is reset; a RemoteProtocolError counts against the peer, anything else is
        logged as our own failure. A second call replaces the handler.
        """

        async def serve_one(peer_id: PeerId, stream: ByteStream) -> None:
            await answer(
                stream,
                lambda request: handler(peer_id, request),
                request_limit=limit,
                timeout_s=timeout_s,
            )

        self.serve_stream(protocol, serve_one)

    def serve_stream(self, protocol: str, handler: StreamHandler) -> None:
        """Streams of `protocol`, which has a framing of its own, are given to `handler`.

        `handler` keeps its own deadlines and ends the stream itself, by a reset if it raises. A
        RemoteProtocolError counts against the peer, a failure that is ours is logged. A second
        call replaces the handler.
        """

        async def serve_one(peer_id: str, stream: GuardedStream) -> None:
            self._seen(peer_id)
            try:
                await handler(PeerId(peer_id), stream)
            except RemoteProtocolError as error:
                self._penalise(peer_id, PENALTY_PROTOCOL, f"{protocol}: {error}")
            except (StreamBroken, trio.TooSlowError) as error:
                log.debug("stream ended", peer=peer_id, protocol=protocol, reason=repr(error))
            except Exception:
                log.exception("handler failed", peer=peer_id, protocol=protocol)

        self._guard.handle(protocol, serve_one)

    async def send(self, peer_id: PeerId, protocol: str, data: bytes, *, timeout_s: float) -> None:
        """`data` was written on a stream of its own to the peer, which is to answer nothing.

        Dials and raises as `request` does.
        """
        with trio.move_on_after(timeout_s):
            stream = await self._open_stream(peer_id, protocol)
            try:
                await stream.write(data)
                await stream.close()
            except BaseException as error:
                await reset(stream)
                if isinstance(error, StreamBroken):
                    raise PeerUnreachable(peer_id, str(error)) from error
                raise
            return
        raise PeerTimeout(peer_id, protocol, timeout_s)

    async def publish(self, payload: bytes) -> None:
        """`payload` was given to the peers that listen to this network's topic.

        LocalProtocolError if it is larger than `Limits.gossip_limit`.
        """
        await self._guard.publish(payload)

    def on_gossip(self, check: Check, receive: Receive) -> None:
        """From now on, what others publish is given to `receive` and relayed if `check` agrees.

        Both get the author, whose signature was verified, and the payload. `check` is
        synchronous, quick, and runs once for each message; `receive` is awaited for one message
        after another, so a slow one delays the next, and after 4,096 waiting ones they are lost.
        RemoteProtocolError from `receive` counts against the author. Call it once.
        """
        self._nursery.start_soon(self._gossip, check, receive)

    def listeners(self) -> list[PeerId]:
        """The connected peers to which `publish` would give something now."""
        return [PeerId(peer_id) for peer_id in self._guard.listeners()]

    def on_connected(self, action: Callable[[PeerId], Awaitable[None]]) -> None:
        """`action` runs, as a task of its own, each time that a peer connects."""
        self._on_connected.append(action)

    def report(self, peer_id: PeerId, reason: str) -> None:
        """The peer's answer was framed well and broke a rule all the same: it loses standing."""
        self._penalise(peer_id, PENALTY_PROTOCOL, reason)

    def know(self, peer_id: PeerId, addresses: Iterable[str]) -> None:
        """A connection to `peer_id` is kept from now on, at one of `addresses` (multiaddr text).

        Replaces earlier addresses. Fault "address-invalid" if one cannot be dialled by
        TCP, or if `peer_id` is none.
        """
        if not is_peer_id(peer_id):
            raise Fault("address-invalid", f"{peer_id!r} is no peer id.", peer_id=peer_id)
        cleaned = tuple(dialable(address, peer_id) for address in addresses)
        peer = self._peer(peer_id)
        peer.addresses = cleaned
        if peer_id != self.peer_id and not peer.known:
            peer.known = True
            self._nursery.start_soon(self._keep, peer_id, peer)
        self._wake(peer)

    def peers(self) -> list[PeerStatus]:
        """Every peer that is known, connected, or was since the start; connected ones first."""
        now = trio.current_time()
        found = [self._status(peer_id, peer, now) for peer_id, peer in self._peers.items()]
        return sorted(found, key=lambda status: (not status.connected, status.peer_id))

    async def drop(self, peer_id: PeerId) -> None:
        """Every connection to the peer is cut. A known peer will be dialled again."""
        await self._guard.sever(peer_id)

    # --- what the guard tells

    def admit(self, peer_id: str) -> str | None:
        """Why the peer is refused, or None. Asked by the guard."""
        ban = self._standing.ban(peer_id, trio.current_time())
        return self._admission.refuse_peer(peer_id) if ban is None else ban.reason

    def misbehaved(self, peer_id: str, error: Exception) -> None:
        """A stream of the peer ended in `error`. Told by the guard."""
        self._penalise(peer_id, PENALTY_STREAM, repr(error))

    def connected(self, peer_id: str) -> None:
        """The peer is here, and was not just before. Told by the guard."""
        peer = self._peer(peer_id)
        peer.connected_at = trio.current_time()
        self._seen(peer_id)
        self._tell("peer connected", peer_id)
        for action in self._on_connected:
            self._nursery.start_soon(self._welcome, action, peer_id)
        self._wake(peer)

    def disconnected(self, peer_id: str) -> None:
        """The peer is gone. Told by the guard.

        A short connection counts as a failure: two nodes of which one refuses the other would
        dial without pause.
        """
        peer = self._peer(peer_id)
        since = trio.current_time() - (peer.connected_at or trio.current_time())
        peer.failures = 0 if since >= STEADY_AFTER_S else peer.failures + 1
        peer.connected_at = None
        self._tell("peer disconnected", peer_id)
        self._wake(peer)
        self._forget_strangers()

    # --- state

    def _peer(self, peer_id: str) -> _Peer:
        return self._peers.setdefault(peer_id, _Peer())

    def _wake(self, peer: _Peer) -> None:
        peer.changed.set()
        peer.changed = trio.Event()

    def _seen(self, peer_id: str) -> None:
        self._peer(peer_id).last_seen = time.time()

    def _forget_strangers(self) -> None:
        """Peer ids are free to make: of strangers who left, only the last 1,000 are remembered."""
        gone = [
            peer_id
            for peer_id, peer in self._peers.items()
            if not peer.known and peer.connected_at is None
        ]
        for peer_id in gone[:-1_000]:
            del self._peers[peer_id]

    def _status(self, peer_id: str, peer: _Peer, now: float) -> PeerStatus:
        ban = self._standing.ban(peer_id, now)
        remote = self._guard.remote_address(peer_id)
        return PeerStatus(
            peer_id=PeerId(peer_id),
            address=remote or next(iter(peer.addresses), ""),
            connected=remote is not None,
            last_seen=peer.last_seen,
            failures=0 if remote else peer.failures,
            known=peer.known,
            round_trip_s=peer.round_trip_s,
            penalty=BAN_AT if ban else self._standing.penalty(peer_id, now),
            banned=ban.reason if ban else None,
        )

    def _penalise(self, peer_id: str, points: float, reason: str) -> None:
        self._tell("peer misbehaved", peer_id, reason=reason[:300])
        if self._standing.penalise(peer_id, points, reason[:300], trio.current_time()):
            self._tell("peer banned", peer_id, reason=reason[:300])
            self._nursery.start_soon(self._guard.sever, peer_id)

    def _tell(self, event: str, peer_id: str, **values: str) -> None:
        """Logged, unless strangers cause it too often: identities are free, disks are not."""
        peer = self._peers.get(peer_id)
        known = peer is not None and peer.known
        if known or self._lines.allows(event, trio.current_time()):
            log.info(event, peer=peer_id, known=known, **values)

    # --- tasks

    async def _open_stream(self, peer_id: PeerId, protocol: str) -> GuardedStream:
        """A stream to the peer; a second try if the connection turned out to be broken."""
        await self._reach(peer_id)
        try:
            return await self._guard.open_stream(peer_id, protocol)
        except StreamBroken as error:
            if self._guard.is_connected(peer_id):
                raise PeerRefused(peer_id, protocol, str(error)) from error
        await self._reach(peer_id)
        try:
            return await self._guard.open_stream(peer_id, protocol)
        except StreamBroken as error:
            raise PeerUnreachable(peer_id, str(error)) from error

    async def _reach(self, peer_id: PeerId) -> None:
        if self._guard.is_connected(peer_id):
            return
        peer = self._peers.get(peer_id)
        if peer is None or not peer.addresses:
            raise PeerUnreachable(peer_id, "no address of it is known")
        if not await self._dial(peer_id, peer):
            raise PeerUnreachable(peer_id, peer.last_error)

    async def _dial(self, peer_id: str, peer: _Peer) -> bool:
        """Tries each address in turn; True once the peer is connected."""
        async with peer.dialling:
            for address in peer.addresses:
                if self._guard.is_connected(peer_id):
                    return True
                refused = self._admission.refuse_address(endpoint(address)[0])
                if refused is not None:
                    peer.last_error = refused
                    continue
                with trio.move_on_after(self._limits.dial_timeout_s) as scope:
                    try:
                        await self._guard.dial(peer_id, address)
                    except StreamBroken as error:
                        peer.last_error = str(error)
                if scope.cancelled_caught:
                    peer.last_error = f"{address} did not answer in time"
            return self._guard.is_connected(peer_id)

    async def _keep(self, peer_id: str, peer: _Peer) -> None:
        """Dials `peer` whenever it is not connected, for as long as the host lives."""
        while True:
            changed = peer.changed
            if self._guard.is_connected(peer_id):
                await changed.wait()
                continue
            if peer.failures:
                with trio.move_on_after(self._back_off_s(peer.failures)):
                    await changed.wait()
            if self._guard.is_connected(peer_id):
                continue
            if self.admit(peer_id) is not None or not await self._dial(peer_id, peer):
                peer.failures += 1

    def _back_off_s(self, failures: int) -> float:
        wait_s = min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * 2.0 ** min(failures - 1, 16))
        return wait_s * self._random.uniform(0.5, 1.5)

    async def watch(self) -> None:
        """Pings every connected peer every `ping_interval_s` or so, and cuts off the silent."""
        while True:
            await trio.sleep(self._limits.ping_interval_s * self._random.uniform(0.8, 1.2))
            for peer_id in self._guard.connected():
                self._nursery.start_soon(self._check_alive, peer_id)

    async def _check_alive(self, peer_id: str) -> None:
        """A peer that said anything since the question is alive, if it is too busy to answer."""
        asked = trio.current_time()
        reason = f"nothing heard for {self._limits.ping_timeout_s:g} s"
        with trio.move_on_after(self._limits.ping_timeout_s):
            try:
                self._peer(peer_id).round_trip_s = await self._guard.ping(peer_id)
            except (StreamBroken, RemoteProtocolError) as error:
                reason = str(error)
        if self._guard.heard_at(peer_id) >= asked:
            self._seen(peer_id)
        elif self._guard.is_connected(peer_id):
            self._tell("peer cut off", peer_id, reason=reason)
            await self._guard.sever(peer_id)

    async def _welcome(self, action: Callable[[PeerId], Awaitable[None]], peer_id: str) -> None:
        try:
            await action(PeerId(peer_id))
        except Fault as fault:
            log.debug("peer left early", peer=peer_id, reason=fault.sentence)
        except RemoteProtocolError as error:
            self._penalise(peer_id, PENALTY_PROTOCOL, str(error))
        except Exception:
            log.exception("welcome failed", peer=peer_id)

    async def _gossip(self, check: Check, receive: Receive) -> None:
        def admitted(author: str, payload: bytes) -> bool:
            return self._rate.allows(author, trio.current_time()) and check(PeerId(author), payload)

        async with aclosing(self._guard.gossip(admitted)) as messages:
            async for author, payload in messages:
                try:
                    await receive(PeerId(author), payload)
                except RemoteProtocolError as error:
                    self._penalise(author, PENALTY_PROTOCOL, f"gossip: {error}")
                except Exception:
                    log.exception("gossip handler failed", author=author)


@asynccontextmanager
async def open_host(
    private_key: bytes,
    listen: str | Sequence[str],
    network: str,
    known: Mapping[PeerId, Iterable[str]] | None = None,
    *,
    network_key: bytes | None = None,
    limits: Limits = DEFAULT_LIMITS,
    admission: Admission = EVERYBODY,
) -> AsyncIterator[Host]:
    """A host that listens and keeps its connections until the block ends; then no socket is open.

    `private_key` is a 32-byte Ed25519 seed, `listen` one or more multiaddrs like
    `/ip4/127.0.0.1/tcp/4001` (port 0: any), `network` the name in the topic, `known` the
    addresses of the peers to stay connected with, `network_key` 32 secret bytes of a closed
    network, `admission` who may connect. Fault "port-in-use" or "address-invalid". An exception
    of the block comes out as it is, not in the groups of the many nurseries below.
    """
    addresses = [listen] if isinstance(listen, str) else list(listen)
    for address in addresses:
        probe(address)
    failure: Exception | None = None
    async with (
        open_guard(
            private_key, topic(network), limits=limits, admission=admission, network_key=network_key
        ) as guard,
        trio.open_nursery() as nursery,
    ):
        host = Host(guard, nursery, limits, admission)
        up = await guard.listen(addresses, host)
        if up:
            host.addresses = tuple(f"{address}/p2p/{guard.peer_id}" for address in up)
            nursery.start_soon(host.watch)
            for peer_id, known_addresses in (known or {}).items():
                host.know(peer_id, known_addresses)
            try:
                yield host
            except Exception as error:  # noqa: BLE001  raised again below, once all is closed
                failure = error
            finally:
                nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not up:
        raise port_in_use(addresses[0])
