"""Who is there: every pair of workers keeps one quiet connection, and one thread watches all.

A killed worker's connections end at once, so every other worker knows its name within moments;
a stopped one falls silent, and is named when its silence passes the round's deadline. A worker
that ends a session says why (`Abort`) before it leaves, so that all report the same cause and
not each other's leaving; one that has finished says `Done`, and may go.

The data connections stay blocking and without timeouts, which is what makes them fast: it is
this thread that ends a wait which has become too long, by closing the connection underneath.
Notices are unsigned beyond TLS: a party can lie in them about another, so a report always says
who reported.
"""

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from mpc import transport
from mpc.transport import LENGTH
from protocol.codec import Text, Wire, decode, encode
from protocol.errors import RemoteProtocolError

CONTROL: Final = "control"
BEAT_S: Final = 0.5
TICK_S: Final = 0.05
LINGER_S: Final = 1.0
EXPLANATION_S: Final = 0.7
MAX_NOTICE_BYTES: Final = 16_384


class Beat(Wire, frozen=True, tag="beat"):
    """I am here."""


class Done(Wire, frozen=True, tag="done"):
    """My part is finished; that I leave now is no loss."""


class Abort(Wire, frozen=True, tag="abort"):
    """I end the session, for this reason; `blamed` are party names, as far as I know."""

    reason: Text
    blamed: tuple[Text, ...]


class SessionError(Exception):
    """The session cannot go on; `blamed` names the parties it comes from, as far as is known."""

    def __init__(self, reason: str, blamed: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.blamed = tuple(blamed)


class PeerLostError(SessionError):
    """A party's connection ended in the middle of the session."""


class SpareLostError(SessionError):
    """A party is gone without which the session goes on; who catches this leaves it out."""


class PeerSilentError(SessionError):
    """A party let its deadline pass."""


class AbortedError(SessionError):
    """Another party ended the session and said why."""


@dataclass(slots=True)
class Link:
    """A data connection and the moment (monotonic, seconds) at which waiting on it is over."""

    tls: ssl.SSLSocket
    peer: str
    label: str
    deadline: float = float("inf")
    since: float = 0.0
    awaited: str = ""

    def cut(self) -> None:
        """End the connection under whoever waits on it, from another thread."""
        # SSLSocket.shutdown would pull the TLS state from under the waiting thread.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.tls, socket.SHUT_RDWR)


@dataclass(slots=True)
class _Control:
    tls: ssl.SSLSocket
    peer: str
    heard: float
    buffer: bytearray = field(default_factory=bytearray)
    closed: bool = False


class Watch:
    """Watches all parties of a session until `stop`; the first cause of an end is kept.

    `parties` are the names of the session: a notice can blame nobody else.
    """

    def __init__(self, silence_s: float, parties: Iterable[str]) -> None:
        self._silence_s = silence_s
        self._parties = frozenset(parties)
        self._controls: dict[str, _Control] = {}
        self._links: list[Link] = []
        self._left: set[str] = set()
        self._spares: frozenset[str] = frozenset()
        self._enough = 0
        self._lost: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._cause: SessionError | None = None
        self._caused = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def add_control(self, peer: str, tls: ssl.SSLSocket) -> None:
        """Watch `peer` over `tls`, which from now on belongs to this thread."""
        tls.setblocking(False)
        control = _Control(tls, peer, monotonic())
        with self._lock:
            if self._stopping.is_set():
                tls.close()
                return
            self._controls[peer] = control
            self._selector.register(tls, selectors.EVENT_READ, control)

    def add_link(self, link: Link) -> None:
        """Cut `link` when its deadline passes, or when the session ends."""
        with self._lock:
            self._links.append(link)
            ended = self._cause is not None
        if ended:
            link.cut()

    def fail(self, cause: SessionError) -> None:
        """The session ends for this cause, unless it has already ended for another."""
        with self._lock:
            if self._cause is not None:
                return
            self._cause = cause
            links = list(self._links)
        self._caused.set()
        for link in links:
            link.cut()

    def spare(self, parties: Iterable[str], enough: int) -> None:
        """From now on the loss of one of `parties` ends nothing while `enough` are left of them."""
        with self._lock:
            self._spares, self._enough = frozenset(parties), enough

    def has_lost(self, peer: str) -> bool:
        """Whether `peer` is gone and the session goes on without it."""
        return peer in self._lost

    def lose(self, peer: str, cause: SessionError) -> None:
        """`peer` is gone: the session ends for this cause, unless it can do without."""
        with self._lock:
            if peer in self._lost:
                return
            spared = self._can_spare(peer)
            if spared:
                self._lost.add(peer)
            links = [link for link in self._links if spared and link.peer == peer]
        for link in links:
            link.cut()
        if not spared:
            self.fail(cause)

    def _can_spare(self, peer: str) -> bool:
        return peer in self._spares and len(self._spares - self._lost) > self._enough

    @property
    def cause(self) -> SessionError | None:
        """Why the session ended, if it did."""
        return self._cause

    def awaited(self, longer_than_s: float) -> tuple[str, ...]:
        """The parties whose frames this worker has been waiting for longer than that."""
        before = monotonic() - longer_than_s
        return tuple(
            sorted(
                link.peer
                for link in list(self._links)
                if link.awaited and link.deadline != float("inf") and link.since < before
            )
        )

    def explain(self, peer: str, error: Exception) -> SessionError:
        """The cause behind a data connection to `peer` that broke; it ends the session.

        The connection may have broken because a third party is gone: its notice is awaited for
        a moment before `peer` itself is named. SpareLostError, and nothing ended, if the session
        can do without `peer`.
        """
        if self.has_lost(peer) or self._can_spare(peer):
            detail = str(error) or type(error).__name__
            self.lose(peer, PeerLostError(f"the connection to {peer} ended: {detail}", (peer,)))
            if self._cause is None:
                return SpareLostError(f"{peer} is gone", (peer,))
        self._caused.wait(EXPLANATION_S)
        if self._cause is None:
            detail = str(error) or type(error).__name__
            self.fail(PeerLostError(f"the connection to {peer} ended: {detail}", (peer,)))
        cause = self._cause
        return cause if cause is not None else SessionError("the session ended")

    def stop(self, notice: Done | Abort) -> None:
        """Tell everybody, wait a moment until they have heard it, and close."""
        with self._lock:
            self._stopping.set()
        self._thread.join()
        frame = _frame(notice)
        until = monotonic() + LINGER_S
        controls = [control for control in self._controls.values() if not control.closed]
        for control in controls:
            _say_goodbye(control, frame)
        for control in controls:
            _drain(control.tls, until)
            control.tls.close()
        for link in list(self._links):
            link.tls.close()
        self._selector.close()

    def _run(self) -> None:
        next_beat = before = monotonic()
        while not self._stopping.is_set():
            for key, _ in self._selector.select(TICK_S):
                self._read(key.data)
            now = monotonic()
            if now - before > 2 * BEAT_S:  # this process itself was stopped: nobody else's silence
                self._forgive(now)
            before = now
            if now >= next_beat:
                next_beat = now + BEAT_S
                self._beat()
            self._check_deadlines(now)

    def _read(self, control: _Control) -> None:
        try:
            while data := control.tls.recv(16_384):
                control.heard = monotonic()
                control.buffer += data
                self._take_notices(control)
                if control.closed:
                    return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except RemoteProtocolError as error:
            reason = f"{control.peer} broke the protocol: {error}"
            self.lose(control.peer, SessionError(reason, (control.peer,)))
        except OSError:
            pass  # reset: the same as an end
        self._close(control)
        if control.peer not in self._left:
            self.lose(control.peer, PeerLostError(f"{control.peer} is gone", (control.peer,)))

    def _take_notices(self, control: _Control) -> None:
        while len(control.buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(control.buffer)
            if length > MAX_NOTICE_BYTES:
                raise RemoteProtocolError("a notice is too long")
            if len(control.buffer) < LENGTH.size + length:
                return
            body = bytes(control.buffer[LENGTH.size : LENGTH.size + length])
            del control.buffer[: LENGTH.size + length]
            notice: Wire = decode(body, Beat, Done, Abort)
            if isinstance(notice, Beat):
                continue
            self._left.add(control.peer)
            self._close(control)
            if isinstance(notice, Abort) and control.peer not in self._lost:
                self.fail(self._told(control.peer, notice))
            return

    def _told(self, peer: str, notice: Abort) -> AbortedError:
        """The notice as far as it can be passed on: printable words, names of this session."""
        words = "".join(each if each.isprintable() else " " for each in notice.reason)
        named = sorted(set(notice.blamed) & self._parties)
        return AbortedError(f"{peer} ended the session: {words}", named)

    def _close(self, control: _Control) -> None:
        with self._lock:
            if control.closed:
                return
            control.closed = True
            self._selector.unregister(control.tls)
        control.tls.close()

    def _beat(self) -> None:
        frame = _frame(Beat())
        for control in list(self._controls.values()):
            if not control.closed:
                with contextlib.suppress(OSError):  # its silence will name it
                    transport.transmit(control.tls, control.peer, CONTROL, frame)

    def _forgive(self, now: float) -> None:
        for control in list(self._controls.values()):
            control.heard = now

    def _check_deadlines(self, now: float) -> None:
        for control in list(self._controls.values()):
            if not control.closed and now - control.heard > self._silence_s:
                silent = f"{control.peer} has been silent for {self._silence_s:g} s"
                self.lose(control.peer, PeerSilentError(silent, (control.peer,)))
        for link in list(self._links):
            if now > link.deadline:
                late = f"{link.peer} let the deadline for {link.awaited or link.label} pass"
                self.lose(link.peer, PeerSilentError(late, (link.peer,)))


def _frame(notice: Wire) -> bytes:
    body = encode(notice)
    return LENGTH.pack(len(body)) + body


def _say_goodbye(control: _Control, frame: bytes) -> None:
    with contextlib.suppress(OSError):
        control.tls.settimeout(LINGER_S)
        transport.transmit(control.tls, control.peer, CONTROL, frame)
        socket.socket.shutdown(control.tls, socket.SHUT_WR)


def _drain(tls: ssl.SSLSocket, until: float) -> None:
    """Read until the other end closes: closing with unread bytes would reset the connection and
    could destroy the notice before it was read."""
    with contextlib.suppress(OSError):
        while (rest := until - monotonic()) > 0:
            tls.settimeout(rest)
            if not tls.recv(16_384):
                return
