"""Integer noise of an owner, added on the grid before its values are split.

The distribution is Skellam: the difference of two Poisson variables, symmetric, integer, and
closed under addition, so the noise of several owners adds up to noise of the summed variance and
no floating-point pattern tells noise from value (Agarwal, Kairouz, Liu, "The Skellam Mechanism",
arXiv 2110.04995). The random bits are ChaCha20's under a key from the operating system, fresh for
each source; numpy's Poisson sampler on top is exact up to float64 (PTRS, Hörmann 1993), which
is why variances above 2^48 are refused instead of being drawn with a coarse tail.

Adversary: whoever opens the sum. A source leaks nothing but its samples; it is never seeded by
anything that somebody else could know, and its key appears in no repr.
"""

import os
from typing import Final

import numpy as np
import numpy.typing as npt
import randomgen

MAX_VARIANCE_STEPS: Final = float(1 << 48)


class NoiseError(ValueError):
    """No noise of that standard deviation can be drawn."""


class NoiseSource:
    """Skellam noise from a fresh ChaCha20 key."""

    __slots__ = ("_generator",)

    def __init__(self) -> None:
        key = int.from_bytes(os.urandom(32), "little")
        self._generator = np.random.Generator(randomgen.ChaCha(key=key, rounds=20))

    def skellam(self, rows: int, deviations: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Noise of shape (rows, k), int64, column j with standard deviation `deviations[j]`.

        Deviations are in steps of the grid. NoiseError if one is negative, not finite, or too
        large to be sampled well.
        """
        variances = np.square(deviations)
        if not (np.isfinite(variances) & (deviations >= 0)).all():
            raise NoiseError("a standard deviation of noise is negative or not finite")
        if variances.size and variances.max() > MAX_VARIANCE_STEPS:
            raise NoiseError("the noise is too large for the grid: fewer bits after the point")
        halves = np.broadcast_to(variances / 2, (rows, variances.size))
        noise = self._generator.poisson(halves)
        noise -= self._generator.poisson(halves)
        return noise

    def __repr__(self) -> str:
        return "NoiseSource()"
