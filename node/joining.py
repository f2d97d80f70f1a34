"""From [listen] and [peers] of northbund.toml to a host that is on the network."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_network

from sqlite_utils import Database

from node.admission import Admission
from node.config import Config
from node.config_network import Caps, Peers, is_range
from node.discovery import Discovery, discover
from node.host import Host, open_host
from node.keys import load_network_key
from node.libp2p_guard import Limits
from node.peer_store import PeerStore
from protocol.ids import PeerId


@asynccontextmanager
async def join(
    config: Config, private_key: bytes, db: Database, known: Mapping[PeerId, Iterable[str]]
) -> AsyncIterator[Host]:
    """A host as `config` says until the block ends; what it learns of peers is kept in `db`.

    `private_key` is the seed of the node's key, `known` the peers to stay connected with. Fault
    "port-in-use", "address-invalid", "key-missing", "key-unsafe", "key-damaged".
    """
    peers = config.peers
    async with open_host(
        private_key,
        config.listen.libp2p,
        config.network,
        known,
        network_key=load_network_key(peers.network_key_file),
        limits=limits_of(peers.caps),
        admission=admission_of(peers),
        announce=config.listen.announce,
        store=PeerStore(db),
    ) as host:
        discover(host, discovery_of(peers), config.network)
        yield host


def limits_of(caps: Caps) -> Limits:
    """What the guard grants under `caps`."""
    return Limits(
        inbound_connections=caps.connections,
        inbound_per_address=caps.connections_per_range,
        connections_per_peer=caps.connections_per_peer,
        streams_per_peer=caps.streams_per_peer,
        bytes_per_second_per_peer=caps.bytes_per_peer,
        bytes_per_second_per_address=caps.bytes_per_range,
    )


def admission_of(peers: Peers) -> Admission:
    """Who may connect: of each list the ranges bind addresses, the peer ids bind peers."""

    def ids(entries: tuple[str, ...]) -> frozenset[str]:
        return frozenset(entry for entry in entries if not is_range(entry))

    allowed, denied = (
        tuple(ip_network(entry) for entry in entries if is_range(entry))
        for entries in (peers.allow, peers.deny)
    )
    return Admission(ids(peers.allow), ids(peers.deny), allowed, denied)


def discovery_of(peers: Peers) -> Discovery:
    """Which ways of finding peers are on."""
    return Discovery(
        bootstrap=peers.bootstrap,
        relays=peers.relay.through,
        serve_relay=peers.relay.serve,
        kademlia=peers.kademlia,
        local_network=peers.mdns,
    )
