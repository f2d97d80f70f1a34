"""One host in a process of its own, driven by lines of JSON: what the tests of several nodes run.

`python peer_process.py SEED LISTEN [OPTIONS]` prints {"address", "peer"} once it listens, then one
line for each command. OPTIONS is a JSON object: the fields of Discovery that are not as they are by
default; "shut", which refuses every connection that comes to its port; "database", the file in
which it remembers its peers. The commands are {"know": [address, …]}, {"learn": [address, …]},
{"publish": [text, …], "pause": seconds}, {"request": [peer, protocol, text, timeout]}, and the
figures {"peers": 1}, {"listeners": 1}, {"seen": 1}, {"cpu": 1}, {"sockets": 1}, {"addresses": 1},
{"where": 1}. The end of the input, or SIGTERM, ends it.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from node import log
from node.discovery import Discovery, discover
from node.host import Host, PeerRefused, PeerTimeout, PeerUnreachable, open_host
from node.libp2p_guard import Limits
from node.peer_store import PeerStore
from node.store import open_store
from protocol.ids import PeerId


class Node:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.seen: dict[str, float] = {}

    async def receive(self, _author: PeerId, payload: bytes) -> None:
        self.seen[payload.decode()] = time.time()

    async def publish(self, texts: list[str], pause_s: float) -> float:
        started = time.time()
        for text in texts:
            await self.host.publish(text.encode())
            await trio.sleep(pause_s)
        return started

    async def request(self, peer: str, protocol: str, text: str, timeout_s: float) -> str:
        try:
            answer = await self.host.request(
                PeerId(peer), protocol, text.encode(), timeout_s=timeout_s
            )
        except (PeerRefused, PeerTimeout, PeerUnreachable) as fault:
            return fault.kind
        return answer.decode()

    def know(self, addresses: list[str]) -> int:
        for address in addresses:
            self.host.know(PeerId(address.rpartition("/")[2]), [address])
        return len(addresses)

    async def do(self, command: dict[str, Any]) -> Any:
        match command:
            case {"publish": texts, "pause": pause_s}:
                return await self.publish(texts, pause_s)
            case {"request": arguments}:
                return await self.request(*arguments)
            case {"know": addresses}:
                return self.know(addresses)
            case {"learn": addresses}:
                for address in addresses:
                    self.host.learn(PeerId(address.rpartition("/")[2]), [address], "announcement")
                return len(addresses)
            case _:
                return self.figure(*command)

    def figure(self, name: str) -> Any:
        figures: dict[str, Callable[[], Any]] = {
            "peers": lambda: [peer.peer_id for peer in self.host.peers() if peer.connected],
            "listeners": self.host.listeners,
            "seen": lambda: self.seen,
            "addresses": lambda: self.host.addresses,
            "where": lambda: {p.peer_id: p.address for p in self.host.peers() if p.connected},
            "cpu": time.process_time,
            "sockets": open_sockets,
        }
        return figures[name]()


def open_sockets() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += "socket" in str(entry.readlink())
    return found


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def echo(_peer: PeerId, request: bytes) -> bytes:
    return b"echo " + request


async def stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def main(seed: int, listen: str, options: dict[str, Any]) -> None:
    limits = Limits(inbound_per_address=0) if options.pop("shut", False) else Limits()
    file = options.pop("database", None)
    store = PeerStore(open_store(Path(file)) if file else None)
    async with open_host(bytes([seed]) * 32, listen, "test", limits=limits, store=store) as host:
        node = Node(host)
        host.serve("/northbund/echo/1", echo)
        host.on_gossip(lambda _author, _payload: True, node.receive)
        say({"address": host.addresses[0], "peer": host.peer_id})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_on_signal, nursery.cancel_scope)
            discover(host, Discovery(**options), "test")
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                say(await node.do(json.loads(line)))
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    log.configure("warning")
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    trio.run(main, int(sys.argv[1]), sys.argv[2], options)
