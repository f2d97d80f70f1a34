"""Peers of the same local network, by multicast DNS (libp2p specification, discovery/mdns).

Adversary: anybody on the local network. It learns that this node is here, its peer id and its
addresses; it can name peers and addresses at will, which costs dials (never of this machine's own
loopback, see node.dialling) and takes PEERS_MOST places. Therefore it is off by default.

The library's broadcaster and listener do the work, on zeroconf's own thread. Its `MDNSDiscovery`
was rejected: it waits for the network on the event loop's thread (1.6 s), starts a task that
nobody owns, and writes from its thread into tables that are the event loop's.
"""

import logging
from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from typing import Any

import trio

from node.addresses import endpoint, neighbourhood, route
from node.host import Host
from node.log import get_logger
from protocol.ids import PeerId

log = get_logger("node.mdns")

PEERS_MOST = 64
SERVICES_MOST = 1_000
LOOK_UP_TRIES = 1


def service_of(network: str) -> str:
    """The service name of one network, so that only its nodes hear of each other."""
    return f"_p2p-{sha256(network.encode()).hexdigest()[:10]}._udp.local."


async def tell_and_hear(host: Host, network: str) -> None:
    """The local network is told where this node is, and peers there become known. Never returns."""
    heard = _Heard(host, trio.lowlevel.current_trio_token())
    addresses = [each for each in host.addresses if route(each).relay is None]
    try:
        service = await trio.to_thread.run_sync(_Service, heard, addresses, host.peer_id, network)
    except OSError as error:
        log.warning("no multicast here, so no discovery on the local network", reason=str(error))
        return
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(service.close)


class _Heard:
    """Takes the place of the library's peer store: what is heard goes to the event loop."""

    def __init__(self, host: Host, token: trio.lowlevel.TrioToken) -> None:
        self._host = host
        self._token = token
        self._peers: set[PeerId] = set()

    def add_addrs(self, peer: Any, addresses: Iterable[Any], _ttl: int) -> None:
        """Called on zeroconf's thread."""
        texts = [str(address) for address in addresses]
        self._token.run_sync_soon(partial(self._learn, PeerId(str(peer)), texts))

    def clear_addrs(self, _peer: Any) -> None:
        """What was heard of a peer that left is displaced as any other address is."""

    def _learn(self, peer_id: PeerId, addresses: list[str]) -> None:
        if peer_id == self._host.peer_id:
            return
        if peer_id not in self._peers and len(self._peers) >= PEERS_MOST:
            log.info("too many peers on the local network", peer=peer_id)
            return
        self._host.learn(peer_id, addresses, "local-network")
        if peer_id not in self._peers and self._host.store.addresses(peer_id):
            self._peers.add(peer_id)
            log.info("heard on the local network", peer=peer_id)
            self._host.keep(peer_id)


class _Services(dict[str, Any]):
    """The library's table of services, which anybody can fill, with an end."""

    def __setitem__(self, name: str, service: Any) -> None:
        if len(self) >= SERVICES_MOST:
            self.clear()
        super().__setitem__(name, service)


class _Service:
    """The library's broadcaster and listener; made and closed on a thread, for both block."""

    def __init__(self, heard: Any, addresses: list[str], peer_id: str, network: str) -> None:
        from libp2p.discovery.mdns.broadcaster import PeerBroadcaster  # noqa: PLC0415
        from libp2p.discovery.mdns.listener import PeerListener  # noqa: PLC0415
        from zeroconf import InterfaceChoice, Zeroconf  # noqa: PLC0415  0.2 s, for those who turned it on

        logging.getLogger("zeroconf").setLevel(logging.ERROR)  # whoever sends rubbish fills no log
        name = service_of(network)
        own = f"{sha256(peer_id.encode()).hexdigest()[:32]}.{name}"
        port = endpoint(addresses[0])[1]
        # On this machine alone if nobody else can dial this node.
        here = all(neighbourhood(each) == "machine" for each in addresses)
        self._zeroconf = Zeroconf(["127.0.0.1"] if here else InterfaceChoice.All)
        self._broadcaster = PeerBroadcaster(self._zeroconf, name, own, peer_id, port, addresses)
        self._listener = PeerListener(
            heard, self._zeroconf, name, own, retry_attempts=LOOK_UP_TRIES
        )
        self._listener.discovered_services = _Services()
        self._broadcaster.register()

    def close(self) -> None:
        """Others are told that this node leaves; no thread and no socket is left."""
        self._broadcaster.unregister()
        self._listener.stop()
        self._zeroconf.close()
