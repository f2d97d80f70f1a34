"""What a round costs with more owners: seven processes with two of them, twenty with sixteen.

All processes share this machine's cores, so the cost is seconds of a round. Its owners' own work
grows with their number, as do the members' additions; the rest should not.
"""

from statistics import median

from tests.bench.aggregate import PASSES, counted, run_parties

ROUND = {"rows": 256, "width": 16, "rounds": 50}
OWNERS = (2, 4, 8, 16)


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}; the baseline is two owners' share of it."""
    work = {"name": "round", "kind": "m61", **ROUND}
    table: dict[str, dict[str, object]] = {}
    each = 0.0
    for owners in OWNERS:
        value = median(counted(run_parties([work] * (PASSES + 1), owners)["round"])) * 1e3
        each = each or value / owners
        table[f"aggregate.parties.{owners}"] = {
            "value": round(value, 3),
            "unit": "ms",
            "baseline": round(each * owners, 3),
            "ratio": round(value / (each * owners), 2),
            "what": f"a round of 256 x 16 of {owners} owners; baseline: 2 owners, times {owners}/2",
        }
    return table
