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
from contextlib import asynccontextmanager

import trio

from node.addresses import dialable, port_in_use, probe, reachable
from node.admission import Admission
from node.conduct import PENALTY_PROTOCOL, Conduct
from node.conversations import Conversations
from node.dialling import Dialling
from node.errors import Fault
from node.libp2p_guard import EVERYBODY, Guard, Limits, open_guard
from node.liveness import Liveness
from node.peer_store import PeerStore, Source
from node.peer_table import PeerTable
from node.peers import PeerRefused, PeerStatus, PeerTimeout, PeerUnreachable
from protocol.ids import PeerId
from protocol.messages import topic
from protocol.peers import is_peer_id

__all__ = ["Host", "PeerRefused", "PeerStatus", "PeerTimeout", "PeerUnreachable", "open_host"]

DEFAULT_LIMITS = Limits()


class Host(Conversations):
    """One libp2p host with requests, served protocols and one topic. Made by `open_host`."""

    def __init__(
        self,
        guard: Guard,
        nursery: trio.Nursery,
        limits: Limits,
        admission: Admission,
        store: PeerStore,
    ) -> None:
        table = PeerTable()
        conduct = Conduct(guard, nursery, table, admission, store)
        dialling = Dialling(guard, table, store, admission, limits)
        super().__init__(guard, nursery, table, dialling, conduct)
        self._store = store
        self._liveness = Liveness(guard, table, limits, conduct.cut)
        self._told: tuple[str, ...] = ()
        self._circuits: dict[str, tuple[str, ...]] = {}
        self.listening: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others can dial this node, with its peer id: what announcements tell.

        The announced addresses if the configuration names any, else those listened on; then
        those through relays that hold a reservation for this node.
        """
        return self._told + tuple(each for of_one in self._circuits.values() for each in of_one)

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
    def conduct(self) -> Conduct:
        """How its peers behave, and who is let in."""
        return self._conduct

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

    def on_connected(self, action: Callable[[PeerId], Awaitable[None]]) -> None:
        """`action` runs, as a task of its own, each time that a peer connects."""
        self._conduct.on_connected.append(action)

    def report(self, peer_id: PeerId, reason: str) -> None:
        """The peer's answer was framed well and broke a rule all the same: it loses standing."""
        self._conduct.penalise(peer_id, PENALTY_PROTOCOL, reason)

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
            self._nursery.start_soon(self._dialling.keep, peer_id, peer, self._conduct.admit)
        peer.wake()

    def peers(self) -> list[PeerStatus]:
        """Every peer that is known, connected, or was since the start; connected ones first."""
        return self._table.statuses(self._guard, self._conduct.standing, self._store)

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
        told = [dialable(each, self.peer_id) for each in announced]
        found = [reachable(each) for each in listening]
        told = told or [each for each in found if each is not None]
        self._told = tuple(each + end for each in told)
        self._dialling.settle((*listening, *told))

    async def watch(self) -> None:
        """Cuts off whoever falls silent, for as long as the host lives."""
        await self._liveness.watch()


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
        up = await guard.listen(addresses, host.conduct)
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
