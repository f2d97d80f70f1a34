"""Reals as integers on a grid, and back: what is rounded, clipped and bounded before a share.

A real z stands as rint(z 2^f). A field sum wraps around SILENTLY, so nothing enters it whose sum
over all contributors could pass half the modulus: entries are clipped to +-clip, noise is clamped
to what the field leaves free, and a grid that could overflow cannot be made.

The error of a sum of N contributors is at most N 2^-(f+1), beside float64's own rounding.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mpc.field import Elements, PrimeField

CLEAN_FRACTION_BITS: Final = {"m61": 24, "m31": 20}
"""Without noise: as fine as each field carries a few hundred sums of entries around one."""

NOISY_FRACTION_BITS: Final = 16
"""With noise: 2^-17 is far below it, and a Poisson sampler in float64 is exact to about 1e-6."""


class NotANumberError(ValueError):
    """A value to be shared is NaN or infinite; nothing was encoded."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Fixed point with `fraction_bits` after the point, entries clipped to +-`clip`.

    `contributors` is the most terms that are ever added. Made only if their sum fits the field:
    contributors * clip * 2^fraction_bits < p / 2.
    """

    field: PrimeField
    fraction_bits: int
    clip: float
    contributors: int

    def __post_init__(self) -> None:
        if not 0 < self.clip < float("inf") or self.contributors < 1:
            raise ValueError("a grid needs a positive finite clip and at least one contributor")
        if self.contributors * (int(np.ceil(self.clip * self.scale)) + 1) > self.field.modulus // 2:
            raise ValueError(
                f"{self.contributors} contributors with entries up to {self.clip} at "
                f"{self.fraction_bits} bits after the point overflow {self.field!r}"
            )

    @property
    def scale(self) -> int:
        """How many steps of the grid make one."""
        return 1 << self.fraction_bits

    @property
    def clip_steps(self) -> int:
        """The largest magnitude of an entry, in steps of the grid."""
        return int(self.clip * self.scale)

    @property
    def steps_each(self) -> int:
        """The largest magnitude of one contributor's entry and noise together, in steps.

        All contributors at this bound still add up to less than half the modulus.
        """
        return self.field.modulus // 2 // self.contributors

    def quantise(self, values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], int]:
        """Reals of any shape on the grid, and how many of them were clipped.

        NotANumberError if one is NaN or infinite.
        """
        with np.errstate(over="ignore"):
            steps = values * float(self.scale)  # exact: a power of two
        np.rint(steps, out=steps)
        bound, clipped = float(self.clip_steps), 0
        # NaN passes through both extremes, so one comparison clears the usual case.
        if steps.size and not (steps.max() <= bound and steps.min() >= -bound):
            if not np.isfinite(values).all():
                raise NotANumberError("a value to be shared is NaN or infinite")
            clipped = int(np.count_nonzero(np.abs(steps) > bound))
            np.clip(steps, -bound, bound, out=steps)
        return steps.astype(np.int64), clipped

    def elements(
        self, steps: npt.NDArray[np.int64], noise: npt.NDArray[np.int64] | None = None
    ) -> Elements:
        """Integers on the grid, with the owner's noise added, as flat field elements.

        The sum is clamped to +-`steps_each`, where only the far tail of the noise ever is: it
        lies beyond what the field can carry, and a clamp is post-processing of a noisy value.
        """
        if noise is None:
            return self.field.from_integers(steps.ravel())
        noisy = steps + noise
        bound = self.steps_each
        if noisy.size and (int(noisy.max()) > bound or int(noisy.min()) < -bound):
            np.clip(noisy, -bound, bound, out=noisy)
        return self.field.lift(noisy.ravel())

    def reals(self, elements: Elements) -> npt.NDArray[np.float64]:
        """The reals that a sum of elements stands for, float64, flat."""
        reals = self.field.to_integers(elements).astype(np.float64)
        reals *= 1.0 / self.scale  # exact: a power of two
        return reals


def grid_for(field: PrimeField, clip: float, contributors: int, *, noisy: bool) -> Grid:
    """The grid that every party of a session derives alike from the roster.

    The usual number of bits after the point, or fewer where `contributors` and `clip` leave the
    field no room. ValueError if not even one bit is left.
    """
    usual = NOISY_FRACTION_BITS if noisy else CLEAN_FRACTION_BITS[field.name]
    headroom = 8 if noisy else 1  # the noise may be several times the entry
    room = field.modulus // 2 // (contributors * headroom * (int(np.ceil(clip)) + 1))
    bits = min(usual, room.bit_length() - 1)
    if bits < 1:
        raise ValueError(f"{contributors} contributors with clip {clip} do not fit {field!r}")
    return Grid(field, bits, clip, contributors)
