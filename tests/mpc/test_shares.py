"""Shamir shares: equal to MPyC's, hiding, and loud when a member lies."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.field import M31, M61, PrimeField, field_named
from mpc.shares import (
    InconsistentError,
    KeyStream,
    consistent,
    fresh_key,
    interpolate,
    lagrange,
    open_shares,
    split,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "shares.json").read_text())
SIZES = [(1, 3), (1, 4), (2, 5), (3, 7)]


def fresh(field: PrimeField, secret: np.ndarray, threshold: int, members: int) -> list[np.ndarray]:
    outputs = [np.empty(secret.size, field.dtype) for _ in range(members - threshold)]
    drawn = [KeyStream(fresh_key()).elements(field, secret.size) for _ in range(threshold)]
    split(field, secret, drawn, outputs)
    return [*drawn, *outputs]


@pytest.mark.parametrize(
    "vector", VECTORS, ids=lambda v: f"{v['field']}-{v['threshold']}-{v['members']}"
)
def test_shares_equal_those_of_mpyc(vector):
    field = field_named(vector["field"])

    def array(values: list[str]) -> np.ndarray:
        return np.array([int(v) for v in values], field.dtype)

    theirs = [array(share) for share in vector["shares"]]
    drawn, rest = theirs[: vector["threshold"]], theirs[vector["threshold"] :]
    outputs = [np.empty_like(share) for share in rest]
    split(field, array(vector["secret"]), drawn, outputs)
    assert [output.tolist() for output in outputs] == [share.tolist() for share in rest]
    points = tuple(range(1, vector["threshold"] + 2))
    opened = interpolate(field, points, [*drawn, *outputs][: len(points)])
    assert [str(x) for x in opened.tolist()] == vector["recombined"] == vector["secret"]


@pytest.mark.parametrize("field", [M61, M31], ids=repr)
@pytest.mark.parametrize(("threshold", "members"), SIZES)
def test_sums_of_shares_open_to_sums_from_any_quorum(field, threshold, members):
    rng = np.random.default_rng(7)
    first, second = (rng.integers(0, field.modulus, 50).astype(field.dtype) for _ in range(2))
    total = [
        field.add(a, b)
        for a, b in zip(
            fresh(field, first, threshold, members),
            fresh(field, second, threshold, members),
            strict=True,
        )
    ]
    want = field.add(first, second)
    for quorum in combinations(range(members), threshold + 1):
        points = tuple(i + 1 for i in quorum)
        assert np.array_equal(interpolate(field, points, [total[i] for i in quorum]), want)
    value, wrong = open_shares(field, tuple(range(1, members + 1)), total, threshold)
    assert np.array_equal(value, want)
    assert wrong == ()


@pytest.mark.parametrize("field", [M61, M31], ids=repr)
@given(word=st.integers(0, 19), member=st.integers(0, 2), offset=st.integers(1, 2**31 - 2))
def test_three_members_notice_one_changed_word(field, word, member, offset):
    answers = fresh(field, np.arange(20, dtype=field.dtype), 1, 3)
    answers[member][word] = (int(answers[member][word]) + offset) % field.modulus
    assert not consistent(field, (1, 2, 3), answers, 1)
    with pytest.raises(InconsistentError):
        open_shares(field, (1, 2, 3), answers, 1)


@pytest.mark.parametrize(("threshold", "members", "liars"), [(1, 4, 1), (2, 5, 1), (1, 6, 2)])
def test_liars_are_named_where_the_committee_is_large_enough(threshold, members, liars):
    secret = np.arange(9, dtype=M61.dtype)
    points = tuple(range(1, members + 1))
    for wrong in combinations(range(members), liars):
        answers = fresh(M61, secret, threshold, members)
        for liar in wrong:
            answers[liar][liar % 9] ^= np.uint64(1 + liar)
        value, named = open_shares(M61, points, answers, threshold)
        assert np.array_equal(value, secret)
        assert named == tuple(i + 1 for i in wrong)


def test_too_few_answers_are_an_error():
    answers = fresh(M61, np.arange(3, dtype=M61.dtype), 2, 5)
    with pytest.raises(ValueError, match="cannot open"):
        open_shares(M61, (1, 2), answers[:2], 2)


def test_t_shares_are_uniform_whatever_the_secret():
    for secret in (0, M31.modulus - 1):
        for share in fresh(M31, np.full(40_000, secret, M31.dtype), 1, 3):
            histogram = np.histogram(share, bins=20, range=(0, M31.modulus))[0]
            chi_square = float(((histogram - 2000.0) ** 2 / 2000).sum())
            assert chi_square < 70  # 19 degrees of freedom: far beyond one in a million


def test_two_splits_of_one_secret_share_no_masks():
    secret = np.zeros(1000, M61.dtype)
    first, second = fresh(M61, secret, 1, 3), fresh(M61, secret, 1, 3)
    assert not np.any(first[0] == second[0])


def test_impossible_sharings_are_refused():
    empty = np.empty(0, M61.dtype)
    for threshold, members in ((0, 3), (3, 3), (1, 65)):
        with pytest.raises(ValueError, match="t < m"):
            split(M61, empty, [empty] * threshold, [empty] * (members - threshold))
    with pytest.raises(ValueError, match="differ"):
        lagrange(M61.modulus, (1, 1), 0)


def test_long_vectors_span_several_key_stream_blocks():
    key = fresh_key()
    whole = KeyStream(key).elements(M61, 300_000)
    assert np.array_equal(whole, KeyStream(key).elements(M61, 300_000))
    assert KeyStream(key).elements(M61, 0).size == 0
