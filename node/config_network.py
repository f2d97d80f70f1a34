"""[listen] and [peers] of northbund.toml: where this node is, whom it meets, what they may take."""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated

import msgspec

from node.config_reading import DIRECT_ADDRESS, Section
from protocol.peers import is_peer_id
from protocol.roster_check import can_be_listened_on

Multiaddr = Annotated[str, msgspec.Meta(pattern=rf"\A{DIRECT_ADDRESS}(/p2p/\w+)?\Z")]
PeerAddress = Annotated[
    str, msgspec.Meta(pattern=rf"\A{DIRECT_ADDRESS}(/p2p/\w+)?(/p2p-circuit(/p2p/\w+)?)?\Z")
]
FullAddress = Annotated[
    str, msgspec.Meta(pattern=rf"\A{DIRECT_ADDRESS}(/p2p/\w+/p2p-circuit)?/p2p/\w+\Z")
]
DataHost = Annotated[str, msgspec.Meta(pattern=r"\A[^\s\[\]/]{0,120}\Z")]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Rate = Annotated[int, msgspec.Meta(ge=65_536)]


PortRange = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,5}-[0-9]{1,5}\Z")]
LEAST_DATA_PORTS = 12
"""Four sessions may live at a time, each with three workers."""


class Listen(Section, frozen=True):
    """Where others reach this node: libp2p, and the workers' listeners for shares.

    `announce` is what others are told when that is not what is listened on; `data_announce` is
    the same for workers, a host alone: ports are told as they are.
    """

    libp2p: Multiaddr = "/ip4/127.0.0.1/tcp/0"
    announce: Annotated[tuple[PeerAddress, ...], msgspec.Meta(max_length=8)] = ()
    data_host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    data_announce: DataHost = ""
    data_ports: PortRange | None = None

    @property
    def worker_host(self) -> str:
        """The host that other workers are told to dial."""
        return self.data_announce or self.data_host

    @property
    def worker_ports(self) -> tuple[int, int]:
        """The first and the last port that a worker may listen on; (0, 0) for any free one."""
        first, _, last = (self.data_ports or "0-0").partition("-")
        return int(first), int(last)

    def seat_address(self, port: int) -> str:
        """What the seat of a worker that listens on `port` says: `host:port`."""
        host = self.worker_host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def worker_address(self, address: str) -> tuple[str, int]:
        """Where this node itself reaches its worker whose seat says `address`."""
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  everywhere is here too
        return own.get(self.data_host, self.data_host), int(address.rpartition(":")[2])


class Relays(Section, frozen=True):
    """Relays that hold a place for this node, and whether it is one for others."""

    through: Annotated[tuple[FullAddress, ...], msgspec.Meta(max_length=4)] = ()
    serve: bool = False


class Caps(Section, frozen=True):
    """What this node grants. A range is an IPv4 address or an IPv6 /64; bytes are each second's."""

    connections: Count = 200
    connections_per_peer: Count = 4
    connections_per_range: Count = 64
    streams_per_peer: Count = 64
    bytes_per_peer: Rate = 33_554_432
    bytes_per_range: Rate = 67_108_864


class Peers(Section, frozen=True):
    """How peers are found, who is let in, and how much each of them may take."""

    bootstrap: tuple[FullAddress, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    network_key_file: Path | None = None
    mdns: bool = False
    kademlia: bool = False
    relay: Relays = Relays()
    caps: Caps = Caps()


def network_problems(listen: Listen, peers: Peers) -> Iterator[str]:
    """What the right-looking parts say against each other, or about no address there is."""
    yield from _no_addresses("listen, libp2p", [listen.libp2p])
    yield from _no_addresses("listen, announce", listen.announce)
    yield from _data_problems(listen)
    yield from _no_addresses("peers, bootstrap", peers.bootstrap)
    yield from _no_addresses("peers, relay, through", peers.relay.through)
    for address in peers.relay.through:
        if "/p2p-circuit" in address:
            yield f"peers, relay, through: {address!r} is itself behind a relay"
    for where, entries in (("allow", peers.allow), ("deny", peers.deny)):
        for entry in entries:
            if not is_peer_id(entry) and not is_range(entry):
                yield (
                    f"peers, {where}: {entry!r} is neither a peer id nor a range of addresses"
                    " like 192.0.2.0/24"
                )
    for entry in peers.allow:
        if entry in peers.deny:
            yield f"peers: {entry!r} is both allowed and denied"


def _data_problems(listen: Listen) -> Iterator[str]:
    told, key = listen.worker_host, "data_announce" if listen.data_announce else "data_host"
    if not can_be_listened_on(told):
        yield (
            f"listen, {key}: no worker can be dialled at {told!r}; write the address that others"
            " reach as data_announce"
        )
    if told.count(":") == 1:
        yield f"listen, {key}: {told!r} has a port; write the host alone, and ports as data_ports"
    first, last = listen.worker_ports
    if listen.data_ports is not None and not 1 <= first <= last <= 65_535:
        yield f"listen, data_ports: {listen.data_ports!r} is no range of ports like 40000-40099"
    elif listen.data_ports is not None and last - first + 1 < LEAST_DATA_PORTS:
        yield (
            f"listen, data_ports: {listen.data_ports!r} has {last - first + 1} ports, at least"
            f" {LEAST_DATA_PORTS} are needed for four sessions of three workers"
        )


def _no_addresses(where: str, addresses: Iterable[str]) -> Iterator[str]:
    for address in addresses:
        _, kind, host, _, port, *rest = address.split("/")
        if int(port) > 65_535:
            yield f"{where}: {address!r} has a port over 65535"
        if kind.startswith("ip") and not _is_ip(host, int(kind[2])):
            yield f"{where}: {host!r} is no IPv{kind[2]} address"
        for named in re.findall(r"/p2p/(\w+)", "/" + "/".join(rest)):
            if not is_peer_id(named):
                yield f"{where}: {named!r} is no peer id"


def _is_ip(text: str, version: int) -> bool:
    try:
        return ip_address(text).version == version
    except ValueError:
        return False


def is_range(entry: str) -> bool:
    """Whether `entry` is a range of IP addresses, such as 192.0.2.0/24, or a single one."""
    try:
        ip_network(entry)
    except ValueError:
        return False
    return True
