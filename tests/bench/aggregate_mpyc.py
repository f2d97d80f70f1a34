"""The same sum inside MPyC: stock, and as the session's engine that adds the owners' shares.

Stock MPyC is three processes over plain TCP, of which each puts one matrix in; the engine and the
lane are seven processes over pinned mutual TLS, with all answers checked.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from tests.bench.aggregate import run_parties

SIZE = {"rows": 10_000, "width": 64, "rounds": 1}
STOCK = Path(__file__).parent / "peers" / "mpyc_sum.py"
REPEATS = 3
LIMIT_S = 300.0


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}; the baseline is the lane."""
    works = [{"name": kind, "kind": kind, **SIZE} for kind in ("mpyc", "m61")]
    seconds = run_parties(works * (REPEATS + 1))
    lane = median(seconds["m61"][1:])
    return {
        "aggregate.mpyc": figure(
            median(stock()), lane, "put in, added and opened by stock MPyC; baseline: the lane"
        ),
        "aggregate.mpyc.engine": figure(
            median(seconds["mpyc"][1:]), lane, "shared by us, added inside MPyC; baseline: the lane"
        ),
    }


def figure(value: float, lane: float, what: str) -> dict[str, object]:
    return {
        "value": round(value, 4),
        "unit": "s",
        "baseline": round(lane, 4),
        "ratio": round(value / lane, 1),
        "what": f"10,000 x 64 of 3 parties, {what}",
    }


def stock() -> list[float]:
    """Seconds of each repeat."""
    words = [str(SIZE["rows"]), str(SIZE["width"]), str(REPEATS), "-M3", "--no-log"]
    done = subprocess.run(
        [sys.executable, str(STOCK), *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    seconds: list[float] = said["seconds"]
    return seconds
