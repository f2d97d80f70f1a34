"""How much of the banks' rows comes out of what the fintech received: the demo attacks it.

The attacker is the recipient with the columns of 30 or 300 applicants that it knows from
elsewhere. It attacks what was really opened in the session; the same session without noise, and
other widths and noises, are replayed in clear. Where bank A helps by telling its own part, only
bank B's share and noise are left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpc.encoder import Floats
from mpc.reconstruction import Openings, Recovered, attack
from node.demo.applicants import BANK_A, BANK_B, COLUMNS, Applicants
from node.demo.in_clear import Replay, Settings, Split, encoded, replay

KNOWN_ROWS = (30, 300)
WIDTHS = (1, 2, 4)
NOISES = (0.0, 0.1, 0.3, 1.0, 3.0)
_TRIALS = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """What the demo alone knows: everybody's rows, and the session's split."""

    applicants: Applicants
    split: Split
    labels: Floats
    tables: tuple[Floats, ...]

    @classmethod
    def of(cls, applicants: Applicants, split: Split) -> "Scene":
        """The scene of one session, its common rows encoded as the banks' workers do."""
        return cls(
            applicants,
            split,
            applicants.labels_of(split.ids),
            tuple(encoded(applicants, split, COLUMNS[bank]) for bank in (BANK_A, BANK_B)),
        )

    def replayed(self, settings: Settings, seed: int) -> Replay:
        """The session as it would have been under these settings."""
        return replay(self.tables, self.labels, self.split, settings, seed)

    def attacked(
        self, opened: Openings, banks: tuple[str, ...], known: int, seed: int
    ) -> Recovered:
        """The linear attack on these banks' columns."""
        names = [name for bank in banks for name in COLUMNS[bank]]
        return attack(opened, self.applicants.of(self.split.ids, names), known, seed)


def attacks(scene: Scene, opened: Openings, settings: Settings, seed: int) -> dict[str, Any]:
    """The attacks on one session: as it was, without noise, and with bank A's help.

    Each is made several times, with other known applicants and, where it is replayed, another
    training: scores are means, whole rows the most of any.
    """
    seeds = range(seed, seed + _TRIALS)
    silent = [scene.replayed(replace(settings, noise=0.0), each) for each in seeds]
    noisy = [scene.replayed(settings, each) for each in seeds]
    both, last = (BANK_A, BANK_B), (BANK_B,)
    return {
        "with_noise": _each(scene, [opened] * _TRIALS, both, seed),
        "without_noise": _each(scene, [each.opened for each in silent], both, seed),
        "with_noise_bank_a_helps": _each(scene, [each.alone for each in noisy], last, seed),
        "without_noise_bank_a_helps": _each(scene, [each.alone for each in silent], last, seed),
    }


def frontier(scene: Scene, settings: Settings, seed: int) -> list[dict[str, float]]:
    """AUC against what comes out, for several widths and noises; means of several replays.

    The attack is the strongest of `attacks`: 300 known applicants and bank A's help.
    """
    points = []
    for width in WIDTHS:
        for noise in NOISES:
            changed = replace(settings, width=width, noise=noise)
            trials = [scene.replayed(changed, seed + again) for again in range(_TRIALS)]
            found = [
                scene.attacked(trial.alone, (BANK_B,), KNOWN_ROWS[-1], seed + again)
                for again, trial in enumerate(trials)
            ]
            points.append(
                {
                    "width": width,
                    "noise": noise,
                    "auc": _mean([trial.auc for trial in trials]),
                    "recovered": _mean([each.share() for each in found]),
                    "income_r2": _mean([max(0.0, each.columns["Income"].score) for each in found]),
                    "job_named": _mean([each.columns["Job"].score for each in found]),
                    "whole_rows": _mean([each.whole_rows for each in found]),
                }
            )
    return points


def _each(
    scene: Scene, opened: Sequence[Openings], banks: tuple[str, ...], seed: int
) -> dict[str, Any]:
    return {
        str(known): _summary(
            [scene.attacked(each, banks, known, seed + again) for again, each in enumerate(opened)]
        )
        for known in KNOWN_ROWS
    }


def _summary(found: Sequence[Recovered]) -> dict[str, Any]:
    first = found[0]
    return {
        "known_rows": first.known_rows,
        "attacked_rows": first.rows,
        "whole_rows": max(each.whole_rows for each in found),
        "recovered": _mean([each.share() for each in found]),
        "columns": {
            name: {
                "kind": column.kind,
                "score": _mean([each.columns[name].score for each in found]),
                "prior": _mean([each.columns[name].prior for each in found]),
            }
            for name, column in first.columns.items()
        },
    }


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)
