"""The same sum of the same shares, added by numpy and inside MPyC."""

from statistics import median

from tests.bench.aggregate import run_parties

SIZE = {"rows": 10_000, "width": 64, "rounds": 1}
REPEATS = 3


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    works = [{"name": kind, "kind": kind, **SIZE} for kind in ("mpyc", "m61")]
    seconds = run_parties(works * (REPEATS + 1))
    value, baseline = median(seconds["mpyc"][1:]), median(seconds["m61"][1:])
    return {
        "aggregate.mpyc": {
            "value": round(value, 4),
            "unit": "s",
            "baseline": round(baseline, 4),
            "ratio": round(value / baseline, 1),
            "what": "opening 10,000 x 64 of 3 owners, added inside MPyC; baseline: by the lane",
        }
    }
