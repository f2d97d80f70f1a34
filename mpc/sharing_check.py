"""Whether a contributor's share streams lie on polynomials of degree t: the algebra of the check.

Adversary: contributors that hand out points of no polynomial of degree t (the opening then fails,
and innocent members stand accused of it), members that answer wrongly, up to t of them pooled with
the recipient. Threshold: t of m members learn nothing that they did not know.

Once every stream of a stretch has been sent, its contributor shares k fresh uniform mask elements
and commits to each member's stream, masks included. The members commit to nonces and reveal them
when all commitments are known; the hash of everything said gives k random weights for every
element, k = 2 in GF(2^61-1) and 4 in GF(2^31-1). Each member combines its stream by the weights,
adds the masks, and opens the k sums TO THE RECIPIENT; the contributor opens the k sums of ALL m
streams to it. If a committed stream is off in a single word, its sums lie on no polynomial of
degree t but with probability p^-k, 2^-122 or 2^-124.

What leaks: the k sums of a contributor are its masks plus something, so they are uniform and say
nothing; masks are used once. That needs all honest parties to combine by the SAME weights (two
sets of sums under one mask would give a linear equation of Z_i): see `mpc.check_board`.

What can be named, at m = 3 as at any m:
- a contributor ALONE if the sums that it opens are of no polynomial of degree t, or differ from a
  member's and the member then shows a stream that is the one committed and has the member's sums;
- a member ALONE if it opens other sums and cannot show such a stream, or another nonce than it had
  committed to. A member shows a stream only to a contributor's signed lie about it: then the
  contributor is dishonest, or the member is, and the adversary had the stream already;
- a PAIR if a member says that it was sent other bytes than were committed to: nobody else has
  seen them. More than t such complaints name the contributor alone.
A check that passes clears every contributor: if the sums still do not fit together it was a member,
named where m >= t + 3, and at m = 3 one of the three.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpc.field import Elements, PrimeField
from mpc.shares import KeyStream, consistent, fresh_key, split

_REPEATS: Final = {"m61": 2, "m31": 4}
_LIMBS: Final = {"m61": (3, 21), "m31": (2, 16)}
"""How many pieces of how many bits an element is cut into, to be multiplied in float64."""
_EXACT_BITS: Final = 53

Floats = NDArray[np.float64]


def repeats(field: PrimeField) -> int:
    """How many random sums are opened of each stream, k."""
    return _REPEATS[field.name]


class Weights:
    """The random weights that a `challenge` of 32 bytes gives to the elements of a stretch."""

    def __init__(self, field: PrimeField, challenge: bytes) -> None:
        self._field, self._stream = field, KeyStream(challenge)

    def following(self, count: int) -> Floats:
        """The limbs of the k weights of the next `count` elements, float64 (k limbs, count)."""
        drawn = [self._stream.elements(self._field, count) for _ in range(repeats(self._field))]
        return np.concatenate([_limbs(self._field, one) for one in drawn])


def _limbs(field: PrimeField, values: Elements) -> Floats:
    """The limbs of `values`, lowest first, as exact float64 (limbs, n)."""
    pieces, bits = _LIMBS[field.name]
    mask = values.dtype.type((1 << bits) - 1)
    limbs = np.empty((pieces, values.size))
    for place in range(pieces):
        limbs[place] = (values >> values.dtype.type(place * bits)) & mask
    return limbs


def weighted_sums(field: PrimeField, weights: Floats, values: Elements) -> list[int]:
    """The k sums of weight times value modulo p, of one chunk.

    Products of limbs are added up by BLAS in blocks so short that a float64 holds them exactly.
    """
    pieces, bits = _LIMBS[field.name]
    block = 1 << (_EXACT_BITS - 2 * bits)
    limbs = _limbs(field, values)
    whole = values.size - values.size % block
    parts = np.zeros((len(weights), pieces), np.uint64)
    if whole:
        left = weights[:, :whole].reshape(len(weights), -1, block).transpose(1, 0, 2)
        right = limbs[:, :whole].reshape(pieces, -1, block).transpose(1, 2, 0)
        parts += (left @ right).astype(np.uint64).sum(axis=0)
    parts += (weights[:, whole:] @ limbs[:, whole:].T).astype(np.uint64)
    return [
        sum(
            int(parts[start + a, b]) << (bits * (a + b))
            for a in range(pieces)
            for b in range(pieces)
        )
        % field.modulus
        for start in range(0, len(weights), pieces)
    ]


def combine(
    field: PrimeField,
    challenge: bytes,
    chunks: Iterable[Sequence[Elements]],
    masks: Sequence[Elements],
) -> list[Elements]:
    """The k masked sums of each stream: `chunks` hold one array for every stream, in order.

    `masks` are the k mask elements of every stream. All parties cut a stretch into chunks alike.
    """
    weights = Weights(field, challenge)
    sums = [[int(mask) for mask in stream] for stream in masks]
    for chunk in chunks:
        chunk_weights = weights.following(chunk[0].size)
        for total, values in zip(sums, chunk, strict=True):
            for place, value in enumerate(weighted_sums(field, chunk_weights, values)):
                total[place] = (total[place] + value) % field.modulus
    return [np.array(total, field.dtype) for total in sums]


def extended(field: PrimeField, base: Sequence[Elements], members: int) -> list[Elements]:
    """The shares of all members, from the secret and the shares of members 1 to t in `base`."""
    secret, *drawn = base
    outputs = [np.empty(secret.size, field.dtype) for _ in range(members - len(drawn))]
    split(field, secret, drawn, outputs)
    return [*drawn, *outputs]


def fresh_masks(field: PrimeField, threshold: int) -> list[Elements]:
    """A fresh sharing of k uniform elements: the secret and the shares of members 1 to t."""
    return [KeyStream(fresh_key()).elements(field, repeats(field)) for _ in range(1 + threshold)]


def first_difference(
    field: PrimeField,
    threshold: int,
    claimed: Sequence[Elements],
    answered: Sequence[Elements | None],
) -> int | None:
    """The place of the first member whose sums are not those that the contributor claims for it.

    None stands for a member that does not answer. -1 if the contributor's own claims for all
    members are of no polynomial of degree t; None if everything fits.
    """
    if not consistent(field, tuple(range(1, len(claimed) + 1)), claimed, threshold):
        return -1
    for place, (one, other) in enumerate(zip(claimed, answered, strict=True)):
        if other is not None and not np.array_equal(one, other):
            return place
    return None
