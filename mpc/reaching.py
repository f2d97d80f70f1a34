"""How a worker reaches another one: at the manifest's address, or else through both their daemons.

Where the address leads to nobody, or to another than the manifest's party, the worker asks its own
daemon for a tunnel, and from then on at once. Either way it has shown and seen certificates of the
manifest before it says a word, so that a second try repeats nothing.
"""

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Final

from mpc.transport import TUNNEL_LENGTH, check_certificate, dial

HANDSHAKE_S: Final = 10.0
_REFUSED_S: Final = 1.0
_DIRECT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Peer:
    """What the manifest says of a party's worker: its certificate (DER) and `host:port`."""

    name: str
    certificate: bytes
    address: str


@dataclass(slots=True)
class Reaching:
    """Dials for one worker. `rest` is the time left in seconds; `check` raises if all is over.

    `entrance` is the path of the daemon's Unix socket for tunnels, or empty.
    """

    context: ssl.SSLContext
    entrance: str
    rest: Callable[[], float]
    check: Callable[[], None]
    _tunnelled: set[str] = field(default_factory=set)

    def reach(self, peer: Peer) -> ssl.SSLSocket:
        """TLS with `peer`, which has shown its certificate, and has been told nothing yet.

        OSError or EOFError say why there is no way; ssl.SSLCertVerificationError if somebody with
        another certificate answers.
        """
        if peer.name in self._tunnelled:
            return self._through(peer)
        try:
            return self._secured(self._direct(peer), peer)
        except (OSError, EOFError) as error:
            if not self.entrance:
                raise
            why = str(error) or type(error).__name__
        self.check()
        try:
            tls = self._through(peer)
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, EOFError) as error:
            also = str(error) or type(error).__name__
            raise ConnectionError(f"{why}; through its node: {also}") from error
        self._tunnelled.add(peer.name)
        return tls

    def _direct(self, peer: Peer) -> socket.socket:
        refused_until = monotonic() + _REFUSED_S
        while True:
            try:
                rest = self.rest()
                return dial(peer.address, min(rest, _DIRECT_S) if self.entrance else rest)
            except ConnectionRefusedError:
                if monotonic() > refused_until:
                    raise
                self.check()
                Event().wait(0.02)

    def _through(self, peer: Peer) -> ssl.SSLSocket:
        return self._secured(dial_through(self.entrance, peer.name, self.rest()), peer)

    def _secured(self, plain: socket.socket, peer: Peer) -> ssl.SSLSocket:
        with contextlib.ExitStack() as undone:
            undone.callback(plain.close)
            plain.settimeout(min(self.rest(), HANDSHAKE_S) if self.entrance else self.rest())
            tls = self.context.wrap_socket(plain)
            undone.callback(tls.close)
            check_certificate(tls, peer.certificate)
            undone.pop_all()
        return tls


def dial_through(entrance: str, party: str, timeout_s: float) -> socket.socket:
    """A connection to `party` through its daemon and ours, whose Unix socket is at `entrance`.

    Said is the party's name, heard the reason why not, or nothing: each behind its length.
    ConnectionRefusedError with that reason, another OSError or EOFError if the daemon is gone.
    """
    folder, name = os.path.split(entrance)
    descriptor = os.open(folder, os.O_DIRECTORY | os.O_CLOEXEC)  # a long path does not fit
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(f"/proc/self/fd/{descriptor}/{name}")
        said = party.encode()
        connection.sendall(TUNNEL_LENGTH.pack(len(said)) + said)
        reason = _heard(connection, *TUNNEL_LENGTH.unpack(_heard(connection, TUNNEL_LENGTH.size)))
        if reason:
            raise ConnectionRefusedError(reason.decode(errors="replace"))
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


def _heard(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
