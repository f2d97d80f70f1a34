"""A million rows in one opening: seconds, and the most memory that any worker holds."""

from statistics import median

from tests.bench.aggregate import run_and_weigh

SIZE = {"rows": 1_000_000, "width": 64, "rounds": 1}
REPEATS = 2


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    # Each kind on its own: a process keeps the most memory that it ever held.
    ours, peaks = run_and_weigh([{"name": "m61", "kind": "m61", **SIZE}] * REPEATS)
    clear, _ = run_and_weigh([{"name": "clear", "kind": "clear", **SIZE}] * REPEATS)
    value, baseline = median(ours["m61"]), median(clear["clear"])
    heaviest = max(peaks, key=lambda name: peaks[name])
    each = ", ".join(f"{name} {mb:.0f}" for name, mb in sorted(peaks.items()))
    return {
        "aggregate.bulk.million": {
            "value": round(value, 3),
            "unit": "s",
            "baseline": round(baseline, 3),
            "ratio": round(value / baseline, 2),
            "what": "opening the sum of 3 owners' 1,000,000 x 64; baseline: the same in clear",
        },
        "aggregate.bulk.million.peak_mb": {
            "value": round(peaks[heaviest], 1),
            "unit": "MB",
            "baseline": None,
            "ratio": None,
            "what": f"the most of one worker; all: {each}",
        },
    }
