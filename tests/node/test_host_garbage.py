"""A live host under random bytes on every protocol and every layer keeps answering others."""

import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from node.host import open_host
from node.libp2p_guard import Guard, Limits, open_guard
from protocol.ids import PeerId

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"
SCRIPT = Path(__file__).with_name("peer_process.py")
PROTOCOLS = (
    ECHO,
    "/ipfs/ping/1.0.0",
    "/ipfs/id/1.0.0",
    "/ipfs/id/push/1.0.0",
    "/meshsub/1.1.0",
    "/meshsub/1.2.0",
)
RANDOM = random.Random(20)


class Victim:
    """A host in its own process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        self.process = process
        self.address, _, peer_id = told["address"].partition("/p2p/")
        self.peer_id = PeerId(peer_id)
        self.port = int(self.address.rpartition("/")[2])

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


@asynccontextmanager
async def victim() -> AsyncIterator[Victim]:
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-P", str(SCRIPT), "1", ANY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield await trio.to_thread.run_sync(Victim, process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def rubbish() -> bytes:
    """Random bytes, half of them behind a length that some decoder will believe."""
    body = RANDOM.randbytes(RANDOM.choice((0, 1, 3, 40, 600, 5_000)))
    prefix = RANDOM.choice(
        (b"", b"", len(body).to_bytes(4, "big"), bytes([len(body) % 128]), b"\xff")
    )
    return prefix + body


async def on_a_protocol(guest: Guard, to: Victim) -> None:
    stream = await guest.open_stream(to.peer_id, RANDOM.choice(PROTOCOLS))
    await stream.write(rubbish())
    await RANDOM.choice((stream.finish, stream.close, stream.reset))()


async def on_an_unnamed_stream(guest: Guard, to: Victim) -> None:
    stream = await guest._swarm.new_stream(guest_peer(to))
    await stream.write(rubbish())
    await stream.close()


async def in_the_muxer(guest: Guard, to: Victim) -> None:
    connection = guest._swarm.get_connections(guest_peer(to))[0].muxed_conn
    kind, flags = RANDOM.randrange(6), RANDOM.randrange(16)
    header = struct.pack(">BBHII", 0, kind, flags, RANDOM.randrange(9), RANDOM.randrange(1 << 17))
    await connection._write_frame(header + rubbish())


async def under_the_noise(guest: Guard, to: Victim) -> None:
    connection = guest._swarm.get_connections(guest_peer(to))[0].muxed_conn
    raw = connection.secured_conn.conn.read_writer.read_write_closer
    await raw.write(b"\x00\x20" + RANDOM.randbytes(32))


async def on_the_socket(_guest: Guard, to: Victim) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", to.port) as raw:
        await raw.send_all(RANDOM.choice((b"GET / HTTP/1.1\r\n\r\n", rubbish(), b"\xff" * 64)))


def guest_peer(to: Victim) -> Any:
    from libp2p.peer.id import ID  # noqa: PLC0415

    return ID.from_string(to.peer_id)


ATTACKS: tuple[Callable[[Guard, Victim], Awaitable[None]], ...] = (
    on_a_protocol,
    on_a_protocol,
    on_an_unnamed_stream,
    in_the_muxer,
    under_the_noise,
    on_the_socket,
)


async def attack_once(to: Victim) -> None:
    """A peer that nobody knows, and at most a dozen attacks of one kind."""
    attack = RANDOM.choice(ATTACKS)
    async with open_guard(os.urandom(32), "none", limits=Limits()) as guest:
        with trio.move_on_after(3), suppress(Exception):
            await guest.dial(to.peer_id, to.address)
            for _ in range(12):
                await attack(guest, to)


async def attack_for(seconds: float, to: Victim) -> None:
    with trio.move_on_after(seconds):
        while True:
            await attack_once(to)


async def latencies_under_attack(seconds: float) -> list[float]:
    """Seconds of each honest request while four strangers send rubbish."""
    taken: list[float] = []
    async with victim() as to, open_host(bytes([2]) * 32, ANY, "test") as honest:
        honest.know(to.peer_id, [to.address])
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(attack_for, seconds, to)
            with trio.move_on_after(seconds):
                while True:
                    started = trio.current_time()
                    answer = await honest.request(to.peer_id, ECHO, b"alive", timeout_s=10)
                    assert answer == b"echo alive"
                    taken.append(trio.current_time() - started)
                    await trio.sleep(0.02)
        assert to.alive
    return taken


async def test_rubbish_for_three_seconds() -> None:
    taken = await latencies_under_attack(3.0)
    assert len(taken) > 5


@pytest.mark.slow
async def test_rubbish_for_a_minute() -> None:
    taken = sorted(await latencies_under_attack(60.0))
    assert taken[len(taken) // 2] < 0.25
