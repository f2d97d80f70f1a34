"""Connections to processes of this machine, as streams that can be joined with libp2p's."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import trio

from node.streams import StreamBroken


class LocalStream:
    """A local connection as a `ByteStream`; `ended` is called after its last byte was read."""

    def __init__(self, stream: trio.SocketStream, ended: Callable[[], None]) -> None:
        self._stream, self._ended = stream, ended

    async def read(self, most: int) -> bytes:
        """1 to `most` bytes; empty once the process has finished writing."""
        try:
            data = bytes(await self._stream.receive_some(most))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamBroken(repr(error)) from error
        if not data:
            self._ended()
        return data

    async def write(self, data: bytes) -> None:
        """All of `data` is on its way."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamBroken(repr(error)) from error

    async def finish(self) -> None:
        """The process reads an end after what was written."""
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamBroken(repr(error)) from error

    async def close(self) -> None:
        """The connection is closed."""
        await self._stream.aclose()

    async def reset(self) -> None:
        """The connection is closed."""
        await self._stream.aclose()


def listen_at(path: Path) -> socket.socket:
    """A Unix socket that listens at `path` for this user alone, whatever was there before.

    By way of the folder's descriptor, since the address of a Unix socket has 107 bytes at most.
    """
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(0o600)
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener
