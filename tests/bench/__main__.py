"""`make bench`: every figure as a table, as build/bench.json, and beside what it is meant to be.

`python -m tests.bench aggregate.rounds node` measures only what begins with one of the words.
"""

import importlib
import json
import os
import sys
from pathlib import Path

from tests.bench.targets import TARGETS

# Each module, and what the names of its figures begin with.
MODULES = {
    "tests.bench.aggregate": ("aggregate.noise_per_s", "aggregate.bulk", "aggregate.rounds"),
    "tests.bench.aggregate_large": ("aggregate.bulk.million",),
    "tests.bench.aggregate_parties": ("aggregate.parties",),
    "tests.bench.aggregate_mpyc": ("aggregate.mpyc",),
    "tests.bench.alignment": ("align",),
    "tests.bench.session": ("session",),
    "tests.bench.node": ("node",),
    "tests.bench.chain": ("chain",),
    "tests.bench.gossip": ("gossip", "host"),
    "tests.bench.reconcile": ("reconcile",),
    "tests.bench.terms": ("terms",),
    "tests.bench.negotiation": ("negotiation",),
    "tests.bench.garbage": ("garbage",),
    "tests.bench.catalogue": ("catalogue",),
    "tests.bench.demo": ("demo",),
}
RESULT = Path("build/bench.json")

Figures = dict[str, dict[str, object]]


def main(asked: list[str]) -> int:
    chosen = [name for name, begins in MODULES.items() if wanted(begins, asked)]
    if not chosen:
        print(f"no figure begins with {' or '.join(asked)}", file=sys.stderr)
        return 2
    figures: Figures = {}
    for name in chosen:
        found = importlib.import_module(name).measure()
        for figure, line in found.items():
            if not asked or any(figure.startswith(word) for word in asked):
                figures[figure] = line
                show(figure, line)
    compare(figures)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(f"written to {RESULT}")
    return 0


def wanted(begins: tuple[str, ...], asked: list[str]) -> bool:
    """Whether a module may have a figure that begins with one of the words."""
    pairs = [(begin, word) for begin in begins for word in asked]
    return not asked or any(b.startswith(w) or w.startswith(b) for b, w in pairs)


def show(figure: str, line: dict[str, object]) -> None:
    ratio = "" if line["ratio"] is None else f"{line['ratio']:>8.2f} x"
    value = f"{line['value']:>12,.3f} {line['unit']:10}"
    print(f"{figure:32} {value} {ratio:>11}  {line['what']}", flush=True)


def compare(figures: Figures) -> None:
    """Every figure that has a target, beside it, and how loaded the machine was."""
    print(f"\n{'':32} {'measured':>14}  {'target':24}")
    for figure, targets in TARGETS.items():
        for target in targets if figure in figures else ():
            line = figures[figure]
            met = "met" if target.met(line) else "NOT MET"
            print(f"{figure:32} {line[target.of]:>14,.3f}  {target!s:24} {met}")
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{os.cpu_count()} cores; load over the last 1, 5 and 15 minutes: {load}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
