"""The owner's side of shared features: W_i, its openings and its plain gradient step.

Adversary: a recipient that chooses rows and gradients as it likes. What bounds its influence is
here: every entry of Z_i is clipped, every row of a gradient is shortened to `gradient_clip`, and W
moves by plain stochastic gradient descent. Momentum or Adam are rejected: with a plain step the
share of one row in W is linear in that row and bounded, which is what `mpc/privacy_loss.py` counts.

What leaves this module is Z_i without noise: the caller adds noise and splits before anything
leaves the process.
"""

import hashlib
import io
import json
import os
import zipfile

import numpy as np
from numpy.typing import NDArray

from mpc.encoder import Encoder, Floats

Indices = NDArray[np.uint32]

MIN_DEVIATION = 2.0**-10
"""The smallest standard deviation that a column is taken to have: noise never vanishes with W."""

_DIGEST_BYTES = 32


class CheckpointError(ValueError):
    """A checkpoint that is damaged or belongs to another lineage; nothing of it was used."""


class OwnFeatures:
    """W_i over the rows of one cohort, which are fixed for the life of the W.

    `rows` are the encoded rows in the common order, float64 (n, d), |row| <= 1. Without `weights`,
    W is drawn from the operating system's randomness, standard normal, float64 (d, width).
    """

    def __init__(
        self,
        rows: Floats,
        width: int,
        *,
        clip: float,
        gradient_clip: float,
        learning_rate: float,
        weights: Floats | None = None,
    ) -> None:
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise ValueError("encoded rows are a table of finite numbers")
        if len(rows) and np.linalg.norm(rows, axis=1).max() > 1 + 1e-9:
            raise ValueError("an encoded row is longer than 1")
        self._rows = rows
        self._centred_moments = np.cov(rows, rowvar=False, bias=True).reshape(
            rows.shape[1], rows.shape[1]
        )
        self.clip = clip
        self.gradient_clip = gradient_clip
        self.learning_rate = learning_rate
        self.weights = _drawn(rows.shape[1], width) if weights is None else weights.copy()
        self.updates = 0
        self.clipped_values = 0
        self.clipped_gradients = 0

    def forward(self, indices: Indices) -> Floats:
        """Z_i of the rows `indices` under the current W, float64 (b, k), entries in +-clip."""
        values = self._rows[indices] @ self.weights
        clipped = np.clip(values, -self.clip, self.clip)
        self.clipped_values += int(np.count_nonzero(clipped != values))
        return clipped

    def column_sd(self) -> Floats:
        """The standard deviation over the cohort of each column of X W, before clipping, (k,).

        At least MIN_DEVIATION. Taken before clipping, because clipping only narrows a column and
        would so weaken the noise that is measured by it.
        """
        variances = np.einsum("dk,de,ek->k", self.weights, self._centred_moments, self.weights)
        deviations: Floats = np.maximum(np.sqrt(np.maximum(variances, 0.0)), MIN_DEVIATION)
        return deviations

    def update(self, indices: Indices, gradient: NDArray[np.floating]) -> int:
        """One plain step on the rows that were opened last; how many gradient rows were shortened.

        `gradient` is (b, k): row r is the derivative of that row's own loss by its z. W changes by
        -learning_rate / b * X_b' G. ValueError, and W as it was, if the shape is wrong or a value
        is not finite.
        """
        if gradient.shape != (len(indices), self.weights.shape[1]):
            raise ValueError(
                f"a gradient of shape {gradient.shape} for {len(indices)} rows of width "
                f"{self.weights.shape[1]}"
            )
        exact = gradient.astype(np.float64)
        if not np.isfinite(exact).all():
            raise ValueError("a gradient holds a value that is not finite")
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        # A zero gradient must not be divided by its length.
        exact *= np.minimum(1.0, self.gradient_clip / np.maximum(lengths, np.finfo(float).tiny))
        self.weights -= self.learning_rate / len(indices) * (self._rows[indices].T @ exact)
        self.updates += 1
        shortened = int(np.count_nonzero(lengths > self.gradient_clip))
        self.clipped_gradients += shortened
        return shortened

    def checkpoint(self, lineage: bytes, encoder: Encoder) -> bytes:
        """Everything that a later session of the same lineage, or scoring, needs of this owner."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            lineage=np.frombuffer(lineage, np.uint8),
            weights=self.weights,
            updates=np.array(self.updates),
            encoder=np.frombuffer(json.dumps(encoder.to_plain()).encode(), np.uint8),
        )
        body = buffer.getvalue()
        return hashlib.sha256(body).digest() + body


def restore(data: bytes, lineage: bytes) -> tuple[Encoder, Floats, int]:
    """(encoder, W, updates) of a checkpoint of this lineage; CheckpointError otherwise."""
    body = data[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != data[:_DIGEST_BYTES]:
        raise CheckpointError("the checkpoint is damaged: its digest does not match")
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as stored:
            found = stored["lineage"].tobytes()
            weights = np.array(stored["weights"], np.float64)
            updates = int(stored["updates"])
            encoder = Encoder.from_plain(json.loads(stored["encoder"].tobytes()))
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"the checkpoint is not one of this release: {error}") from error
    if found != lineage:
        raise CheckpointError("the checkpoint belongs to another lineage of W")
    return encoder, weights, updates


def _drawn(depth: int, width: int) -> Floats:
    seed = int.from_bytes(os.urandom(32), "little")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((depth, width))
