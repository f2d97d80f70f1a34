"""Secure aggregation against the same float64 in clear, over the same pinned mutual TLS.

Three owners, three members (t = 1) and a recipient, each a process of its own; all answers are
asked and checked, every round carries its signed header, and owners check it. Noise comes from
the cryptographic source and is drawn before the clock starts, but in the figures that end in
`.noise`. `python -m tests.bench aggregate` prints the table.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, median

import numpy as np

from mpc.noise import NoiseSource
from mpc.supervisor import WORKER_ENVIRONMENT

PARTY = Path(__file__).parent / "aggregate_party.py"
BULK = {"rows": 100_000, "width": 64, "rounds": 1}
ROUNDS = {"rows": 256, "width": 64, "rounds": 100}
PASSES = 4
OWNERS = MEMBERS = 3
LIMIT_S = 300.0


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    kinds = (("clear", False), ("m61", False), ("m31", False), ("m61", True))
    one_pass = [
        {
            "name": f"{'noise' if drawn else kind}.{shape}",
            "kind": kind,
            "draw_noise": drawn,
            **size,
        }
        for shape, size in (("bulk", BULK), ("rounds", ROUNDS))
        for kind, drawn in kinds
    ]
    # The kinds take turns, so that whatever else the machine does falls on all of them alike;
    # the first pass touches every buffer for the first time and is not counted.
    seconds = run_parties(one_pass * (PASSES + 1))
    table = {"aggregate.noise_per_s": noise_per_s()}
    for name, key in (("", "m61"), (".compact", "m31"), (".noise", "noise")):
        table[f"aggregate.bulk{name}"] = bulk(seconds[f"{key}.bulk"], seconds["clear.bulk"])
        table[f"aggregate.rounds{name}"] = rounds(seconds[f"{key}.rounds"], seconds["clear.rounds"])
    return table


def bulk(ours: list[float], clear: list[float]) -> dict[str, object]:
    value, baseline = median(counted(ours)), median(counted(clear))
    return {
        "value": round(value, 4),
        "unit": "s",
        "baseline": round(baseline, 4),
        "ratio": round(value / baseline, 2),
        "what": "opening the sum of 3 owners' 100,000 x 64; baseline: the same float64 in clear",
    }


def rounds(ours: list[float], clear: list[float]) -> dict[str, object]:
    value, baseline = 1 / fmean(counted(ours)), 1 / fmean(counted(clear))
    return {
        "value": round(value, 1),
        "unit": "rounds/s",
        "baseline": round(baseline, 1),
        "ratio": round(baseline / value, 2),
        "what": "256 x 64 of 3 owners opened, float32 gradient back; baseline: the same in clear",
    }


def counted(seconds: list[float]) -> list[float]:
    """The seconds without those of the first pass."""
    return seconds[len(seconds) // (PASSES + 1) :]


def noise_per_s() -> dict[str, object]:
    source, deviations = NoiseSource(), np.full(64, 20_000.0)
    source.skellam(1_000, deviations)
    began = time.perf_counter()
    source.skellam(20_000, deviations)
    rate = 20_000 * 64 / (time.perf_counter() - began)
    return {
        "value": round(rate),
        "unit": "numbers/s",
        "baseline": None,
        "ratio": None,
        "what": "Skellam noise from ChaCha20 on one core",
    }


def run_parties(works: list[dict[str, object]], owners: int = OWNERS) -> dict[str, list[float]]:
    """The recipient's seconds for each repeat of each work."""
    return run_and_weigh(works, owners)[0]


def run_and_weigh(
    works: list[dict[str, object]], owners: int = OWNERS
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The same, and the most memory in MB that each party ever held."""
    names = [
        *(f"owner-{i}" for i in range(owners)),
        *(f"member-{i}" for i in range(MEMBERS)),
        "recipient",
    ]
    plan = json.dumps(works)
    parties = {
        name: subprocess.Popen(
            [sys.executable, str(PARTY), name, str(owners), str(MEMBERS), plan],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=WORKER_ENVIRONMENT,
        )
        for name in names
    }
    try:
        known = {name: json.loads(party.stdout.readline()) for name, party in parties.items()}
        for party in parties.values():
            party.stdin.write(json.dumps(known) + "\n")
            party.stdin.flush()
        said = parties["recipient"].stdout.readline()
        peaks = {
            name: json.loads(party.stdout.readline())["peak_mb"] for name, party in parties.items()
        }
        for party in parties.values():
            party.wait(timeout=LIMIT_S)
        return json.loads(said)["seconds"], peaks
    finally:
        for party in parties.values():
            party.kill()
            party.wait()
