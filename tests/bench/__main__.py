"""`make bench`: every figure as a table, and as build/bench.json."""

import importlib
import json
from pathlib import Path

MODULES = ("tests.bench.aggregate", "tests.bench.node", "tests.bench.demo")
RESULT = Path("build/bench.json")


def main() -> None:
    figures: dict[str, dict[str, object]] = {}
    for name in MODULES:
        found = importlib.import_module(name).measure()
        figures |= found
        for figure, line in found.items():
            ratio = "" if line["ratio"] is None else f"{line['ratio']:>8.2f} x"
            print(f"{figure:32} {line['value']:>12,.3f} {line['unit']:10} {ratio:>11}  {line['what']}")  # noqa: E501, T201
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(f"written to {RESULT}")  # noqa: T201


if __name__ == "__main__":
    main()
