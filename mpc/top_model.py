"""The recipient's own network on Z: a small perceptron whose gradient is written by hand.

It sees Z and the labels and nothing else; what it sends back is the gradient of each row's own loss
by that row's Z, which is what the owners clip and apply. The eight lines of numpy take a fifteenth
of the time of automatic differentiation at this size; a test checks them by finite differences.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.uint32]

_ADAM_FIRST = 0.9
_ADAM_SECOND = 0.999
_ADAM_EPSILON = 1e-8
# What a seed is drawn on for. Never 0: to numpy's seeding [seed] and [seed, 0] are the same.
_SPLIT, _WEIGHTS, _BATCHES = 1, 2, 3
_NAMES = ("inner", "inner_bias", "outer", "outer_bias")


class TopModel:
    """A perceptron with one hidden layer of tanh and a logistic output, trained by Adam."""

    def __init__(
        self, width: int, seed: int, *, hidden: int = 8, learning_rate: float = 0.02
    ) -> None:
        """A network on `width` columns of Z, its first weights drawn from `seed`."""
        random = np.random.default_rng([seed, _WEIGHTS])
        self.parameters: list[Floats] = [
            random.standard_normal((width, hidden)) / np.sqrt(width),
            np.zeros(hidden),
            random.standard_normal(hidden) / np.sqrt(hidden),
            np.zeros(1),
        ]
        self.learning_rate = learning_rate
        self.steps = 0
        self._first = [np.zeros_like(value) for value in self.parameters]
        self._second = [np.zeros_like(value) for value in self.parameters]

    def step(self, shared: Floats, labels: Floats) -> tuple[float, NDArray[np.float32]]:
        """Trains on one mini-batch; the mean loss before the step, and each row's gradient.

        `shared` is Z, float64 (b, k); `labels` are 0 or 1, (b,). The gradient is float32 (b, k):
        row r holds the derivative of row r's own cross entropy by its own z, not divided by b.
        """
        inner, _, outer, _ = self.parameters
        hidden, logits = self._forward(shared)
        error = _logistic(logits) - labels
        hidden_error = error[:, None] * outer * (1 - hidden**2)
        rows = len(labels)
        gradient = hidden_error @ inner.T  # by the weights that made the loss, so before the step
        self._adam(
            [
                shared.T @ hidden_error / rows,
                hidden_error.mean(axis=0),
                hidden.T @ error / rows,
                np.array([error.mean()]),
            ]
        )
        loss = float(np.mean(np.logaddexp(0, logits) - labels * logits))
        return loss, gradient.astype(np.float32)

    def predict(self, shared: Floats) -> Floats:
        """The probability of label 1 for each row of Z, float64 (n,)."""
        return _logistic(self._forward(shared)[1])

    def to_arrays(self) -> dict[str, Floats]:
        """The trained weights under their names."""
        return dict(zip(_NAMES, self.parameters, strict=True))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats]) -> "TopModel":
        """A network that predicts as the one whose `to_arrays` is given; training starts afresh."""
        model = cls(len(arrays["inner"]), 0, hidden=len(arrays["outer"]))
        model.parameters = [np.array(arrays[name], np.float64) for name in _NAMES]
        return model

    def _forward(self, shared: Floats) -> tuple[Floats, Floats]:
        inner, inner_bias, outer, outer_bias = self.parameters
        hidden = np.tanh(shared @ inner + inner_bias)
        return hidden, hidden @ outer + outer_bias

    def _adam(self, gradients: list[Floats]) -> None:
        self.steps += 1
        first_bias = 1 - _ADAM_FIRST**self.steps
        second_bias = 1 - _ADAM_SECOND**self.steps
        for place, gradient in enumerate(gradients):
            first, second = self._first[place], self._second[place]
            first += (1 - _ADAM_FIRST) * (gradient - first)
            second += (1 - _ADAM_SECOND) * (gradient**2 - second)
            self.parameters[place] -= (
                self.learning_rate
                * (first / first_bias)
                / (np.sqrt(second / second_bias) + _ADAM_EPSILON)
            )


def split_rows(rows: int, holdout: float, seed: int) -> tuple[Indices, Indices]:
    """(rows to train on, rows held out): a random split of 0..rows-1, each uint32."""
    order = np.random.default_rng([seed, _SPLIT]).permutation(rows).astype(np.uint32)
    held_out = round(holdout * rows)
    return order[held_out:], order[:held_out]


def batches(rows: Indices, batch_rows: int, seed: int, epoch: int) -> list[Indices]:
    """`rows` in a fresh order in mini-batches of `batch_rows` or a few more, never fewer.

    A remainder is spread over the mini-batches: a small last one would single its rows out. Fewer
    rows than `batch_rows` in all make one mini-batch.
    """
    order = np.random.default_rng([seed, _BATCHES, epoch + 1]).permutation(rows)
    return list(np.array_split(order, max(1, len(order) // batch_rows)))


def auc(scores: Floats, labels: Floats) -> float:
    """The area under the ROC curve: how often a row of label 1 scores above one of label 0.

    Ties count half. ValueError if only one label is there.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError("the area under the ROC curve needs rows of both labels")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = ranks[places][labels > 0].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _logistic(values: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(values / 2))
