"""The worker's end of its daemon: messages on stdin, reports on stdout, log lines on stderr.

When stdin ends the daemon is gone or done with this worker, and the process leaves at once,
whatever its threads are doing: that is what keeps a worker from outliving its daemon.
"""

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, Final, TypeVar

from node.workers.messages import REPORT_LIMIT_BYTES
from protocol.codec import Wire, decode, encode
from protocol.errors import RemoteProtocolError

EXIT_FINISHED: Final = 0
EXIT_FAILED: Final = 3
EXIT_ORPHANED: Final = 4
_LENGTH_BYTES: Final = 4
_GLANCE_S: Final = 0.05

W = TypeVar("W", bound=Wire)


class Desk:
    """One for each worker process; it takes stdout for itself: nothing else writes there."""

    def __init__(self, *kinds: type[Wire]) -> None:
        """`kinds` are the messages that the daemon may send."""
        self._kinds = kinds
        self._incoming: queue.Queue[Wire | RemoteProtocolError] = queue.Queue()
        self._writing = threading.Lock()
        self._leaving = False
        self._reports = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)  # a stray print must not look like a report
        threading.Thread(target=self._read, name="desk", daemon=True).start()

    def receive(self, kind: type[W], glance: Callable[[], None] | None = None) -> W:
        """The daemon's next message, which must be a `kind`.

        `glance` is called while nothing comes, and may raise. RemoteProtocolError if something
        else comes.
        """
        while True:
            try:
                message = self._incoming.get(timeout=None if glance is None else _GLANCE_S)
            except queue.Empty:
                if glance is not None:
                    glance()
                continue
            if isinstance(message, RemoteProtocolError):
                raise message
            if not isinstance(message, kind):
                raise RemoteProtocolError(f"{type(message).__name__} where {kind.__name__} is due")
            return message

    def report(self, message: Wire) -> None:
        """Tell the daemon; blocks until the pipe has it. Nothing follows the last report."""
        with self._writing:
            if not self._leaving:
                self._write(message)

    def report_last(self, message: Wire) -> None:
        """Tell the daemon how it ended. If it closes stdin on that, the process does not leave at
        once any more: its main thread leaves after telling the other workers, within a second."""
        with self._writing:
            self._leaving = True
            self._write(message)

    def _write(self, message: Wire) -> None:
        body = encode(message)
        view = memoryview(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
        while view:
            view = view[self._reports.write(view) :]

    def _read(self) -> None:
        stdin = sys.stdin.buffer
        while True:
            length = int.from_bytes(self._exactly(stdin, _LENGTH_BYTES), "big")
            if length > REPORT_LIMIT_BYTES:
                os._exit(EXIT_ORPHANED)
            data = self._exactly(stdin, length)
            try:
                self._incoming.put(decode(data, *self._kinds, limit=REPORT_LIMIT_BYTES))
            except RemoteProtocolError as error:
                self._incoming.put(error)

    def _exactly(self, stream: BinaryIO, count: int) -> bytes:
        data = stream.read(count)
        if len(data) < count:
            if self._leaving:
                sys.exit()  # of this thread alone
            os._exit(EXIT_ORPHANED)
        return data


def log_to_stderr(level: str) -> None:
    """Plain log lines; the daemon appends them to a file in its folder."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )


def leave(code: int) -> None:
    """End the process now: threads that wait on connections are not waited for."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)
