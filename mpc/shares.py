"""Shamir shares of vectors, and the opening that notices who does not fit.

Model: a secret s is hidden as f(0) of a random polynomial f of degree t; member number x (from 1)
holds f(x). The shares of members 1 to t are drawn uniformly, and with s they determine f and so
all others: the same distribution as drawing the coefficients. Up to t members together learn
nothing about s, whatever they compute (Shamir 1979); t+1 answers determine it. All m answers show
up to m-t-1 wrong ones and name up to (m-t-1) // 2 of them (Reed-Solomon distance m-t). With
m = 3, t = 1 one wrong answer is noticed and nobody can be named.

A drawn share is a key stream, so its member is sent the key instead of the share: t of m streams
cost 32 bytes each. What t members hold together is then t keys, or keys and shares that no
polynomial-time party tells from uniform ones: hiding rests on AES-256, as the masks do anyhow.

The points equal those of `mpyc.thresha.np_random_split`, so an MPyC committee computes on these
very shares. A dishonest owner may send points of no polynomial of degree t: that surfaces at the
opening as an inconsistency, of which members are innocent; only a check of the sharing itself
tells the two apart.

Every key is drawn freshly from the operating system, one for each opening and drawn share; no key
is ever derived from data or from another key.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mpc.field import Elements, PrimeField

MAX_MEMBERS: Final = 64
KEY_BYTES: Final = 32
_ZEROS: Final = bytes(1 << 20)


class InconsistentError(Exception):
    """The answers lie on no polynomial of degree t, and the liars cannot be told apart."""


def fresh_key() -> bytes:
    """A key for one drawn share of one opening."""
    return os.urandom(KEY_BYTES)


class KeyStream:
    """Uniform field elements from AES-256-CTR (NIST SP 800-38A) under `key`.

    The same key gives the same elements to whoever asks for them in portions of the same sizes.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def elements(self, field: PrimeField, count: int) -> Elements:
        """The next `count` uniform elements of `field`."""
        return field.uniform(self._words(field, count), lambda n: self._words(field, n))

    def _words(self, field: PrimeField, count: int) -> Elements:
        words = np.empty(count, field.dtype)
        target = words.view(np.uint8).data
        for start in range(0, len(target), len(_ZEROS)):
            piece = target[start : start + len(_ZEROS)]
            self._encryptor.update_into(memoryview(_ZEROS)[: len(piece)], piece)
        return words

    def __repr__(self) -> str:
        return "KeyStream()"


def split(
    field: PrimeField, secret: Elements, drawn: Sequence[Elements], outputs: Sequence[Elements]
) -> None:
    """Share `secret`: `drawn` are the shares of members 1 to t, `outputs` get those of the rest.

    The values of a polynomial of degree t at consecutive points follow from each other by t
    additions each (Newton's backward differences): no product, no inverse. ValueError unless
    1 <= t < m.
    """
    if not 1 <= len(drawn) < len(drawn) + len(outputs) <= MAX_MEMBERS:
        raise ValueError("a sharing needs 1 <= t < m members")
    differences = _backward_differences(field, [secret, *drawn])
    for output in outputs:
        for order in reversed(range(len(drawn))):
            target = output if order == 0 else None
            differences[order] = field.add(differences[order], differences[order + 1], out=target)


def _backward_differences(field: PrimeField, values: Sequence[Elements]) -> list[Elements]:
    """The differences of order 0 to t at the last of t+1 consecutive points."""
    row, found = list(values), [values[-1]]
    while len(row) > 1:
        row = [field.add(after, field.negate(before)) for before, after in pairwise(row)]
        found.append(row[-1])
    return found


@lru_cache(maxsize=4096)
def lagrange(modulus: int, points: tuple[int, ...], at: int) -> tuple[int, ...]:
    """The weights w with f(at) = sum w_i f(points_i) for every f of degree < len(points)."""
    if len(set(points)) != len(points):
        raise ValueError("points of an interpolation must differ")
    weights = []
    for i, x in enumerate(points):
        numerator = denominator = 1
        for j, other in enumerate(points):
            if i != j:
                numerator = numerator * (at - other) % modulus
                denominator = denominator * (x - other) % modulus
        weights.append(numerator * pow(denominator, -1, modulus) % modulus)
    return tuple(weights)


def interpolate(
    field: PrimeField, points: tuple[int, ...], shares: Sequence[Elements], at: int = 0
) -> Elements:
    """The value at `at` of the polynomial of degree < len(points) through the shares."""
    return field.weigh(lagrange(field.modulus, points, at), shares)


def consistent(
    field: PrimeField, points: tuple[int, ...], shares: Sequence[Elements], threshold: int
) -> bool:
    """Whether all shares lie on one polynomial of degree at most `threshold`."""
    basis = threshold + 1
    return all(
        np.array_equal(interpolate(field, points[:basis], shares[:basis], at=x), share)
        for x, share in zip(points[basis:], shares[basis:], strict=True)
    )


def open_shares(
    field: PrimeField, points: tuple[int, ...], shares: Sequence[Elements], threshold: int
) -> tuple[Elements, tuple[int, ...]]:
    """The secret, and the points of the members whose answers were wrong and were left out.

    `points` and `shares` are what arrived: at least t+1. Up to (n-t-1) // 2 wrong answers among
    n are corrected. InconsistentError if there are more wrong answers than can be named; ValueError
    if there are too few answers.
    """
    if len(points) <= threshold:
        raise ValueError(f"{len(points)} answers cannot open a sharing of degree {threshold}")
    if consistent(field, points, shares, threshold):
        basis = threshold + 1
        return interpolate(field, points[:basis], shares[:basis]), ()
    for wrong in range(1, (len(points) - threshold - 1) // 2 + 1):
        for left_out in combinations(range(len(points)), wrong):
            kept = [i for i in range(len(points)) if i not in left_out]
            some_points = tuple(points[i] for i in kept)
            some = [shares[i] for i in kept]
            if consistent(field, some_points, some, threshold):
                basis = threshold + 1
                value = interpolate(field, some_points[:basis], some[:basis])
                return value, tuple(points[i] for i in left_out)
    raise InconsistentError(
        f"the {len(points)} answers lie on no polynomial of degree {threshold}, "
        "and too few are left over to say whose is wrong"
    )
