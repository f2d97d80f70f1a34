"""How much one owner's openings tell of one replaced row, as (epsilon, delta).

Neighbours: two data sets of this owner that differ in ONE row, replaced by any other row. The
observer is the recipient, who chooses rows and gradients adaptively and knows everybody else's
features and noise, so only this owner's own noise counts. Encoded rows x lie in the unit ball
(`mpc/encoder.py`), so a replacement moves a row by D with |D| <= 2.

What the observer sees of round s is X_b W_s + noise, column c with standard deviation sigma_c, and
the replaced row acts on it in two ways:

1. Directly, where the row itself is opened: by D W_s. In units of the noise that is at most
   2 ||W_s / sigma||, the spectral norm of W_s with its columns divided by sigma.
2. Through W. Every step is W -= rate / b * X_b' G, and given what was seen before, G is the same
   for both data sets: it is the observer's own choice. So the W of the two data sets differ by
   exactly -rate * D' sum(g_r / b), summed over the steps that the row took part in, with g_r at
   most `gradient_clip` long: in Frobenius norm at most reach = 2 rate gradient_clip sum(1 / b). Any
   other row x, opened later, moves by at most |x| reach <= reach, and the b rows of one opening
   together by at most sqrt(b) reach / min(sigma). The row itself moves by direct + reach / min
   (sigma).

Clipping the entries of Z brings values together and never apart. Each round is thus a Gaussian
mechanism of squared sensitivity mu_s^2, chosen adaptively, and the rounds compose to
mu^2 = sum mu_s^2 (Gaussian differential privacy: Dong, Roth, Su, arXiv 1905.02383; adaptively
chosen mu: Smith and Thakurta, arXiv 2210.17520). The bound is kept for each row by its own
openings; the worst row's is reported.

Two things the figure leaves out, said here because they are known: the noise is Skellam, whose
loss exceeds the Gaussian's by terms in 1 / (sigma 2^f)^2, about 1e-8 at the 16 bits that the grid
has with noise (arXiv 2110.04995); and sigma, like the encoder's constants, is taken from the
owner's rows and treated as known, although one row moves it by a share in the order of 1 / n.

At noise 0.3 of a column's deviation the epsilon is in the thousands: such noise hinders known
attacks and is no proof of privacy. The figure is shown for that very reason.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.uint32]

DELTA = 1e-5
_DIAMETER = 2.0
_FAR = 25.0


class PrivacyLoss:
    """The running bound of one owner, for each row of one cohort."""

    def __init__(self, rows: int, learning_rate: float, gradient_clip: float) -> None:
        """Nothing of the `rows` rows is opened yet, and none has entered W."""
        self._squared: Floats = np.zeros(rows)
        self._reach: Floats = np.zeros(rows)
        self._step = _DIAMETER * learning_rate * gradient_clip

    def opened(self, indices: Indices, weights: Floats, noise_sd: Floats) -> None:
        """Counts one opening of `indices` under W = `weights` (d, k) with this owner's noise.

        `noise_sd` is absolute, (k,); without noise the bound is infinite from here on. To be called
        before the update that answers this opening.
        """
        if not (noise_sd > 0).all():
            self._squared[indices] = np.inf
            self._squared[self._reach > 0] = np.inf
            return
        direct = _DIAMETER * float(np.linalg.norm(weights / noise_sd, 2))
        through_weights = self._reach / float(noise_sd.min())
        own = direct + through_weights[indices]
        others = len(indices) - np.bincount(indices, minlength=len(self._reach)).clip(max=1)
        self._squared += others * through_weights**2
        self._squared[indices] += own**2

    def updated(self, indices: Indices) -> None:
        """Counts that the rows `indices` have entered W by one step."""
        self._reach[indices] += self._step / len(indices)

    def mu(self) -> float:
        """The Gaussian privacy parameter of the row of which most can be told."""
        return float(np.sqrt(self._squared.max(initial=0.0)))


def epsilon(mu: float, delta: float = DELTA) -> float:
    """The least epsilon so that a mechanism of Gaussian parameter `mu` is (epsilon, delta)-private.

    0 if nothing was opened, infinite without noise. Solves the exact condition of Balle and Wang
    (arXiv 1805.06530) by bisection to one part in 10^12. `dp_accounting` gives the same figure,
    which a test compares; loading it would cost a worker two seconds and 80 MB.
    """
    if mu <= 0:
        return 0.0
    if not math.isfinite(mu):
        return math.inf
    low, high = 0.0, mu * mu / 2 + 40 * mu
    while high - low > 1e-12 * (1 + high):
        middle = (low + high) / 2
        low, high = (middle, high) if _delta(mu, middle) > delta else (low, middle)
    return high


def _delta(mu: float, epsilon_: float) -> float:
    """The delta of a Gaussian mechanism of parameter `mu` at one epsilon."""
    point = epsilon_ / mu - mu / 2
    return math.exp(_log_tail(point)) - math.exp(epsilon_ + _log_tail(point + mu))


def _log_tail(point: float) -> float:
    """The logarithm of the standard normal's mass above `point`."""
    if point < _FAR:
        return math.log(math.erfc(point / math.sqrt(2)) / 2)
    square = point * point  # Laplace's series: erfc would soon be 0
    return (
        -square / 2
        - math.log(point * math.sqrt(2 * math.pi))
        + math.log1p(-1 / square + 3 / square**2 - 15 / square**3)
    )
