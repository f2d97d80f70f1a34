"""The algebra of the check: sound sharings pass, one wrong word does not, and nothing leaks."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.field import M31, M61, PrimeField
from mpc.shares import KeyStream, interpolate
from mpc.sharing_check import (
    Weights,
    combine,
    extended,
    first_difference,
    fresh_masks,
    repeats,
    weighted_sums,
)

FIELDS = [M61, M31]
SIZES = [(1, 3), (1, 4), (2, 5), (3, 7)]
CHUNKS = (2050, 37)
CHALLENGE = bytes(range(32))


def uniform(field: PrimeField, count: int, seed: int) -> np.ndarray:
    return KeyStream(seed.to_bytes(32, "big")).elements(field, count)


def shared(field: PrimeField, threshold: int, members: int, seed: int = 0) -> list[list]:
    """Chunks of the streams of all members."""
    return [
        extended(field, [uniform(field, count, seed + i) for i in range(1 + threshold)], members)
        for count in CHUNKS
    ]


def masks(field: PrimeField, threshold: int, members: int) -> list:
    return extended(field, fresh_masks(field, threshold), members)


@pytest.mark.parametrize("field", FIELDS, ids=repr)
def test_weighted_sums_are_those_of_plain_integers(field):
    for count in (0, 1, 2047, 2048, 2049, 65_536):
        values = uniform(field, count, 3)
        values[: count // 2] = field.modulus - 1
        stream = KeyStream(CHALLENGE)
        weights = [stream.elements(field, count) for _ in range(repeats(field))]
        want = [
            sum(a * b for a, b in zip(w.tolist(), values.tolist(), strict=True)) % field.modulus
            for w in weights
        ]
        limbs = Weights(field, CHALLENGE).following(count)
        assert weighted_sums(field, limbs, values) == want


@pytest.mark.parametrize("field", FIELDS, ids=repr)
@pytest.mark.parametrize(("threshold", "members"), SIZES)
def test_sound_sharings_pass_whoever_combines_them(field, threshold, members):
    """The contributor combines secret and drawn shares, each member its own stream."""
    chunks, own_masks = shared(field, threshold, members), fresh_masks(field, threshold)
    all_masks = extended(field, own_masks, members)
    answered = [
        combine(field, CHALLENGE, [[chunk[j]] for chunk in chunks], [all_masks[j]])[0]
        for j in range(members)
    ]
    points = tuple(range(1, threshold + 2))
    secrets = [interpolate(field, points, chunk[: threshold + 1]) for chunk in chunks]
    base = [[secret, *chunk[:threshold]] for secret, chunk in zip(secrets, chunks, strict=True)]
    claimed = extended(field, combine(field, CHALLENGE, base, own_masks), members)
    assert first_difference(field, threshold, claimed, answered) is None


@settings(max_examples=50)
@given(
    size=st.sampled_from(SIZES),
    compact=st.booleans(),
    member=st.integers(0, 6),
    word=st.integers(0, sum(CHUNKS) - 1),
    offset=st.integers(1, 2**31 - 2),
    challenge=st.binary(min_size=32, max_size=32),
)
def test_one_changed_word_of_any_stream_is_caught(size, compact, member, word, offset, challenge):
    """It would pass with probability p^-k: never here."""
    threshold, members = size
    field = M31 if compact else M61
    chunks = shared(field, threshold, members)
    place = 0 if word < CHUNKS[0] else 1
    stream = chunks[place][member % members]
    word -= place * CHUNKS[0]
    stream[word] = (int(stream[word]) + offset) % field.modulus
    sums = combine(field, challenge, chunks, masks(field, threshold, members))
    assert first_difference(field, threshold, sums, sums) == -1


@given(member=st.integers(0, 2), place=st.integers(0, 1), offset=st.integers(1, 2**61 - 2))
def test_changed_sums_of_a_member_are_told_from_the_contributors(member, place, offset):
    claimed = combine(M61, CHALLENGE, shared(M61, 1, 3), masks(M61, 1, 3))
    answered = [one.copy() for one in claimed]
    answered[member][place] = (int(answered[member][place]) + offset) % M61.modulus
    assert first_difference(M61, 1, claimed, answered) == member
    assert first_difference(M61, 1, answered, claimed) == -1


def test_weights_of_another_challenge_are_others():
    one, other = (Weights(M61, bytes([n]) * 32).following(100) for n in range(2))
    assert not (one == other).all(axis=1).any()


def test_opened_sums_say_nothing_of_what_was_shared():
    """The sums of two opposite secrets are uniform alike: the masks hide them."""
    for value in (0, M31.modulus - 1):
        opened = []
        for seed in range(2000):
            base = [np.full(4, value, M31.dtype), uniform(M31, 4, seed)]
            sums = combine(M31, CHALLENGE, [base], fresh_masks(M31, 1))
            opened.extend(sums[0].tolist())
        histogram = np.histogram(opened, bins=20, range=(0, M31.modulus))[0]
        chi_square = float(((histogram - 400.0) ** 2 / 400).sum())
        assert chi_square < 70  # 19 degrees of freedom: far beyond one in a million


@pytest.mark.parametrize("field", FIELDS, ids=repr)
def test_a_check_keeps_up_with_the_wire(field):
    """Products of weight and element: hundreds of millions a second when nothing else runs."""
    values = uniform(field, 65_536, 1)
    weights = Weights(field, CHALLENGE).following(values.size)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        weighted_sums(field, weights, values)
        best = min(best, time.perf_counter() - began)
    assert repeats(field) * values.size / best > 2e7  # a tenth: the machine is shared
