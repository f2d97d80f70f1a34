"""A live host under random bytes on every protocol and every layer keeps answering others."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.host import open_host
from protocol.ids import PeerId
from tests.fuzz.garbage import Victim, attack_for

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"
SCRIPT = Path(__file__).with_name("peer_process.py")


@asynccontextmanager
async def victim() -> AsyncIterator[tuple[subprocess.Popen[str], Victim]]:
    """A host in its own process."""
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-P", str(SCRIPT), "1", ANY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = json.loads(await trio.to_thread.run_sync(process.stdout.readline))
        address, _, peer_id = told["address"].partition("/p2p/")
        yield process, Victim(PeerId(peer_id), address, (ECHO,))
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def latencies_under_attack(seconds: float) -> list[float]:
    """Seconds of each honest request while four strangers send rubbish."""
    taken: list[float] = []
    done: Counter[str] = Counter()
    async with victim() as (process, to), open_host(bytes([2]) * 32, ANY, "test") as honest:
        honest.know(to.peer_id, [to.address])
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(attack_for, seconds, to, "test", done)
            with trio.move_on_after(seconds):
                while True:
                    started = trio.current_time()
                    answer = await honest.request(to.peer_id, ECHO, b"alive", timeout_s=10)
                    assert answer == b"echo alive"
                    taken.append(trio.current_time() - started)
                    await trio.sleep(0.02)
        assert process.poll() is None
    return taken


async def test_rubbish_for_three_seconds() -> None:
    taken = await latencies_under_attack(3.0)
    assert len(taken) > 5


@pytest.mark.slow
async def test_rubbish_for_a_minute() -> None:
    taken = sorted(await latencies_under_attack(60.0))
    assert taken[len(taken) // 2] < 0.25
