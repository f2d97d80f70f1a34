"""JavaScript peers: npm packages, installed once as their lock file says, and their processes.

They are put into pytest's cache. Without npm, or without a network at the first run, the tests
that need them are skipped.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

SOURCES = Path(__file__).parent
FILES = ("package.json", "package-lock.json", "peer.mjs")
INSTALL = ("ci", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", "--legacy-peer-deps")


class JsPeer:
    """A process that says one JSON object a line, and hears the same."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._rest = b""
        self.said: list[dict[str, Any]] = []

    async def tell(self, **command: Any) -> None:
        """The peer hears this command."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")

    async def until(self, key: str, value: Any = None) -> dict[str, Any]:
        """The first thing said that has `key` (with this value)."""
        while True:
            for said in self.said:
                if key in said and value in (None, said[key]):
                    return said
            await self._read()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        part = await self._process.stdout.receive_some()
        assert part, f"the peer ended after {self.said}"
        *lines, self._rest = (self._rest + part).split(b"\n")
        self.said += [json.loads(line) for line in lines]


def _install(request: pytest.FixtureRequest, name: str) -> Path:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no npm on this machine")
    source = SOURCES / name
    lock = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    folder: Path = request.config.cache.mkdir(f"javascript-{name}")
    for each in FILES:
        shutil.copy(source / each, folder / each)
    done = folder / "installed"
    if not done.exists() or done.read_text() != lock:
        if subprocess.run([npm, *INSTALL], cwd=folder, check=False).returncode:
            pytest.skip("npm could not install the packages")
        done.write_text(lock)
    return folder


@pytest.fixture
def open_peer(request: pytest.FixtureRequest) -> Callable[..., AbstractAsyncContextManager[JsPeer]]:
    """open_peer("js_peer", *arguments): the process, for as long as the block lasts."""

    @asynccontextmanager
    async def open_it(name: str, *arguments: str) -> AsyncIterator[JsPeer]:
        folder = await trio.to_thread.run_sync(_install, request, name)
        pipe = subprocess.PIPE
        run = partial(trio.run_process, cwd=folder, stdin=pipe, stdout=pipe, check=False)
        async with trio.open_nursery() as nursery:
            process = await nursery.start(run, ["node", "peer.mjs", *arguments])
            yield JsPeer(process)
            process.kill()
            nursery.cancel_scope.cancel()

    return open_it
