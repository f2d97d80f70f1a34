"""How long a negotiation takes between two idle nodes, each a process of its own.

`python -m tests.bench.negotiation` prints the figure.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

MODULE = "tests.bench.negotiation_party"
REPETITIONS = 21
PAUSE_S = 0.2
"""Between two, so that both nodes are idle when the next begins."""


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        owner = started("bank-b", Path(root), "", stack)
        address = receive(owner)["address"]
        consumer = started("fintech-c", Path(root), address, stack)
        receive(consumer)
        taken = [seconds(consumer) for _ in range(REPETITIONS)]
    what = "from request to finalized, two idle nodes, median (most it may be: 0.15)"
    value = {"value": round(median(taken), 3), "unit": "s", "baseline": None, "ratio": None}
    return {"negotiation.seconds": {**value, "what": what}}


def seconds(consumer: "subprocess.Popen[str]") -> float:
    assert consumer.stdin is not None
    consumer.stdin.write(json.dumps({"after_s": PAUSE_S}) + "\n")
    consumer.stdin.flush()
    return float(receive(consumer)["seconds"])


def started(name: str, root: Path, peer: str, stack: ExitStack) -> "subprocess.Popen[str]":
    folder = root / name
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, name, str(folder), peer],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def end() -> None:
        process.kill()
        process.wait()

    stack.callback(end)
    return process


def receive(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a node of the benchmark has ended")
    return dict(json.loads(line))


if __name__ == "__main__":
    for name, line in measure().items():
        print(f"{name:24} {line['value']:>10} {line['unit']:10} {line['what']}")  # noqa: T201
