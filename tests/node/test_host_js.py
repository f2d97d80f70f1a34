"""A host and js-libp2p, a peer that nobody of this project wrote.

The npm packages are installed once, into pytest's cache; without npm or a network the test is
skipped.
"""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.host import open_host
from protocol.ids import PeerId

SOURCE = Path(__file__).with_name("js_peer")
ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"

pytestmark = pytest.mark.slow


@pytest.fixture
def js_folder(request: pytest.FixtureRequest) -> Path:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no npm on this machine")
    folder: Path = request.config.cache.mkdir("js-libp2p")
    for name in ("package.json", "peer.mjs"):
        shutil.copy(SOURCE / name, folder / name)
    if not (folder / "node_modules" / "libp2p").exists():
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=False
        )
        if done.returncode:
            pytest.skip("npm could not install js-libp2p")
    return folder


class JsPeer:
    """The process, and what it said."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._rest = b""
        self.said: list[dict[str, Any]] = []

    async def until(self, key: str) -> dict[str, Any]:
        """The first thing said that has `key`."""
        while True:
            for said in self.said:
                if key in said:
                    return said
            await self._read()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        part = await self._process.stdout.receive_some()
        assert part, "the peer ended"
        *lines, self._rest = (self._rest + part).split(b"\n")
        self.said += [json.loads(line) for line in lines]


@asynccontextmanager
async def js_peer(folder: Path) -> AsyncIterator[JsPeer]:
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, cwd=folder, stdout=subprocess.PIPE, check=False)
        process = await nursery.start(run, ["node", "peer.mjs"])
        yield JsPeer(process)
        process.kill()
        nursery.cancel_scope.cancel()


async def test_js_libp2p_pings_gossips_asks_and_answers(js_folder: Path) -> None:
    heard = trio.Event()

    async def echo(_peer: PeerId, request: bytes) -> bytes:
        return b"python " + request

    async def receive(author: PeerId, payload: bytes) -> None:
        assert (author, payload) == (peer_id, b"from js")
        heard.set()

    async with js_peer(js_folder) as js, open_host(bytes([1]) * 32, ANY, "test") as host:
        with trio.fail_after(30):
            address, _, peer = (await js.until("address"))["address"].partition("/p2p/")
            peer_id = PeerId(peer)
            host.serve(ECHO, echo)
            host.on_gossip(lambda _author, _payload: True, receive)
            host.know(peer_id, [address])
            assert await host.request(peer_id, ECHO, b"hello", timeout_s=10) == b"js hello"
            asked = await js.until("asked")
            assert asked["asked"] == "python from js"
            assert asked["ping"] < 5_000
            await heard.wait()
            while not any("heard" in said for said in js.said):
                await host.publish(b"from python")
                with trio.move_on_after(0.5):
                    await js.until("heard")
            assert await js.until("heard") == {"heard": "from python", "author": host.peer_id}
