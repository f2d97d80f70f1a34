import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.encoder import ColumnError, Encoder
from mpc.features import MIN_DEVIATION, CheckpointError, OwnFeatures, restore

NAN = float("nan")
COLUMNS = {
    "income": np.array([1.0, 2.0, 3.0, NAN, 1000.0]),
    "job": np.array(["a", "b", None, "a", "b"], dtype=object),
    "age": np.array([30.0, 40.0, 50.0, 60.0, 70.0]),
}


def features(rows: int = 40, depth: int = 5, width: int = 2) -> OwnFeatures:
    random = np.random.default_rng(3)
    table = random.standard_normal((rows, depth))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return OwnFeatures(table, width, clip=8.0, gradient_clip=0.3, learning_rate=6.0)


def test_encoded_rows_have_one_column_for_each_meaning() -> None:
    encoder = Encoder.fit(COLUMNS)
    rows = encoder.transform(COLUMNS)
    assert rows.shape == (5, encoder.width) == (5, 2 + 3 + 1)
    assert list(rows[:, 1] > 0) == [False, False, False, True, False]
    assert np.count_nonzero(rows[:, 2:5]) == 5


number = st.one_of(st.just(NAN), st.floats(-1e12, 1e12))


@given(st.lists(st.tuples(number, st.sampled_from(["a", "b", "new", None])), min_size=1))
def test_every_row_lies_in_the_unit_ball_whatever_stands_there(
    rows: list[tuple[float, str | None]],
) -> None:
    encoder = Encoder.fit(COLUMNS)
    count = len(rows)
    encoded = encoder.transform(
        {
            "income": np.array([row[0] for row in rows]),
            "job": np.array([row[1] for row in rows], dtype=object),
            "age": np.full(count, -1e9),
        }
    )
    assert np.linalg.norm(encoded, axis=1).max() <= 1 + 1e-12
    assert np.isfinite(encoded).all()


def test_what_is_clipped_is_counted() -> None:
    encoder = Encoder.fit(COLUMNS)
    encoder.transform(COLUMNS | {"age": np.array([1e6, 30.0, 30.0, 30.0, 30.0])})
    assert encoder.clipped_numbers == 1


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (np.full(3, NAN), "no value"),
        (np.full(3, 2.0), "same number"),
        (np.array(["x", "x"], dtype=object), "same category"),
        (np.array([None, None], dtype=object), "no value"),
        (np.array([f"c{n}" for n in range(65)], dtype=object), "more than 64"),
    ],
)
def test_a_column_that_tells_nothing_is_refused(column: np.ndarray, sentence: str) -> None:
    with pytest.raises(ColumnError, match=f"'x'.*{sentence}"):
        Encoder.fit({"x": column})


def test_an_encoder_survives_its_plain_form() -> None:
    encoder = Encoder.fit(COLUMNS)
    again = Encoder.from_plain(encoder.to_plain())
    np.testing.assert_array_equal(encoder.transform(COLUMNS), again.transform(COLUMNS))


def test_forward_and_deviation_are_those_of_x_w() -> None:
    owner = features()
    every = np.arange(40, dtype=np.uint32)
    shared = owner.forward(every)
    np.testing.assert_allclose(shared.std(axis=0), owner.column_sd(), rtol=1e-9)
    owner.clip = 0.1
    assert np.abs(owner.forward(every)).max() == 0.1
    assert owner.clipped_values > 0


def test_a_vanishing_w_keeps_a_deviation() -> None:
    owner = features()
    owner.weights[:] = 0
    np.testing.assert_array_equal(owner.column_sd(), [MIN_DEVIATION] * 2)


def test_an_update_is_the_plain_clipped_gradient_step() -> None:
    owner = features()
    before = owner.weights.copy()
    rows = np.array([1, 7, 9], np.uint32)
    gradient = np.array([[0.1, 0.0], [300.0, 400.0], [0.0, 0.0]], np.float32)
    assert owner.update(rows, gradient) == 1
    clipped = np.array([[0.1, 0.0], [0.18, 0.24], [0.0, 0.0]])
    np.testing.assert_allclose(
        owner.weights, before - 2.0 * owner._rows[rows].T @ clipped, atol=1e-7
    )


@pytest.mark.parametrize(
    "gradient", [np.zeros((2, 2)), np.zeros((3, 1)), np.full((3, 2), NAN), np.full((3, 2), np.inf)]
)
def test_a_gradient_that_does_not_fit_changes_nothing(gradient: np.ndarray) -> None:
    owner = features()
    before = owner.weights.copy()
    with pytest.raises(ValueError, match="gradient"):
        owner.update(np.array([1, 2, 3], np.uint32), gradient)
    np.testing.assert_array_equal(owner.weights, before)


def test_rows_outside_the_unit_ball_are_refused() -> None:
    with pytest.raises(ValueError, match="longer than 1"):
        OwnFeatures(np.full((2, 2), 1.0), 1, clip=1, gradient_clip=1, learning_rate=1)


def test_two_owners_never_start_from_the_same_w() -> None:
    assert not np.array_equal(features().weights, features().weights)


def test_a_checkpoint_is_of_one_lineage_and_notices_damage() -> None:
    owner = features()
    data = owner.checkpoint(b"l" * 32, Encoder.fit(COLUMNS))
    encoder, weights, updates = restore(data, b"l" * 32)
    np.testing.assert_array_equal(weights, owner.weights)
    assert (encoder.width, updates) == (6, 0)
    with pytest.raises(CheckpointError, match="another lineage"):
        restore(data, b"m" * 32)
    with pytest.raises(CheckpointError, match="damaged"):
        restore(data[:-1] + bytes([data[-1] ^ 1]), b"l" * 32)
    with pytest.raises(CheckpointError, match="damaged"):
        restore(b"", b"l" * 32)
