"""What the figures are meant to be, on two cores that do nothing else."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """`of` a figure, its value or its ratio to the baseline, at most or at least `bound`."""

    of: Literal["value", "ratio"]
    bound: float
    least: bool = False

    def met(self, line: dict[str, object]) -> bool:
        """Whether the measured line is within the bound."""
        found = float(str(line[self.of]))
        return found >= self.bound if self.least else found <= self.bound

    def __str__(self) -> str:
        return f"{self.of} {'>=' if self.least else '<='} {self.bound:,g}"


TARGETS = {
    "aggregate.bulk": (Target("ratio", 5),),
    "aggregate.bulk.compact": (Target("ratio", 2.8),),
    "aggregate.bulk.million.peak_mb": (Target("value", 250),),
    "aggregate.rounds": (Target("value", 450, least=True), Target("ratio", 8)),
    "aggregate.rounds.compact": (Target("value", 800, least=True),),
    **{f"aggregate.parties.{owners}": (Target("ratio", 1),) for owners in (4, 8, 16)},
    "aggregate.mpyc": (Target("ratio", 20, least=True),),
    "align.ids_per_s": (Target("value", 4_000, least=True),),
    "session.start_s": (Target("value", 1.5),),
    "gossip.to_all_ms": (Target("value", 20),),
    "gossip.to_all_20_ms": (Target("value", 120),),
    "gossip.loss": (Target("value", 0),),
    "reconcile.seconds": (Target("value", 1),),
    **{
        f"reconcile.bytes{end}": (Target("value", 16_000 + 1_500 * differences),)
        for differences, end in ((10, ""), (100, ".100"), (1_000, ".1000"))
    },
    "terms.evaluations_per_s": (Target("value", 5_000, least=True),),
    "negotiation.seconds": (Target("value", 0.15),),
    "garbage.rpc_ms": (Target("value", 100),),
    "catalogue.search_ms": (Target("value", 20),),
    "demo.peak_mb": (Target("value", 1_300),),
}
