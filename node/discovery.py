"""How this node finds peers, and is found: as its configuration says, each way off by itself.

Bootstrap peers are kept connected like organisations. Everything else only adds addresses to the
peer store, or ways of dialling: nobody is trusted for having been discovered.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from node.addresses import split_peer
from node.host import Host
from node.kademlia import Kademlia
from node.mdns import tell_and_hear
from node.relay import HOP, Relay
from node.relay_client import RelayClient
from protocol.ids import PeerId


@dataclass(frozen=True, slots=True)
class Discovery:
    """What is turned on. Addresses are full ones, which end in /p2p/ and the peer's id."""

    bootstrap: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    serve_relay: bool = False
    kademlia: bool = False
    local_network: bool = False


def discover(host: Host, settings: Discovery, network: str) -> None:
    """The ways of `settings` work from now on, for as long as the host lives.

    Fault "address-invalid".
    """
    host.spawn(RelayClient(host, by_peer(settings.relays)).run)
    if settings.serve_relay:
        host.serve_stream(HOP, Relay(host).serve)
    for peer_id, addresses in by_peer(settings.bootstrap).items():
        host.know(peer_id, host.configured(peer_id) + addresses)
    if settings.kademlia:
        host.spawn(Kademlia(host, network).run)
    if settings.local_network:
        host.spawn(tell_and_hear, host, network)


def by_peer(addresses: Iterable[str]) -> dict[PeerId, tuple[str, ...]]:
    """Full addresses by the peer that each names. Fault "address-invalid" if one names none."""
    found: dict[PeerId, tuple[str, ...]] = {}
    for address in addresses:
        peer_id, bare = split_peer(address)
        found[peer_id] = (*found.get(peer_id, ()), bare)
    return found
