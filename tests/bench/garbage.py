"""How long a daemon's JSON-RPC takes to answer while strangers send garbage on everything.

The daemon and the strangers (four peers at a time, half-open sockets, raw bytes; tests/fuzz/
garbage.py) are a process each, on loopback. `python -m tests.bench.garbage` prints the figures.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

from node.client import Client
from tests.bench.node import make_node, start

SECONDS = 15.0
PAUSE_S = 0.02
MORE_S = 30.0


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    with tempfile.TemporaryDirectory() as root:
        folder = make_node(Path(root))
        process, _ = start(folder)
        try:
            quiet = latencies_ms(folder, time.monotonic() + 2.0)
            before = resident_mb(process.pid)
            taken, attacks = under_garbage(folder, SECONDS)
            after = resident_mb(process.pid)
            if process.poll() is not None:
                raise RuntimeError("the daemon did not survive")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
    what = f"RPC answer, median, under {sum(attacks.values()) / SECONDS:,.0f} garbage messages/s"
    return {
        "garbage.rpc_ms": figure(middle(taken), "ms", what, baseline=middle(quiet)),
        "garbage.rpc_p99_ms": figure(quantiles(taken, n=100)[98], "ms", "the same, 99th of 100"),
        "garbage.memory_mb": figure(after - before, "MB", f"grown in {SECONDS:g} s of it"),
    }


def figure(value: float, unit: str, what: str, baseline: float | None = None) -> dict[str, object]:
    ratio = None if baseline is None else round(value / baseline, 2)
    known = None if baseline is None else round(baseline, 3)
    return {"value": round(value, 3), "unit": unit, "baseline": known, "ratio": ratio, "what": what}


def middle(values: list[float]) -> float:
    return quantiles(values, n=2)[0]


def under_garbage(folder: Path, seconds: float) -> tuple[list[float], dict[str, int]]:
    """Milliseconds of each answer, and what was sent meanwhile."""
    address = Client(folder).call("node_status")["addresses"][0]
    command = [sys.executable, "-m", "tests.fuzz.garbage", address, "northbund", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as strangers:
        try:
            taken = latencies_ms(folder, time.monotonic() + seconds, strangers.poll)
            out, _ = strangers.communicate(timeout=MORE_S)
        finally:
            strangers.kill()
    attacks: dict[str, int] = json.loads(out)
    return taken, attacks


def latencies_ms(
    folder: Path, until: float, ended: Callable[[], int | None] = lambda: None
) -> list[float]:
    """Milliseconds of each `node_status`, one after another, each on a connection of its own."""
    client = Client(folder)
    taken = []
    while time.monotonic() < until and ended() is None:
        began = time.perf_counter()
        client.call("node_status")
        taken.append(1_000 * (time.perf_counter() - began))
        time.sleep(PAUSE_S)
    return taken


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    for name, line in measure().items():
        print(f"{name:24} {line['value']:>10} {line['unit']:10} {line['what']}")  # noqa: T201
