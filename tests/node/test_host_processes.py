"""Hosts in processes of their own: gossip, a stopped peer, a restarted peer, a crowd, the end."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from node.host import Host, open_host
from node.libp2p_guard import Limits, open_guard
from node.streams import StreamBroken
from protocol.ids import PeerId

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"
CROWD = ("127.0.0.2", 0)
SCRIPT = Path(__file__).with_name("peer_process.py")


class Node:
    """A running peer_process.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        told = self._read()
        self.address: str = told["address"]
        self.peer_id = PeerId(told["peer"])

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process ended"
        return json.loads(line)

    def do(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._read()

    def until(self, expected: int, timeout_s: float = 10.0, **command: Any) -> None:
        """Returns once the answer to `command` has as many entries as `expected`."""
        deadline = time.monotonic() + timeout_s
        while len(self.do(**command)) != expected:
            assert time.monotonic() < deadline, f"{command}: never {expected}"
            time.sleep(0.05)


@contextmanager
def start(seed: int, listen: str = ANY, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", str(SCRIPT), str(seed), listen, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def nodes(count: int) -> Iterator[list[Node]]:
    """`count` nodes, each connected to all others."""
    with ExitStack() as stack:
        processes = [stack.enter_context(start(seed)) for seed in range(1, count + 1)]
        started = [Node(process) for process in processes]
        for number, node in enumerate(started):
            node.do(know=[other.address for other in started[:number]])
        for node in started:
            node.until(count - 1, peers=1)
        yield started


@contextmanager
def lone_node(seed: int, listen: str = ANY, **options: Any) -> Iterator[Node]:
    with start(seed, listen, **options) as process:
        yield Node(process)


async def until_connected(host: Host, peer_id: PeerId, expected: bool, timeout_s: float) -> None:
    with trio.fail_after(timeout_s):
        while expected != any(p.connected for p in host.peers() if p.peer_id == peer_id):  # noqa: ASYNC110
            await trio.sleep(0.02)


def test_five_processes_gossip_without_loss_and_answer_each_other() -> None:
    with nodes(5) as all_nodes:
        for node in all_nodes:
            node.until(4, listeners=1)
        for number, node in enumerate(all_nodes):
            node.do(publish=[f"{number}-{index}" for index in range(20)], pause=0.01)
        for node in all_nodes:
            node.until(80, seen=1)
        asked = all_nodes[4].do(request=[all_nodes[0].peer_id, ECHO, "hello", 5.0])
        assert asked == "echo hello"


def test_the_end_is_quick_and_noticed() -> None:
    with nodes(2) as (one, two):
        started = time.monotonic()
        two.process.send_signal(signal.SIGTERM)
        assert two.process.wait(5) == 0
        assert time.monotonic() - started < 2.0
        one.until(0, peers=1, timeout_s=2)


async def test_a_stopped_peer_is_dropped_and_taken_back() -> None:
    limits = Limits(ping_interval_s=0.2, ping_timeout_s=0.5)
    with lone_node(1) as peer:
        async with open_host(
            bytes([2]) * 32, ANY, "test", {peer.peer_id: [peer.address]}, limits=limits
        ) as host:
            await until_connected(host, peer.peer_id, True, 5)
            peer.process.send_signal(signal.SIGSTOP)
            await until_connected(host, peer.peer_id, False, 3)
            peer.process.send_signal(signal.SIGCONT)
            await until_connected(host, peer.peer_id, True, 10)


async def test_a_restarted_peer_is_dialled_again() -> None:
    async with open_host(bytes([2]) * 32, ANY, "test") as host:
        with lone_node(1) as peer:
            host.know(peer.peer_id, [peer.address])
            await until_connected(host, peer.peer_id, True, 5)
            listen = peer.address.partition("/p2p/")[0]
        await until_connected(host, peer.peer_id, False, 2)
        with lone_node(1, listen=listen) as again:
            assert again.peer_id == peer.peer_id
            await until_connected(host, peer.peer_id, True, 10)
            assert await host.request(peer.peer_id, ECHO, b"x", timeout_s=5) == b"echo x"


def test_a_hidden_node_is_reached_through_a_relay() -> None:
    with (
        lone_node(1, serve_relay=True) as relay,
        lone_node(2, relays=[relay.address], shut=True) as hidden,
        lone_node(3) as dialler,
    ):
        hidden.until(2, addresses=1)
        circuit = hidden.do(addresses=1)[1]
        dialler.do(know=[hidden.address])
        assert dialler.do(request=[hidden.peer_id, ECHO, "x", 2.0]) == "peer-unreachable"
        dialler.do(know=[circuit])
        assert dialler.do(request=[hidden.peer_id, ECHO, "x", 5.0]) == "echo x"
        assert dialler.do(where=1)[hidden.peer_id] == f"relay {relay.peer_id}"
        assert hidden.do(where=1)[dialler.peer_id] == f"relay {relay.peer_id}"
        assert hidden.do(request=[dialler.peer_id, ECHO, "y", 5.0]) == "echo y"
        big = "z" * 200_000
        assert dialler.do(request=[hidden.peer_id, ECHO, big, 10.0]) == "echo " + big
        relay.process.kill()
        dialler.until(0, peers=1)


def test_a_killed_node_remembers_whom_it_learned_of(tmp_path: Path) -> None:
    file = str(tmp_path / "node.db")
    with lone_node(1) as peer:
        with lone_node(2, database=file) as node:
            node.do(learn=[peer.address])
            assert node.do(request=[peer.peer_id, ECHO, "x", 5.0]) == "echo x"
            node.process.kill()
        with lone_node(2, database=file) as again:
            assert again.do(request=[peer.peer_id, ECHO, "x", 5.0]) == "echo x"
            assert again.do(request=[again.peer_id, ECHO, "x", 5.0]) == "peer-unreachable"


async def test_idle_and_broken_sockets_keep_nobody_out() -> None:
    with lone_node(1) as peer, ExitStack() as stack:
        port = int(peer.address.split("/")[4])
        for index in range(200):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5, CROWD))
            if index % 2:
                raw.sendall(b"\xff" * 64)
        async with open_host(bytes([2]) * 32, ANY, "test") as host:
            host.know(peer.peer_id, [peer.address])
            await until_connected(host, peer.peer_id, True, 3)


async def _come_and_go(address: str, peer_id: PeerId, number: int, failed: list[str]) -> None:
    async with open_guard(number.to_bytes(32, "big"), "none", limits=Limits()) as guest:
        try:
            await guest.dial(peer_id, address.partition("/p2p/")[0])
        except StreamBroken as error:
            failed.append(str(error))


@pytest.mark.slow
async def test_500_rapid_connections_leave_room_for_more() -> None:
    failed: list[str] = []
    with lone_node(1) as peer:
        for batch in range(50):
            async with trio.open_nursery() as nursery:
                for index in range(10):
                    nursery.start_soon(
                        _come_and_go, peer.address, peer.peer_id, 1 + 10 * batch + index, failed
                    )
        assert failed == []
        peer.until(0, peers=1)
        assert peer.do(sockets=1) < 10
        async with open_host(bytes([2]) * 32, ANY, "test") as host:
            host.know(peer.peer_id, [peer.address])
            assert await host.request(peer.peer_id, ECHO, b"x", timeout_s=5) == b"echo x"
