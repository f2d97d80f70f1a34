"""The grid: error bounds, clipping, and the refusal of everything that could wrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.field import M31, M61
from mpc.fixedpoint import Grid, NotANumberError, grid_for

FIELDS = [M61, M31]


@pytest.mark.parametrize("field", FIELDS, ids=repr)
@given(
    data=st.data(),
    contributors=st.integers(1, 5),
)
def test_a_sum_is_off_by_half_a_step_for_each_contributor(field, contributors, data):
    grid = grid_for(field, 8.0, contributors, noisy=False)
    reals = st.floats(-8, 8, allow_nan=False, width=64)
    terms = [
        np.array(data.draw(st.lists(reals, min_size=4, max_size=4))) for _ in range(contributors)
    ]
    total = np.zeros(4, field.dtype)
    for term in terms:
        steps, clipped = grid.quantise(term)
        assert clipped == 0
        field.add_into(total, grid.elements(steps))
    bound = contributors * 2.0 ** -(grid.fraction_bits + 1)
    assert np.abs(grid.reals(total) - sum(terms)).max() <= bound + 1e-14


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad):
    grid = grid_for(M61, 8.0, 3, noisy=False)
    with pytest.raises(NotANumberError):
        grid.quantise(np.array([[0.0, bad]]))


def test_values_beyond_the_clip_are_clipped_and_counted():
    grid = grid_for(M61, 2.0, 3, noisy=False)
    steps, clipped = grid.quantise(np.array([5.0, -1e300, 2.0, -2.0, 0.5]))
    assert clipped == 2
    assert grid.reals(grid.elements(steps)).tolist() == [2.0, -2.0, 2.0, -2.0, 0.5]


def test_a_grid_that_could_overflow_cannot_be_made():
    with pytest.raises(ValueError, match="overflow"):
        Grid(M31, 20, 8.0, 128)
    Grid(M31, 20, 8.0, 100)
    with pytest.raises(ValueError, match="do not fit"):
        grid_for(M31, 1024.0, 2**20, noisy=True)


@pytest.mark.parametrize("field", FIELDS, ids=repr)
def test_noise_beyond_the_field_is_clamped_and_never_wraps(field):
    grid = grid_for(field, 8.0, 3, noisy=True)
    steps, _ = grid.quantise(np.array([8.0, -8.0]))
    huge = np.array([field.modulus // 2, -(field.modulus // 2)], np.int64)
    total = np.zeros(2, field.dtype)
    for _ in range(3):
        field.add_into(total, grid.elements(steps, huge))
    high, low = grid.reals(total)
    assert high > 8
    assert low < -8


def test_the_default_grids():
    assert grid_for(M61, 8.0, 3, noisy=False).fraction_bits == 24
    assert grid_for(M31, 8.0, 3, noisy=False).fraction_bits == 20
    assert grid_for(M61, 8.0, 3, noisy=True).fraction_bits == 16
    assert grid_for(M31, 8.0, 3, noisy=True).fraction_bits == 16
    assert grid_for(M31, 8.0, 127, noisy=False).fraction_bits == 19
