"""Getting connections to peers, and keeping those that this node wants.

What the administrator configured is tried first, in order; then what others told (`PeerStore`).
A peer may lie about its addresses to make this node knock at doors of its private network, so:

    A private or loopback address that the network told is dialled only if this node itself
    listens on, or announces, an address of the same private network (or the same machine).
    Multicast comes from the local network, so what it told may be private, but not loopback.

Names are resolved here and judged by what they resolve to; the lists of address ranges hold for
every address, whoever told it.
"""

from collections.abc import Awaitable, Callable, Iterable
from secrets import SystemRandom

import trio

from node.addresses import endpoint, neighbourhood, resolve, route
from node.admission import Admission
from node.libp2p_guard import Guard, Limits
from node.log import get_logger
from node.peer_store import PeerStore, Source
from node.peer_table import Peer, PeerTable
from node.peers import PeerUnreachable
from node.streams import StreamBroken
from protocol.ids import PeerId

log = get_logger("node.dialling")

BACK_OFF_FIRST_S = 0.25
BACK_OFF_MOST_S = 30.0
LOOK_UP_AFTER = 3
LOOK_UP_EVERY = 10

Admit = Callable[[str], str | None]
Finder = Callable[[PeerId], Awaitable[None]]
Circuit = Callable[[PeerId, PeerId], Awaitable[None]]


class Dialling:
    """Connections outwards. `find` and `through_relay` are set by `node.discovery`.

    `find` looks for addresses of a peer that no address leads to, `through_relay(relay, peer)`
    opens a connection to `peer` over the connected `relay`; StreamBroken if it cannot be had.
    """

    def __init__(
        self,
        guard: Guard,
        table: PeerTable,
        store: PeerStore,
        admission: Admission,
        limits: Limits,
    ) -> None:
        self._guard = guard
        self._table = table
        self._store = store
        self._admission = admission
        self._limits = limits
        self._random = SystemRandom()
        self._home: frozenset[str] = frozenset()
        self.find: Finder | None = None
        self.through_relay: Circuit | None = None

    def settle(self, own: Iterable[str]) -> None:
        """This node listens on, or announces, the addresses `own`: they tell where it lives."""
        direct = [each for each in own if route(each).relay is None]
        named = [each for each in direct if each.split("/", 2)[1] in ("ip4", "ip6")]
        self._home = frozenset(neighbourhood(each) for each in named) - {"unusable"}

    async def reach(self, peer_id: PeerId, *, look_up: bool = True) -> None:
        """The peer is connected; PeerUnreachable if no address led to it, looked up ones too."""
        find = self.find if look_up else None
        if self._guard.is_connected(peer_id):
            return
        peer = self._table.get(peer_id)
        if peer is None:
            if not self._store.addresses(peer_id) and find is None:
                raise PeerUnreachable(peer_id, "no address of it is known")
            peer = self._table.peer(peer_id)
        if await self._dial(peer_id, peer):
            return
        if find is not None:
            await find(peer_id)
            if await self._dial(peer_id, peer):
                return
        raise PeerUnreachable(peer_id, peer.last_error)

    async def keep(self, peer_id: PeerId, peer: Peer, admit: Admit) -> None:
        """Dials `peer` whenever it is not connected and admitted, for as long as the host lives."""
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
            refused = admit(peer_id)
            if refused is not None or not await self._dial(peer_id, peer):
                peer.failures += 1
                peer.last_error = refused or peer.last_error
                if self.find is not None and peer.failures % LOOK_UP_EVERY == LOOK_UP_AFTER:
                    await self.find(peer_id)

    def _back_off_s(self, failures: int) -> float:
        wait_s = min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * 2.0 ** min(failures - 1, 16))
        return wait_s * self._random.uniform(0.5, 1.5)

    async def _dial(self, peer_id: PeerId, peer: Peer) -> bool:
        """Tries each address in turn; True once the peer is connected."""
        async with peer.dialling:
            candidates: list[tuple[str, Source]] = [(each, "configured") for each in peer.addresses]
            candidates += self._store.addresses(peer_id)
            if not candidates:
                peer.last_error = "no address of it is known"
            for address, source in candidates:
                if self._guard.is_connected(peer_id):
                    break
                peer.last_error = f"{address} did not answer in time"
                with trio.move_on_after(self._limits.dial_timeout_s):
                    try:
                        await self._attempt(peer_id, address, source)
                        self._store.worked(peer_id, address, source)
                    except StreamBroken as error:
                        peer.last_error = str(error)
            return self._guard.is_connected(peer_id)

    async def _attempt(self, peer_id: PeerId, address: str, source: Source) -> None:
        way = route(address)
        if way.relay is None:
            await self._dial_direct(peer_id, way.address, source)
            return
        if self.through_relay is None or way.relay in (peer_id, self._guard.peer_id):
            raise StreamBroken(f"{address} leads through no relay")
        if not self._guard.is_connected(way.relay):
            await self._dial_direct(way.relay, way.address, source)
        await self.through_relay(way.relay, peer_id)

    async def _dial_direct(self, peer_id: PeerId, address: str, source: Source) -> None:
        resolved = await resolve(address, self._limits.dial_timeout_s)
        reason = f"{address} cannot be resolved"
        for each in resolved:
            refused = self._refuse(each, source)
            if refused is None:
                try:
                    await self._guard.dial(peer_id, each)
                except StreamBroken as error:
                    refused = str(error)
            if refused is None:
                return
            reason = refused
        raise StreamBroken(reason)

    def _refuse(self, address: str, source: Source) -> str | None:
        """Why `address`, told by `source`, is not dialled, or None."""
        refused = self._admission.refuse_address(endpoint(address)[0])
        if refused is not None or source == "configured":
            return refused
        where = neighbourhood(address)
        private = where not in ("everywhere", "machine", "unusable")
        if where == "everywhere" or where in self._home or (private and source == "local-network"):
            return None
        return f"{address} is private, and not of this node's own network"
