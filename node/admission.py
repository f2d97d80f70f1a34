"""Who may connect at all: lists of peer ids and of address ranges.

A denial wins over an allowance; an empty allow list admits everybody. Peer ids are proved by the
handshake, so those lists bind; addresses are only where packets came from.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Admission:
    """The lists of one node; peer ids in base58, ranges like 192.0.2.0/24."""

    allow_peers: frozenset[str] = frozenset()
    deny_peers: frozenset[str] = frozenset()
    allow_ranges: tuple[IPv4Network | IPv6Network, ...] = ()
    deny_ranges: tuple[IPv4Network | IPv6Network, ...] = ()

    def refuse_peer(self, peer_id: str) -> str | None:
        """Why `peer_id` is refused, or None if it is welcome."""
        if peer_id in self.deny_peers:
            return "it is on the deny list"
        if self.allow_peers and peer_id not in self.allow_peers:
            return "it is not on the allow list"
        return None

    def refuse_address(self, address: str) -> str | None:
        """Why the IP address is refused, or None. A name is not refused: its addresses are."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return None
        if any(parsed in network for network in self.deny_ranges):
            return "its address is on the deny list"
        if self.allow_ranges and not any(parsed in network for network in self.allow_ranges):
            return "its address is not on the allow list"
        return None


def origin(address: str) -> str:
    """What counts as one place: an IPv4 address, or the /64 of an IPv6 one, which one site has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed)
