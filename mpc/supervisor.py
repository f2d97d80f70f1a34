"""Worker processes of a trio daemon: started, spoken to, and reaped whatever happens.

A worker gets its messages framed on stdin and reports framed on stdout: four bytes of length,
then one canonical wire message. It leaves by itself when its stdin closes, so it dies with its
daemon even where nobody runs this code any more; `open_worker` closes that pipe, waits a moment
and kills what is still there before it returns.
"""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from protocol.codec import Wire, decode, encode
from protocol.errors import RemoteProtocolError

LENGTH_BYTES: Final = 4
GRACE_S: Final = 1.0
WORKER_ENVIRONMENT: Final = {
    # One thread for each process: several workers share the machine's cores.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc gives every array of 128 KiB and more back to the kernel; mapping it anew for each
    # chunk of shares costs three times the arithmetic.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
}
INHERITED: Final = frozenset(
    {"HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR", "TZ"}
)
"""All that a worker takes from the daemon's environment: a password may stand in the rest."""

_READ_BYTES: Final = 65_536


class WorkerGoneError(Exception):
    """The worker process has ended; what was being said to it is lost."""


class Worker:
    """A running worker process."""

    def __init__(self, process: trio.Process, kinds: tuple[type[Wire], ...], limit: int) -> None:
        self._process, self._kinds, self._limit = process, kinds, limit
        self._sending = trio.Lock()
        self._buffer = bytearray()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    async def send(self, message: Wire) -> None:
        """Say `message` to the worker. WorkerGoneError if it is not there any more."""
        body = encode(message)
        frame = len(body).to_bytes(LENGTH_BYTES, "big") + body
        stdin = self._process.stdin
        try:
            async with self._sending:
                if stdin is not None:
                    await stdin.send_all(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise WorkerGoneError(f"worker {self.pid} is gone") from error

    async def report(self) -> Wire | None:
        """The next report, or None when the worker has closed its stdout: it has ended.

        RemoteProtocolError if what it says is not one of the expected reports.
        """
        head = await self._take(LENGTH_BYTES)
        if head is None:
            return None
        length = int.from_bytes(head, "big")
        if length > self._limit:
            raise RemoteProtocolError(f"a report of {length} bytes, at most {self._limit}")
        body = await self._take(length)
        if body is None:
            return None
        message: Wire = decode(body, *self._kinds, limit=self._limit)
        return message

    async def reports(self) -> AsyncGenerator[Wire, None]:
        """Every report until the worker ends."""
        while (message := await self.report()) is not None:
            yield message

    async def wait(self) -> int:
        """The exit code, once the process has ended."""
        return await self._process.wait()

    async def _take(self, count: int) -> bytes | None:
        stdout = self._process.stdout
        while len(self._buffer) < count:
            data = await stdout.receive_some(_READ_BYTES) if stdout is not None else b""
            if not data:
                return None
            self._buffer += data
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _end(self) -> None:
        process = self._process
        if process.stdin is not None:
            await process.stdin.aclose()
        with trio.move_on_after(GRACE_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


@asynccontextmanager
async def open_worker(
    module: str,
    *,
    reports: tuple[type[Wire], ...],
    limit: int,
    stderr_path: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Worker]:
    """A worker process that runs `module`; when the block ends, so has the process.

    Its stderr is appended to `stderr_path` (mode 0600) or inherited. It is in a process group of
    its own, so that an interrupt from the keyboard reaches the daemon alone, which then decides.
    OSError if the process cannot be started.
    """
    inherited = {name: value for name, value in os.environ.items() if name in INHERITED}
    variables = {**inherited, **WORKER_ENVIRONMENT, **(environment or {})}
    command = [sys.executable, "-P", "-m", module]
    stderr = None
    if stderr_path is not None:
        stderr = os.open(stderr_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=variables,
            start_new_session=True,
        )
    finally:
        if stderr is not None:
            os.close(stderr)
    worker = Worker(process, reports, limit)
    try:
        yield worker
    finally:
        with trio.CancelScope(shield=True):
            await worker._end()
