"""How fast and how surely gossip travels, and what a request costs, between separate processes.

Every node is a host in its own process on loopback (tests/node/peer_process.py). Messages are
2 KB. `python -m tests.bench.gossip` prints the figures.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

SCRIPT = Path(__file__).parents[1] / "node" / "peer_process.py"
BODY = "x" * 2_000
LINKS = 3
RATE = 50
SECONDS = 10


class Node:
    """One host in a process of its own."""

    def __init__(self, seed: int, stack: ExitStack) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT), str(seed), "/ip4/127.0.0.1/tcp/0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self.end)
        self.address = ""
        self.peer_id = ""

    def ready(self) -> None:
        told = self.receive()
        self.address, self.peer_id = told["address"], told["peer"]

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def do(self, **command: Any) -> Any:
        self.send(**command)
        return self.receive()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def network(count: int, links: int) -> Iterator[list[Node]]:
    """`count` nodes, each of which dials up to `links` that were there before it."""
    choice = random.Random(1)
    with ExitStack() as stack:
        nodes = [Node(seed, stack) for seed in range(1, count + 1)]
        for node in nodes:
            node.ready()
        for number, node in enumerate(nodes):
            earlier = choice.sample(nodes[:number], min(number, links))
            node.do(know=[other.address for other in earlier])
            while len(node.do(peers=1)) < len(earlier):
                time.sleep(0.05)
        time.sleep(3)  # three heartbeats, after which the meshes have settled
        yield nodes


def to_all_ms(nodes: list[Node], repetitions: int = 20) -> float:
    """The median time from a publication to the last of the other nodes, in milliseconds."""
    taken = []
    for number in range(repetitions):
        source = nodes[number % len(nodes)]
        text = f"{number} {BODY}"
        began = source.do(publish=[text], pause=0)
        time.sleep(0.5)
        arrived = [node.do(seen=1).get(text) for node in nodes if node is not source]
        if None not in arrived:
            taken.append(1_000 * (max(arrived) - began))
    return median(taken)


def lost(nodes: list[Node]) -> int:
    """How many of RATE messages a second for SECONDS did not reach a node, over all nodes."""
    texts = [f"loss {number} {BODY}" for number in range(RATE * SECONDS)]
    for number, node in enumerate(nodes):
        node.send(publish=texts[number :: len(nodes)], pause=len(nodes) / RATE)
    for node in nodes:
        node.receive()
    time.sleep(2)
    missing = 0
    for number, node in enumerate(nodes):
        missing += len(set(texts) - set(texts[number :: len(nodes)]) - set(node.do(seen=1)))
    return missing


def request_ms(nodes: list[Node], repetitions: int = 200) -> float:
    """The median of a small request and its answer on a new stream, in milliseconds."""
    peer = nodes[0].peer_id
    taken = []
    for _ in range(repetitions):
        began = time.perf_counter()
        nodes[1].do(request=[peer, "/northbund/echo/1", "x" * 1_000, 10.0])
        taken.append(1_000 * (time.perf_counter() - began))
    return median(taken)


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    with network(5, 4) as five:
        few = to_all_ms(five)
        loss = lost(five)
        asked = request_ms(five)
    with network(20, LINKS) as twenty:
        many = to_all_ms(twenty)
    return {
        "gossip.to_all_ms": figure(few, "ms", "2 KB from one of 5 nodes to all others, median"),
        "gossip.to_all_20_ms": figure(many, "ms", "the same with 20 nodes, three links each"),
        "gossip.loss": figure(loss, "messages", "lost of 50 a second for 10 s on 5 nodes"),
        "host.request_ms": figure(asked, "ms", "1 KB asked and answered on a new stream, median"),
    }


def figure(value: float, unit: str, what: str) -> dict[str, object]:
    return {"value": round(value, 2), "unit": unit, "baseline": None, "ratio": None, "what": what}


if __name__ == "__main__":
    for name, line in measure().items():
        print(f"{name:24} {line['value']:>10} {line['unit']:10} {line['what']}")  # noqa: T201
