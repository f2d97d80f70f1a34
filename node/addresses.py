"""Multiaddrs as people write them: checked, and told apart from what cannot be used.

Two forms are dialled: `/ip4/192.0.2.1/tcp/4001` (also ip6, dns, dns4, dns6), and the same followed
by `/p2p/RELAY/p2p-circuit`, which reaches a peer through a relay (circuit relay v2). Either may
end in `/p2p/PEER`, which then must be the peer that is meant.
"""

import errno
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import node.libp2p_loading  # noqa: F401  before multiaddr, which it spares DNS over HTTPS

# isort: split
from multiaddr import Multiaddr  # type: ignore[import-untyped]
from multiaddr.exceptions import Error as MultiaddrError  # type: ignore[import-untyped]

from node.errors import Fault
from protocol.ids import PeerId
from protocol.peers import is_peer_id

CIRCUIT = "/p2p-circuit"


@dataclass(frozen=True, slots=True)
class Route:
    """Where to connect to, and the relay that stands there, or None if it is the peer itself."""

    address: str
    relay: PeerId | None


def route(address: str) -> Route:
    """How an address that `dialable` returned is dialled."""
    direct, circuit, _ = address.partition(CIRCUIT)
    if not circuit:
        return Route(address, None)
    direct, _, relay = direct.partition("/p2p/")
    return Route(direct, PeerId(relay))


def endpoint(address: str) -> tuple[str, int]:
    """Host and port of a multiaddr like /ip4/192.0.2.1/tcp/4001 or /dns4/name/tcp/4001.

    Fault "address-invalid" with the reason if it is anything else.
    """
    reason = "it would be one like /ip4/192.0.2.1/tcp/4001"
    try:
        parsed = Multiaddr(address)
        names = [part.name for part in parsed.protocols()]
        if names[1:2] == ["tcp"] and names[0] in ("ip4", "ip6", "dns", "dns4", "dns6"):
            host = parsed.value_for_protocol(names[0])
            return str(host), int(parsed.value_for_protocol("tcp"))
    except MultiaddrError as error:
        reason = str(error)
    raise _invalid(address, f"is no TCP address: {reason}")


def _invalid(address: str, why: str) -> Fault:
    return Fault("address-invalid", f"{address!r} {why}.", address=address)


def port_in_use(address: str) -> Fault:
    """What to raise when something else listens on `address`."""
    return Fault("port-in-use", f"The address {address} is already in use.", address=address)


def dialable(address: str, peer_id: str) -> str:
    """`address` without its peer id, which must be `peer_id` if it stands there.

    Fault "address-invalid" if it can be dialled neither by TCP nor through a relay.
    """
    direct, circuit, behind = address.partition(CIRCUIT)
    bare, _, named = direct.partition("/p2p/")
    endpoint(bare)
    if circuit:
        if not is_peer_id(named):
            raise _invalid(address, "names no relay before /p2p-circuit")
        bare, named = direct + CIRCUIT, behind.removeprefix("/p2p/")
    if named and named != peer_id:
        raise Fault(
            "address-invalid",
            f"The address {address} names another peer than {peer_id}.",
            address=address,
        )
    return bare


def split_peer(address: str) -> tuple[PeerId, str]:
    """The peer that a full address names, and the address without it.

    Fault "address-invalid" if it names none at its end.
    """
    bare, _, named = address.rpartition("/p2p/")
    if not bare or not is_peer_id(named):
        raise _invalid(address, "does not end in /p2p/ and a peer id")
    return PeerId(named), dialable(address, named)


def binary(address: str) -> bytes:
    """`address`, which was checked, as libp2p's own protocols write it."""
    return bytes(Multiaddr(address).to_bytes())


async def resolve(address: str, timeout_s: float) -> list[str]:
    """The addresses of numbers that a direct `address` stands for; itself, if it is one already.

    Names are resolved here, so that the lists of address ranges judge what is dialled. Empty if
    nothing is found in time.
    """
    import trio  # noqa: PLC0415  the checks above serve commands too, which need no event loop

    host, port = endpoint(address)
    kind = address.split("/", 2)[1]
    if kind in ("ip4", "ip6"):
        return [address]
    family = {"dns4": socket.AF_INET, "dns6": socket.AF_INET6}.get(kind, socket.AF_UNSPEC)
    hosts: dict[str, None] = {}
    with trio.move_on_after(timeout_s):
        try:
            found = await trio.socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        except OSError:
            return []
        hosts = dict.fromkeys(str(each[4][0]) for each in found)
    return [f"/ip{6 if ':' in each else 4}/{each}/tcp/{port}" for each in hosts]


def neighbourhood(address: str) -> str:
    """In which part of the world the direct `address` means anything.

    "everywhere" for one that is routed on the internet, "machine" for a loopback address,
    "unusable" for none, any, multicast and reserved ones; else the private network, as the first
    16 bits of a private IPv4 address or the first 48 of another tell it.
    """
    try:
        ip: IPv4Address | IPv6Address = ip_address(endpoint(address)[0])
    except ValueError:
        return "unusable"
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return "machine"
    if ip.is_multicast or ip.is_unspecified or (ip.version == 4 and ip.is_reserved):
        return "unusable"
    if ip.is_global:
        return "everywhere"
    return ip.packed[: 2 if ip.version == 4 else 6].hex()


def reachable(address: str) -> str | None:
    """What others would dial for an `address` that is listened on; None if there is nothing.

    For all of this machine's addresses (0.0.0.0, ::) that is the one from which it speaks to the
    world. No packet is sent to find it out.
    """
    host, port = endpoint(address)
    try:
        if not ip_address(host).is_unspecified:
            return address
    except ValueError:
        return address
    six = ":" in host
    family, far = (socket.AF_INET6, "2001:db8::1") if six else (socket.AF_INET, "192.0.2.1")
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((far, 9))
            found = str(asked.getsockname()[0])
        except OSError:
            return None
    return f"/ip{6 if six else 4}/{found}/tcp/{port}"


def probe(address: str) -> None:
    """Fault with the system's own reason if `address` cannot be listened on.

    The library reports a failed listen without its reason, so it is found out first.
    """
    host, port = endpoint(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
            tried.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise port_in_use(address) from error
            raise Fault(
                "address-invalid",
                f"This machine cannot listen on {address}: {error.strerror}.",
                address=address,
            ) from error
