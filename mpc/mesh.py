"""The connections of one worker in one session, each with the party and the purpose it is for.

`Mesh.open` makes every connection that the session's topology names before a byte of data flows:
it dials those on which this worker sends and accepts those on which it receives. Where the
manifest's address leads to nobody, or to another than its party, it dials once more through its
daemon (see `mpc.reaching`), for all channels to that party. A stranger that dials is
refused by TLS; a party of the session that asks for a channel that is not its own, or for one
twice, is refused.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterable, Mapping
from hashlib import sha256
from time import monotonic
from typing import Final, Self

from mpc import transport
from mpc.channels import Channel, Inbound, Outbound
from mpc.reaching import HANDSHAKE_S, Peer, Reaching
from mpc.transport import CONFIRMATION, Identity, receive_exactly
from mpc.watch import (
    CONTROL,
    Abort,
    Done,
    Link,
    PeerLostError,
    PeerSilentError,
    SessionError,
    Watch,
)

__all__ = ["Mesh", "Peer"]

_HELLO: Final = struct.Struct("<32s32s")  # session digest, label
_AT_ONCE: Final = 64


class Mesh:
    """All connections of one worker; made by `open`, ended by `finish` or `abort`."""

    def __init__(self, me: str, watch: Watch) -> None:
        self.me, self._watch = me, watch
        self._outbound: dict[tuple[str, str], Outbound] = {}
        self._inbound: dict[tuple[str, str], Inbound] = {}
        self._ended = False

    @classmethod
    def open(
        cls,
        identity: Identity,
        listener: socket.socket,
        me: str,
        peers: Mapping[str, Peer],
        channels: Iterable[Channel],
        session: bytes,
        *,
        within_s: float,
        silence_s: float,
        entrance: str = "",
    ) -> Self:
        """A mesh with every one of `channels` that concerns `me`; the listener is closed.

        `peers` are all parties but `me`; `session` is the digest that both ends must name;
        `entrance` is the path of the daemon's Unix socket for tunnels, if there is one.
        SessionError names the parties with which no connection could be made `within_s`.
        """
        mesh = cls(me, Watch(silence_s, {me, *peers}))
        deadline = monotonic() + within_s
        joining = _Joining(mesh, identity, peers, list(channels), session, deadline, entrance)
        try:
            joining.run(listener)
        except SessionError as error:
            mesh.abort(error)
            raise
        finally:
            listener.close()
        return mesh

    @property
    def watch(self) -> Watch:
        """The thread that sees who leaves."""
        return self._watch

    def to(self, peer: str, label: str) -> Outbound:
        """The channel on which this worker sends frames labelled `label` to `peer`."""
        return self._outbound[peer, label]

    def of(self, peer: str, label: str) -> Inbound:
        """The channel on which `peer` sends this worker frames labelled `label`."""
        return self._inbound[peer, label]

    def check(self) -> None:
        """Raise the cause if the session has ended."""
        if self._watch.cause is not None:
            raise self._watch.cause

    def finish(self) -> None:
        """Leave, after telling the others that this party's part is done."""
        self._end(Done())

    def abort(self, error: SessionError) -> None:
        """Leave, after telling the others why; harmless when the mesh has ended already."""
        self._watch.fail(error)
        blamed = tuple(name[:200] for name in error.blamed)
        self._end(Abort(reason=error.reason[:1000], blamed=blamed))

    def _end(self, notice: Done | Abort) -> None:
        if not self._ended:
            self._ended = True
            self._watch.stop(notice)

    def attach(self, channel: Channel, tls: ssl.SSLSocket) -> None:
        """Put a connection that has been made to use."""
        peer = channel.receiver if channel.sender == self.me else channel.sender
        if channel.label == CONTROL:
            self._watch.add_control(peer, tls)
            return
        tls.settimeout(None)
        link = Link(tls, peer, channel.label)
        self._watch.add_link(link)
        if channel.sender == self.me:
            self._outbound[peer, channel.label] = Outbound(link, self._watch)
        else:
            self._inbound[peer, channel.label] = Inbound(link, self._watch)


class _Joining:
    """The minute in which a mesh is made: one thread accepts, others dial."""

    def __init__(
        self,
        mesh: Mesh,
        identity: Identity,
        peers: Mapping[str, Peer],
        channels: list[Channel],
        session: bytes,
        deadline: float,
        entrance: str,
    ) -> None:
        self._mesh, self._me, self._peers = mesh, mesh.me, peers
        certificates = [peer.certificate for peer in peers.values()]
        client = identity.context(server=False, peers=certificates)
        self._server = identity.context(server=True, peers=certificates)
        self._names = {sha256(peer.certificate).digest(): name for name, peer in peers.items()}
        self._session, self._deadline = session, deadline
        self._reaching = Reaching(client, entrance, self._rest, mesh.check)
        self._dialled = [c for c in channels if c.sender == self._me]
        self._awaited = {c for c in channels if c.receiver == self._me}
        self._claimed: set[Channel] = set()
        self._lock = threading.Lock()
        self._complete = threading.Condition(self._lock)
        self._slots = threading.Semaphore(_AT_ONCE)

    def run(self, listener: socket.socket) -> None:
        accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        accepting.start()
        dialling = [
            threading.Thread(target=self._dial_all, args=(peer,), daemon=True)
            for peer in sorted({channel.receiver for channel in self._dialled})
        ]
        for thread in dialling:
            thread.start()
        for thread in dialling:
            thread.join()
        with self._complete:
            while self._awaited and self._mesh.watch.cause is None:
                if monotonic() > self._deadline:
                    missing = sorted({channel.sender for channel in self._awaited})
                    names = ", ".join(missing)
                    raise PeerSilentError(f"{names} did not connect in time", missing)
                self._complete.wait(0.05)
        self._mesh.check()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        accepting.join()

    def _dial_all(self, peer: str) -> None:
        for channel in self._dialled:
            if channel.receiver == peer and self._mesh.watch.cause is None:
                try:
                    self._mesh.attach(channel, self._dial(channel))
                except (OSError, EOFError) as error:
                    self._unreachable(peer, error)

    def _unreachable(self, peer: str, error: Exception) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"{peer} showed a certificate that is not the manifest's"
        else:
            reason = f"no connection to {peer}: {str(error) or type(error).__name__}"
        self._mesh.watch.fail(PeerLostError(reason, (peer,)))

    def _dial(self, channel: Channel) -> ssl.SSLSocket:
        peer = self._peers[channel.receiver]
        tls = self._reaching.reach(peer)
        hello = _HELLO.pack(self._session, channel.label.encode())
        try:
            tls.settimeout(self._rest())
            transport.transmit(tls, peer.name, channel.label, hello)
            receive_exactly(tls, memoryview(bytearray(len(CONFIRMATION))))
        except BaseException:
            tls.close()
            raise
        return tls

    def _rest(self) -> float:
        return max(0.01, self._deadline - monotonic())

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:  # closed: everybody is here, or the session ended
                return
            self._slots.acquire()
            threading.Thread(target=self._welcome, args=(plain,), daemon=True).start()

    def _welcome(self, plain: socket.socket) -> None:
        try:
            plain.settimeout(HANDSHAKE_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._server.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()  # a stranger, or a party that has left: whoever is missing is named
            return
        finally:
            self._slots.release()
        try:
            self._admit(tls)
        except (OSError, EOFError):
            tls.close()

    def _admit(self, tls: ssl.SSLSocket) -> None:
        channel = self._claim(tls)
        if channel is None:
            raise ConnectionRefusedError
        transport.transmit(tls, channel.sender, channel.label, CONFIRMATION)
        with self._complete:
            self._mesh.attach(channel, tls)
            self._awaited.discard(channel)
            self._complete.notify()

    def _claim(self, tls: ssl.SSLSocket) -> Channel | None:
        """The awaited channel that the other end asks for and may have."""
        hello = bytearray(_HELLO.size)
        receive_exactly(tls, memoryview(hello))
        session, label = _HELLO.unpack(hello)
        shown = tls.getpeercert(binary_form=True)
        name = self._names.get(sha256(shown).digest()) if shown else None
        if name is None or session != self._session:
            return None
        claimed = Channel(name, self._me, label.rstrip(b"\0").decode(errors="replace"))
        with self._lock:
            if claimed not in self._awaited or claimed in self._claimed:
                return None
            self._claimed.add(claimed)
        return claimed
