import math

import dp_accounting
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.features import OwnFeatures
from mpc.privacy_loss import PrivacyLoss, epsilon

RATE, CLIP = 6.0, 0.3


def ball(random: np.random.Generator, rows: int, depth: int) -> np.ndarray:
    table = random.standard_normal((rows, depth))
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 15), st.booleans())
def test_no_replaced_row_moves_the_openings_by_more_than_the_bound(
    seed: int, row: int, antipodal: bool
) -> None:
    """Two data sets that differ in one row, the same batches and gradients, no noise drawn."""
    random = np.random.default_rng(seed)
    first = ball(random, 16, 4)
    second = first.copy()
    second[row] = -first[row] if antipodal else ball(random, 1, 4)[0]
    start = random.standard_normal((4, 2))
    owners = [
        OwnFeatures(rows, 2, clip=1.0, gradient_clip=CLIP, learning_rate=RATE, weights=start)
        for rows in (first, second)
    ]
    loss = PrivacyLoss(16, RATE, CLIP)
    squared = 0.0
    for _ in range(6):
        batch = random.choice(16, 8, replace=False).astype(np.uint32)
        sigma = random.uniform(0.1, 1.0, 2)
        shared = [owner.forward(batch) for owner in owners]
        loss.opened(batch, owners[0].weights, sigma)
        squared += float((((shared[0] - shared[1]) / sigma) ** 2).sum())
        gradient = random.standard_normal((8, 2))
        for owner in owners:
            owner.update(batch, gradient)
        loss.updated(batch)
    assert squared <= loss._squared[row] * (1 + 1e-9)


def test_a_row_that_was_trained_on_loses_at_every_later_opening() -> None:
    loss = PrivacyLoss(4, RATE, CLIP)
    weights, sigma = np.eye(2), np.ones(2)
    first, second = np.array([0, 1], np.uint32), np.array([2, 3], np.uint32)
    loss.opened(first, weights, sigma)
    assert loss.mu() == pytest.approx(2.0)
    loss.updated(first)
    loss.opened(second, weights, sigma)
    reach = 2 * RATE * CLIP / 2
    assert loss.mu() == pytest.approx(math.sqrt(4 + 2 * reach**2))


def test_without_noise_nothing_is_bounded() -> None:
    loss = PrivacyLoss(4, RATE, CLIP)
    loss.opened(np.array([1], np.uint32), np.eye(2), np.array([1.0, 0.0]))
    assert epsilon(loss.mu()) == math.inf


@pytest.mark.parametrize("mu", [0.01, 0.3, 1.0, 3.0, 20.0, 49.0, 100.0, 300.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5])
def test_epsilon_agrees_with_dp_accounting(mu: float, delta: float) -> None:
    expected = dp_accounting.get_epsilon_gaussian(1 / mu, delta)
    assert epsilon(mu, delta) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_epsilon_of_nothing() -> None:
    assert epsilon(0.0) == 0.0
