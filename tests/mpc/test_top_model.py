import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.top_model import TopModel, auc, batches, split_rows


def loss(model: TopModel, shared: np.ndarray, labels: np.ndarray) -> np.ndarray:
    scores = model.predict(shared)
    return -(labels * np.log(scores) + (1 - labels) * np.log(1 - scores))


def test_the_gradient_handed_out_agrees_with_finite_differences() -> None:
    random = np.random.default_rng(1)
    shared, labels = random.standard_normal((6, 3)), np.array([0.0, 1, 1, 0, 1, 0])
    model, step = TopModel(3, 5), 1e-6
    numeric = np.zeros_like(shared)
    for column in range(3):
        move = np.zeros(3)
        move[column] = step
        up, down = loss(model, shared + move, labels), loss(model, shared - move, labels)
        numeric[:, column] = (up - down) / (2 * step)
    before = loss(model, shared, labels).mean()
    mean, gradient = model.step(shared, labels)
    assert mean == pytest.approx(before)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6)


def test_the_weights_move_along_the_true_gradient() -> None:
    """Adam's first step is the sign of the gradient times the learning rate."""
    random = np.random.default_rng(2)
    shared, labels = random.standard_normal((8, 2)), np.array([0.0, 1, 1, 0, 1, 0, 1, 1])
    model = TopModel(2, 7)
    start, epsilon = [value.copy() for value in model.parameters], 1e-6
    signs = []
    for value in model.parameters:
        sign = np.zeros_like(value)
        for place in np.ndindex(value.shape):
            value[place] += epsilon
            up = loss(model, shared, labels).mean()
            value[place] -= 2 * epsilon
            sign[place] = np.sign(up - loss(model, shared, labels).mean())
            value[place] += epsilon
        signs.append(sign)
    model.step(shared, labels)
    for first, after, sign in zip(start, model.parameters, signs, strict=True):
        np.testing.assert_allclose(first - after, model.learning_rate * sign, rtol=1e-3)


def test_it_learns_what_is_there() -> None:
    random = np.random.default_rng(3)
    shared = random.standard_normal((2000, 2))
    labels = (shared[:, 0] * shared[:, 1] > 0).astype(float)  # no line separates these
    model = TopModel(2, 3)
    for epoch in range(40):
        for rows in batches(np.arange(2000, dtype=np.uint32), 32, 1, epoch):
            model.step(shared[rows], labels[rows])
    assert auc(model.predict(shared), labels) > 0.97


def test_a_stored_model_predicts_the_same() -> None:
    model = TopModel(2, 4)
    shared = np.random.default_rng(4).standard_normal((5, 2))
    again = TopModel.from_arrays(model.to_arrays())
    np.testing.assert_array_equal(model.predict(shared), again.predict(shared))


@given(st.integers(1, 400), st.integers(16, 64), st.integers(0, 3))
def test_no_mini_batch_is_smaller_than_asked(rows: int, size: int, epoch: int) -> None:
    parts = batches(np.arange(rows, dtype=np.uint32), size, 9, epoch)
    assert sorted(np.concatenate(parts)) == list(range(rows))
    assert min(map(len, parts)) >= min(size, rows)


def test_a_split_holds_out_its_share_and_depends_on_the_seed_alone() -> None:
    train, held_out = split_rows(100, 0.3, 1)
    assert (len(train), len(held_out)) == (70, 30)
    assert sorted([*train, *held_out]) == list(range(100))
    np.testing.assert_array_equal(train, split_rows(100, 0.3, 1)[0])
    assert list(train) != list(split_rows(100, 0.3, 2)[0])


def test_auc_of_known_orders() -> None:
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    assert auc(np.array([0.1, 0.2, 0.3, 0.4]), labels) == 1.0
    assert auc(np.array([0.4, 0.3, 0.2, 0.1]), labels) == 0.0
    assert auc(np.array([0.1, 0.4, 0.3, 0.5]), labels) == 0.75
    assert auc(np.zeros(4), labels) == 0.5
    with pytest.raises(ValueError, match="both labels"):
        auc(np.zeros(2), np.zeros(2))
