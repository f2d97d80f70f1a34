"""Multiaddrs as people write them: checked, and told apart from what cannot be used."""

import errno
import socket

import node.libp2p_loading  # noqa: F401  before multiaddr, which it spares DNS over HTTPS

# isort: split
from multiaddr import Multiaddr  # type: ignore[import-untyped]
from multiaddr.exceptions import Error as MultiaddrError  # type: ignore[import-untyped]

from node.errors import Fault


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
    raise Fault("address-invalid", f"{address!r} is no TCP address: {reason}.", address=address)


def port_in_use(address: str) -> Fault:
    """What to raise when something else listens on `address`."""
    return Fault("port-in-use", f"The address {address} is already in use.", address=address)


def dialable(address: str, peer_id: str) -> str:
    """`address` without its peer id, which must be `peer_id` if it stands there."""
    endpoint(address)
    bare, _, named = address.partition("/p2p/")
    if named and named != peer_id:
        raise Fault(
            "address-invalid",
            f"The address {address} names another peer than {peer_id}.",
            address=address,
        )
    return bare


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
