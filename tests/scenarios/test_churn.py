"""Twenty nodes, of which five are killed and restarted at random for a minute: one catalogue."""

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "node" / "catalogue_process.py"
NODES = 20
LINKS = 3
RESTARTED = 5
CHURN_S = 60.0
EQUAL_WITHIN_S = 30.0
GOSSIP_LOST = 0.3


class Node:
    """One organisation's node, which may be killed and started again on its own data."""

    def __init__(self, seed: int, folder: Path, port: int, known: list[str]) -> None:
        self.job = {
            "seed": seed,
            "folder": str(folder),
            "listen": f"/ip4/127.0.0.1/tcp/{port}",
            "seeds": list(range(1, NODES + 1)),
            "known": known,
            "loss": GOSSIP_LOST,
            "scheduled": True,
        }
        self.process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT), json.dumps(self.job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        self.address = self.receive()["address"]

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def receive(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def do(self, **command: Any) -> Any:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.receive()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Twenty nodes, each of which keeps connections to up to three that were there before it."""
    chance, made = random.Random(5), []
    for seed, port in enumerate(free_ports(NODES), start=1):
        earlier = chance.sample(made, min(len(made), LINKS))
        folder = tmp_path / str(seed)
        folder.mkdir()
        made.append(Node(seed, folder, port, [node.address for node in earlier]))
        made[-1].start()
        made[-1].ready()
    try:
        yield made
    finally:
        for node in made:
            node.kill()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_all_catalogues_are_equal_soon_after_the_last_restart(nodes: list[Node]) -> None:
    chance = random.Random(6)
    unsteady = chance.sample(nodes, RESTARTED)
    published: dict[str, Node] = {}
    withdrawn: set[str] = set()
    restart_at: dict[Node, float] = {}
    began, kills = time.monotonic(), 0
    while (now := time.monotonic()) < began + CHURN_S or restart_at:
        for node in [node for node, at in restart_at.items() if at <= now]:
            node.start()
            node.ready()
            del restart_at[node]
        node = chance.choice(unsteady)
        if now < began + CHURN_S and node not in restart_at and chance.random() < 0.5:
            node.kill()
            kills += 1
            restart_at[node] = now + chance.uniform(1, 8)
        live = [node for node in nodes if node not in restart_at]
        source = chance.choice(live)
        published[source.do(publish=f"asset {len(published)}")] = source
        if len(published) % 10 == 0:
            cdt = chance.choice([cdt for cdt, owner in published.items() if owner in live])
            withdrawn.add(published[cdt].do(withdraw=cdt))
        time.sleep(0.5)
    last = time.monotonic()
    while time.monotonic() < last + EQUAL_WITHIN_S:
        held = [node.do(held=1) for node in nodes]
        whole = all(each["count"] == len(published) for each in held)
        if whole and len({each["fingerprint"] for each in held}) == 1:
            break
        time.sleep(0.5)
    assert kills >= RESTARTED  # a machine with other work kills fewer in its minute
    assert [each["count"] for each in held] == [len(published)] * NODES
    assert len({each["fingerprint"] for each in held}) == 1
    assert all(each["withdrawn"] == sorted(withdrawn) for each in held)
    print(f"{kills} kills, {len(published)} assets, equal in {time.monotonic() - last:.1f} s")  # noqa: T201
