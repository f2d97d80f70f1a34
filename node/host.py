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

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import trio

from node.addresses import dialable, port_in_use, probe
from node.admission import Admission
from node.dialling import Dialling
from node.errors import Fault
from node.libp2p_guard import EVERYBODY, Guard, GuardedStream, Limits, open_guard
from node.liveness import Liveness
from node.log import get_logger
from node.peer_store import PeerStore, Source
from node.peer_table import PeerTable
from node.peers import PeerRefused, PeerStatus, PeerTimeout, PeerUnreachable
from node.standing import BAN_S, AuthorRate, Ban, Standing
from node.streams import FRAME_LIMIT, ByteStream, StreamBroken, answer, ask, reset
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import PeerId
from protocol.messages import topic
from protocol.peers import is_peer_id

__all__ = ["Host", "PeerRefused", "PeerStatus", "PeerTimeout", "PeerUnreachable", "open_host"]

log = get_logger("node.host")

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
StreamHandler = Callable[[PeerId, GuardedStream], Awaitable[None]]
Check = Callable[[PeerId, bytes], bool]
Receive = Callable[[PeerId, bytes], Awaitable[None]]


class Host:
    """One libp2p host with requests, served protocols and one topic. Made by `open_host`."""

    def __init__(
        self,
        guard: Guard,
        nursery: trio.Nursery,
        limits: Limits,
        admission: Admission,
        store: PeerStore,
    ) -> None:
        self._guard = guard
        self._admission = admission
        self._nursery = nursery
        self._store = store
        self._table = PeerTable()
        self._dialling = Dialling(guard, self._table, store, admission, limits)
        self._liveness = Liveness(guard, self._table, limits, self._cut)
        self._standing = _standing(store)
        self._on_connected: list[Callable[[PeerId], Awaitable[None]]] = []
        self._lines = AuthorRate(STRANGER_LINES_PER_SECOND, STRANGER_LINES_BURST)
        self._rate = AuthorRate(GOSSIP_PER_SECOND, GOSSIP_BURST)
        self._announced: tuple[str, ...] = ()
        self._circuits: dict[str, tuple[str, ...]] = {}
        self.listening: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others can dial this node, with its peer id: what announcements tell.

        The announced addresses if the configuration names any, else those listened on; then
        those through relays that hold a reservation for this node.
        """
        direct = self._announced or self.listening
        return direct + tuple(each for of_one in self._circuits.values() for each in of_one)

    @property
    def peer_id(self) -> PeerId:
        """This host's own peer id."""
        return PeerId(self._guard.peer_id)

    @property
    def guard(self) -> Guard:
        """What this host stands on, for the rooms that speak libp2p's own protocols."""
        return self._guard

    @property
    def dialling(self) -> Dialling:
        """How connections outwards are had; discovery adds further ways to it."""
        return self._dialling

    @property
    def store(self) -> PeerStore:
        """What is remembered of peers."""
        return self._store

    def spawn(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """`task` runs until it ends or the host does."""
        self._nursery.start_soon(task, *arguments)

    def reachable_through(self, relay: PeerId, addresses: Iterable[str]) -> None:
        """`relay` holds a reservation for this node: others are told `addresses` too, or none."""
        self._circuits[relay] = tuple(addresses)

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
            stream = await self.open_stream(peer_id, protocol)
            try:
                received = await ask(stream, payload)
            except StreamBroken as error:
                if self._guard.is_connected(peer_id):
                    raise PeerRefused(peer_id, protocol, str(error)) from error
                raise PeerUnreachable(peer_id, str(error)) from error
            except RemoteProtocolError as error:
                self._penalise(peer_id, PENALTY_PROTOCOL, f"{protocol}: {error}")
                raise
            self._table.seen(peer_id)
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

        `handler` keeps its own deadlines and ends the stream; if it raises the stream is reset. A
        RemoteProtocolError counts against the peer, a Fault against nobody, any other failure is
        ours and logged. A second call replaces the handler.
        """

        async def serve_one(peer_id: str, stream: GuardedStream) -> None:
            self._table.seen(peer_id)
            try:
                await handler(PeerId(peer_id), stream)
            except RemoteProtocolError as error:
                await reset(stream)
                self._penalise(peer_id, PENALTY_PROTOCOL, f"{protocol}: {error}")
            except (StreamBroken, trio.TooSlowError) as error:
                await reset(stream)
                log.debug("stream ended", peer=peer_id, protocol=protocol, reason=repr(error))
            except Fault as fault:
                await reset(stream)
                self._tell("request not served", peer_id, reason=fault.sentence[:300])
            except Exception:
                await reset(stream)
                log.exception("handler failed", peer=peer_id, protocol=protocol)

        self._guard.handle(protocol, serve_one)

    async def send(self, peer_id: PeerId, protocol: str, data: bytes, *, timeout_s: float) -> None:
        """`data` was written on a stream of its own to the peer, which is to answer nothing.

        Dials and raises as `request` does.
        """
        with trio.move_on_after(timeout_s):
            stream = await self.open_stream(peer_id, protocol)
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
        self._table.peer(peer_id).addresses = cleaned
        self.keep(peer_id)

    def configured(self, peer_id: PeerId) -> tuple[str, ...]:
        """The addresses that `know` was told last."""
        peer = self._table.get(peer_id)
        return peer.addresses if peer is not None else ()

    def learn(self, peer_id: PeerId, addresses: Iterable[str], source: Source) -> None:
        """`source` says that `peer_id` is at `addresses`; kept over restarts, dialled when needed.

        Never instead of what the configuration says, and not kept connected for it. What cannot be
        dialled is left out; where it may lead is said in `node.dialling`.
        """
        if peer_id == self.peer_id or not self._store.learn(peer_id, addresses, source):
            return
        peer = self._table.get(peer_id)
        if peer is not None:
            peer.wake()

    def keep(self, peer_id: PeerId) -> None:
        """A connection to `peer_id` is kept from now on, at whatever addresses are known of it."""
        peer = self._table.peer(peer_id)
        if peer_id != self.peer_id and not peer.known:
            peer.known = True
            self._nursery.start_soon(self._dialling.keep, peer_id, peer, self.admit)
        peer.wake()

    def peers(self) -> list[PeerStatus]:
        """Every peer that is known, connected, or was since the start; connected ones first."""
        return self._table.statuses(self._guard, self._standing, self._store)

    async def changed(self, peer_id: PeerId) -> None:
        """The peer came, left, or got other addresses, after this was called."""
        await self._table.peer(peer_id).changed.wait()

    async def drop(self, peer_id: PeerId) -> None:
        """Every connection to the peer is cut. A known peer will be dialled again."""
        await self._guard.sever(peer_id)

    def settle(self, listening: Iterable[str], announced: Iterable[str]) -> None:
        """This node listens, and others are told `announced`, or `listening` if there are none."""
        end = f"/p2p/{self.peer_id}"
        self.listening = tuple(each + end for each in listening)
        self._announced = tuple(dialable(each, self.peer_id) + end for each in announced)
        self._dialling.settle((*listening, *announced))

    async def watch(self) -> None:
        """Cuts off whoever falls silent, for as long as the host lives."""
        await self._liveness.watch()

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
        peer = self._table.peer(peer_id)
        peer.connected_at = trio.current_time()
        self._table.seen(peer_id)
        self._tell("peer connected", peer_id)
        for action in self._on_connected:
            self._nursery.start_soon(self._welcome, action, peer_id)
        peer.wake()

    def disconnected(self, peer_id: str) -> None:
        """The peer is gone. Told by the guard.

        A short connection counts as a failure: two nodes of which one refuses the other would
        dial without pause.
        """
        peer = self._table.peer(peer_id)
        since = trio.current_time() - (peer.connected_at or trio.current_time())
        peer.failures = 0 if since >= STEADY_AFTER_S else peer.failures + 1
        peer.connected_at = None
        self._tell("peer disconnected", peer_id)
        peer.wake()

    # --- state

    def _penalise(self, peer_id: str, points: float, reason: str) -> None:
        self._tell("peer misbehaved", peer_id, reason=reason[:300])
        if self._standing.penalise(peer_id, points, reason[:300], trio.current_time()):
            self._tell("peer banned", peer_id, reason=reason[:300])
            self._store.ban(peer_id, reason[:300], BAN_S)
            self._nursery.start_soon(self._guard.sever, peer_id)

    def _tell(self, event: str, peer_id: str, **values: str) -> None:
        """Logged, unless strangers cause it too often: identities are free, disks are not."""
        known = self._table.is_known(peer_id)
        if known or self._lines.allows(event, trio.current_time()):
            log.info(event, peer=peer_id, known=known, **values)

    def _cut(self, peer_id: str, reason: str) -> None:
        self._tell("peer cut off", peer_id, reason=reason)

    # --- tasks

    async def open_stream(
        self, peer_id: PeerId, protocol: str, *, look_up: bool = True
    ) -> GuardedStream:
        """A stream to the peer; a second try if the connection turned out to be broken.

        PeerUnreachable, PeerRefused. Its deadline and its end are the caller's. `look_up`: ask
        others for its addresses when none leads to it.
        """
        await self._dialling.reach(peer_id, look_up=look_up)
        try:
            return await self._guard.open_stream(peer_id, protocol)
        except StreamBroken as error:
            if self._guard.is_connected(peer_id):
                raise PeerRefused(peer_id, protocol, str(error)) from error
        await self._dialling.reach(peer_id, look_up=look_up)
        try:
            return await self._guard.open_stream(peer_id, protocol)
        except StreamBroken as error:
            raise PeerUnreachable(peer_id, str(error)) from error

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
    announce: Iterable[str] = (),
    store: PeerStore | None = None,
) -> AsyncIterator[Host]:
    """A host that listens and keeps its connections until the block ends; then no socket is open.

    `private_key` is a 32-byte Ed25519 seed, `listen` one or more multiaddrs like
    `/ip4/127.0.0.1/tcp/4001` (port 0: any), `network` the name in the topic, `known` the
    addresses of the peers to stay connected with, `network_key` 32 secret bytes of a closed
    network, `admission` who may connect, `announce` the addresses to tell others if they are not
    those that are listened on, `store` what survives a restart (None: nothing does). Fault
    "port-in-use" or "address-invalid". An exception of the block comes out as it is, not in the
    groups of the many nurseries below.
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
        host = Host(guard, nursery, limits, admission, store or PeerStore())
        up = await guard.listen(addresses, host)
        if up:
            host.settle(up, announce)
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


def _standing(store: PeerStore) -> Standing:
    """The bans that were in force when the node stopped are in force again."""
    standing, now = Standing(), trio.current_time()
    for ban in store.bans():
        standing.restore(Ban(ban.peer_id, ban.reason, now + ban.until))
    return standing
