"""The whole demo as a user runs it: seconds, and memory of all its processes together."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

NORTHBUND = str(Path(sys.executable).with_name("northbund"))


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "demo"
        command = [NORTHBUND, "demo", "--folder", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        report = json.loads((folder / "report.json").read_text("utf-8"))
    return {
        "demo.seconds": {
            "value": report["seconds"],
            "unit": "s",
            "baseline": None,
            "ratio": None,
            "what": "from `northbund demo` until its report is written",
        },
        "demo.peak_mb": {
            "value": report["memory"]["peak_mb"],
            "unit": "MB",
            "baseline": None,
            "ratio": None,
            "what": "summed PSS of all processes at the peak (most it may be: 1300)",
        },
    }
