"""`make bench`: every figure as a table, and as build/bench.json."""

import importlib
import json
from pathlib import Path

MODULES = (
    "tests.bench.aggregate",
    "tests.bench.alignment",
    "tests.bench.node",
    "tests.bench.chain",
    "tests.bench.gossip",
    "tests.bench.reconcile",
    "tests.bench.terms",
    "tests.bench.negotiation",
    "tests.bench.garbage",
    "tests.bench.catalogue",
    "tests.bench.demo",
)
RESULT = Path("build/bench.json")


def main() -> None:
    figures: dict[str, dict[str, object]] = {}
    for name in MODULES:
        found = importlib.import_module(name).measure()
        figures |= found
        for figure, line in found.items():
            ratio = "" if line["ratio"] is None else f"{line['ratio']:>8.2f} x"
            value = f"{line['value']:>12,.3f} {line['unit']:10}"
            print(f"{figure:32} {value} {ratio:>11}  {line['what']}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
