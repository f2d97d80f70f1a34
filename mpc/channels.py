"""The two ends of a channel: frames that one worker sends and another receives.

Both block, and both know how long they may: the watch cuts the connection under a wait that has
become too long, so an end that breaks always asks the watch for the true cause.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

from mpc import transport
from mpc.transport import Buffer, Frame, receive_exactly, receive_length
from mpc.watch import Link, SessionError, Watch
from protocol.errors import RemoteProtocolError


@dataclass(frozen=True, slots=True, order=True)
class Channel:
    """Frames labelled `label` flow from `sender` to `receiver`; a control flows both ways."""

    sender: str
    receiver: str
    label: str


class Outbound:
    """The sending end of a channel."""

    def __init__(self, link: Link, watch: Watch) -> None:
        self._link, self._watch = link, watch

    def send(self, payload: Buffer, within_s: float) -> None:
        """Send one frame. SessionError if the receiver is gone, silent, or the session ended."""
        frame = Frame(len(payload))
        frame.payload[:] = payload
        self.send_frame(frame.whole, within_s)

    def send_frame(self, whole: memoryview, within_s: float) -> None:
        """Send a frame that already carries its length."""
        link = self._link
        link.deadline = monotonic() + within_s
        try:
            transport.transmit(link.tls, link.peer, link.label, whole)
        except (OSError, ValueError) as error:
            raise self._watch.explain(link.peer, error) from error
        finally:
            link.deadline = float("inf")


class Inbound:
    """The receiving end of a channel."""

    def __init__(self, link: Link, watch: Watch) -> None:
        self._link, self._watch = link, watch
        self.peer = link.peer

    def receive(self, within_s: float, *, limit: int, what: str = "") -> bytearray:
        """The next frame's payload, of at most `limit` bytes; `what` it is, for the report.

        SessionError if the sender is gone, lets `within_s` pass, or sends more.
        """
        with self._awaiting(within_s, what):
            payload = bytearray(receive_length(self._link.tls, limit))
            receive_exactly(self._link.tls, memoryview(payload))
            return payload

    def receive_into(self, target: memoryview, within_s: float, *, what: str = "") -> int:
        """The next frame's payload at the start of `target`, and its length; otherwise alike."""
        with self._awaiting(within_s, what):
            length = receive_length(self._link.tls, len(target))
            receive_exactly(self._link.tls, target[:length])
            return length

    def receive_or_end(self, limit: int) -> bytearray | None:
        """The next frame's payload, however long it takes, or None when the sender has left.

        For streams whose end is no loss by itself. RemoteProtocolError beyond `limit` bytes.
        """
        try:
            payload = bytearray(receive_length(self._link.tls, limit))
            receive_exactly(self._link.tls, memoryview(payload))
        except (OSError, EOFError, ValueError):
            return None
        return payload

    @contextlib.contextmanager
    def _awaiting(self, within_s: float, what: str) -> Iterator[None]:
        link = self._link
        link.awaited = what or link.label
        link.since = monotonic()
        link.deadline = link.since + within_s
        try:
            yield
        except RemoteProtocolError as error:
            cause = SessionError(f"{link.peer} broke the protocol: {error}", (link.peer,))
            self._watch.fail(cause)  # even of a spare party: it is there, and it cheats
            raise cause from error
        except (OSError, EOFError, ValueError) as error:
            raise self._watch.explain(link.peer, error) from error
        finally:
            link.deadline = float("inf")
