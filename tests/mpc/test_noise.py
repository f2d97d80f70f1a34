"""Skellam noise: its moments, its freshness, what it refuses."""

import numpy as np
import pytest

from mpc.noise import NoiseSource


def test_each_column_has_its_own_deviation():
    deviations = np.array([0.0, 0.5, 30.0, 20_000.0])
    noise = NoiseSource().skellam(100_000, deviations)
    assert noise.shape == (100_000, 4)
    assert noise.dtype == np.int64
    assert not noise[:, 0].any()
    measured = noise.std(axis=0)[1:] / deviations[1:]
    assert np.abs(measured - 1).max() < 0.02  # ten standard errors of the estimate
    assert np.abs(noise.mean(axis=0)[1:] / deviations[1:]).max() < 0.03


def test_the_tail_is_that_of_a_bell():
    noise = NoiseSource().skellam(200_000, np.array([1000.0]))[:, 0] / 1000.0
    for limit, share in ((1.0, 0.3173), (2.0, 0.0455), (3.0, 0.0027)):
        assert abs(np.mean(np.abs(noise) > limit) - share) < 0.006


def test_two_sources_never_agree():
    deviations = np.full(8, 1e6)
    first, second = NoiseSource().skellam(50, deviations), NoiseSource().skellam(50, deviations)
    assert np.count_nonzero(first == second) < 4


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, 1e9])
def test_an_impossible_deviation_is_refused(bad):
    with pytest.raises(ValueError, match="noise"):
        NoiseSource().skellam(2, np.array([1.0, bad]))


def test_the_key_is_not_shown():
    assert repr(NoiseSource()) == "NoiseSource()"
