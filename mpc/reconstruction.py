"""What a recipient can compute of the owners' rows from the numbers that were opened to it.

This is the adversary's side, kept to state the risk in figures: nodes never run it. The attacker is
the recipient of one session; it knows the original columns of some applicants (its own customers,
say) and every number opened, and solves a ridge regression from the opened numbers of a row to its
columns. W moves while it is trained, so each number is offered a second time, times the round in
which it was opened; the regression's strength is chosen by leaving known rows out. A colluding
owner is the same attack on the other owner's share alone.

What is reported is what comes out for the rows that the attacker does NOT know: R2 for a number,
accuracy beside the most common answer for a category, and how many whole rows are right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mpc.encoder import Column, Floats

Indices = NDArray[np.uint32]

NUMBER_TOLERANCE = 0.05
"""A number counts as recovered if it is this near, in standard deviations of its column."""

_KNOWN = 11  # keeps the choice of known rows apart from a training drawn by the same seed
_STRENGTHS = tuple(10.0**power for power in range(-9, 4))


@dataclass(frozen=True, slots=True)
class Openings:
    """Numbers that were opened: opening i is of row `rows[i]` in round `rounds[i]`.

    `rounds` int64 (n,), `rows` uint32 (n,) in the common order, `shared` float64 (n, k).
    """

    rounds: NDArray[np.int64]
    rows: Indices
    shared: Floats

    def often_opened(self) -> Indices:
        """The rows about which most numbers were opened, sorted."""
        counts = np.bincount(self.rows)
        return np.flatnonzero(counts == counts.max()).astype(np.uint32)

    def of_rows(self, rows: Indices) -> Floats:
        """All numbers of each row, and each times its round: float64 (len(rows), 2 T k).

        ValueError unless every row was opened equally often.
        """
        place = {int(row): at for at, row in enumerate(rows)}
        wanted = np.isin(self.rows, rows)
        places = np.array([place[int(row)] for row in self.rows[wanted]], np.int64)
        order = np.lexsort((self.rounds[wanted], places))
        opened, rounds = self.shared[wanted][order], self.rounds[wanted][order]
        times = len(opened) // max(1, len(rows))
        if not (np.bincount(self.rows[wanted])[rows] == times).all():
            raise ValueError("the rows were not opened equally often")
        numbers = opened.reshape(len(rows), -1)
        moment = (rounds / max(1, int(self.rounds.max())) - 0.5).reshape(len(rows), times)
        late = numbers * np.repeat(moment, opened.shape[1], axis=1)
        return np.concatenate([numbers, late], axis=1)


@dataclass(frozen=True, slots=True)
class ColumnRecovered:
    """One column: `score` is R2 for a number and accuracy for a category; `prior` needs no attack.

    The prior is 0 for a number (the mean) and the share of the most common category otherwise.
    """

    kind: Literal["number", "category"]
    score: float
    prior: float


@dataclass(frozen=True, slots=True)
class Recovered:
    """What one attack found out about `rows` rows that it did not know."""

    known_rows: int
    rows: int
    columns: dict[str, ColumnRecovered]
    whole_rows: int

    def share(self) -> float:
        """How much of an unknown row comes out, 0 to 1: the mean over the columns.

        A column counts by what the attack adds to the prior, as a share of what there is to add.
        """
        gains = [
            max(0.0, found.score - found.prior) / (1 - found.prior)
            for found in self.columns.values()
            if found.prior < 1
        ]
        return sum(gains) / max(1, len(gains))


def attack(
    openings: Openings, columns: Mapping[str, Column], known_rows: int, seed: int
) -> Recovered:
    """The linear attack by a recipient that knows the columns of `known_rows` random rows.

    `columns` hold the truth for the rows of the common order, as an owner's encoder takes them;
    only those of the known rows are used to solve. ValueError if fewer rows were opened.
    """
    rows = openings.often_opened()
    if not 2 <= known_rows < len(rows):
        raise ValueError(f"{known_rows} known rows out of {len(rows)} that were opened")
    order = np.random.default_rng([seed, _KNOWN]).permutation(len(rows))
    known, unknown = order[:known_rows], order[known_rows:]
    seen = openings.of_rows(rows)
    centre, scale = seen[known].mean(axis=0), seen[known].std(axis=0) + 1e-12
    seen = np.concatenate([(seen - centre) / scale, np.ones((len(rows), 1))], axis=1)
    found: dict[str, ColumnRecovered] = {}
    right = np.ones(len(unknown), bool)
    for name, column in columns.items():
        solve = _category if column.dtype == object else _number
        found[name], hits = solve(
            seen[known], seen[unknown], column[rows][known], column[rows][unknown]
        )
        right &= hits
    return Recovered(known_rows, len(unknown), found, int(right.sum()))


def _number(
    seen: Floats, unseen: Floats, known: Column, truth: Column
) -> tuple[ColumnRecovered, NDArray[np.bool_]]:
    mean = float(np.nanmean(known))
    guess = _ridge(seen, np.nan_to_num(known - mean)[:, None], unseen)[:, 0] + mean
    guess = np.clip(guess, np.nanmin(known), np.nanmax(known))  # no attacker believes an outlier
    present = ~np.isnan(truth)
    spread = float(np.var(truth[present]))
    error = float(np.mean((guess[present] - truth[present]) ** 2))
    hits = np.abs(guess - truth) <= NUMBER_TOLERANCE * np.sqrt(spread)
    # A missing number has no value to find: it is not counted against the attacker.
    return ColumnRecovered("number", 1 - error / spread, 0.0), hits | ~present


def _category(
    seen: Floats, unseen: Floats, known: Column, truth: Column
) -> tuple[ColumnRecovered, NDArray[np.bool_]]:
    names = [str(value) for value in known]
    kinds = sorted(set(names))
    targets = np.array([[name == kind for kind in kinds] for name in names], np.float64)
    shares = targets.mean(axis=0)
    guess = np.argmax(_ridge(seen, targets - shares, unseen) + shares, axis=1)
    answers = np.array([str(value) for value in truth])
    hits = np.array(kinds)[guess] == answers
    prior = np.unique(answers, return_counts=True)[1].max() / len(answers)
    return ColumnRecovered("category", float(hits.mean()), float(prior)), hits


def _ridge(seen: Floats, targets: Floats, unseen: Floats) -> Floats:
    """Predictions for `unseen`, with or without the numbers times their round.

    Both and the strength are settled by leaving each known row out once.
    """
    plain = [*range(seen.shape[1] // 2), seen.shape[1] - 1]
    fits = [(_fit(seen, targets), unseen), (_fit(seen[:, plain], targets), unseen[:, plain])]
    (_, weights), inputs = min(fits, key=lambda fit: fit[0][0])
    predicted: Floats = inputs @ weights
    return predicted


def _fit(seen: Floats, targets: Floats) -> tuple[float, Floats]:
    """The least error on left-out rows over all strengths, and the weights that gave it."""
    left, singular, right = np.linalg.svd(seen, full_matrices=False)
    projected = left.T @ targets
    best, weights = np.inf, np.zeros((seen.shape[1], targets.shape[1]))
    for strength in _STRENGTHS:
        shrink = singular**2 / (singular**2 + strength * len(seen))
        fitted = left @ (shrink[:, None] * projected)
        leverage = np.einsum("ij,j,ij->i", left, shrink, left)
        error = float(np.sum(((targets - fitted) / (1 - leverage + 1e-9)[:, None]) ** 2))
        if error < best:
            best = error
            inverse = singular / (singular**2 + strength * len(seen))
            weights = right.T @ (inverse[:, None] * projected)
    return best, weights
