import hashlib
from typing import get_args

import numpy as np
import pytest
import rbcl
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.intersection import (
    CHUNK_POINTS,
    POINT_BYTES,
    CohortTooSmall,
    Masker,
    common,
)
from protocol.errors import RemoteProtocolError
from protocol.identifiers import IdentifierRule, normalise, row_keys, rows_hash

PARTIES = ("a", "b", "c")
small_sets = st.sets(st.integers(0, 30).map(lambda n: f"id-{n}"), max_size=12)


def align(own: dict[str, list[str]], floor: int = 0) -> dict[str, list[str]]:
    """What each party takes for the common identifiers, in the common order."""
    maskers = {party: Masker(b"session") for party in own}
    lists = {}
    for party, ids in own.items():
        points = b"".join(maskers[party].hashed(ids))
        for other in PARTIES:
            if other != party:
                points = maskers[other].mask(points)
        lists[party] = points
    return {
        party: [own[party][row] for row in maskers[party].own_rows(positions)]
        for party, positions in common(lists, floor).items()
    }


@settings(max_examples=20, deadline=None)
@given(st.lists(small_sets, min_size=3, max_size=3))
def test_everybody_ends_with_the_common_identifiers_in_one_order(sets: list[set[str]]) -> None:
    found = align({party: sorted(ids) for party, ids in zip(PARTIES, sets, strict=True)})
    assert set(found["a"]) == sets[0] & sets[1] & sets[2]
    assert found["a"] == found["b"] == found["c"]


def test_a_list_does_not_leave_in_the_order_of_the_file() -> None:
    ids = [f"id-{n}" for n in range(64)]
    masker = Masker(b"session")
    b"".join(masker.hashed(ids))
    order = masker.own_rows(np.arange(64, dtype=np.uint32))
    assert sorted(order) == list(range(64))
    assert list(order) != list(range(64))


def test_two_sessions_and_two_domains_share_no_point() -> None:
    assert b"".join(Masker(b"x").hashed(["one"])) != b"".join(Masker(b"x").hashed(["one"]))
    assert Masker(b"x")._digest("one") != Masker(b"y")._digest("one")


def test_an_identifier_that_stands_twice_is_refused_at_home() -> None:
    with pytest.raises(ValueError, match="twice"):
        b"".join(Masker(b"x").hashed(["one", "two", "one"]))


def test_a_long_list_comes_in_chunks_and_a_wrong_entry_is_named_by_its_place_in_the_list() -> None:
    ids = [str(number) for number in range(CHUNK_POINTS + 1)]
    first, rest = Masker(b"x").hashed(ids)
    assert (len(first), len(rest)) == (CHUNK_POINTS * POINT_BYTES, POINT_BYTES)
    with pytest.raises(RemoteProtocolError, match=f"entry {CHUNK_POINTS + 1}"):
        Masker(b"x").mask(rest + bytes(POINT_BYTES), CHUNK_POINTS)


def test_points_that_end_in_zeros_are_not_taken_for_one_another() -> None:
    """numpy takes no notice of zeros at the end of a text."""
    short, long = b"a".ljust(POINT_BYTES, b"\0"), b"a\0b".ljust(POINT_BYTES, b"\0")
    found = common({"x": short + long, "y": long + short})
    assert [places.tolist() for places in found.values()] == [[0, 1], [1, 0]]
    with pytest.raises(CohortTooSmall):
        common({"x": short, "y": long})


@pytest.mark.parametrize(
    "bad", [bytes(POINT_BYTES), b"\xff" * POINT_BYTES, (2**255 - 19).to_bytes(32, "little")]
)
def test_a_broken_point_is_named_by_its_position(bad: bytes) -> None:
    good = rbcl.crypto_core_ristretto255_from_hash(hashlib.sha512(b"x").digest())
    with pytest.raises(RemoteProtocolError, match="entry 1"):
        Masker(b"x").mask(good + bad + good)


def test_half_a_point_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="33 bytes"):
        Masker(b"x").mask(bytes(33))


def test_too_few_common_rows_release_no_position() -> None:
    with pytest.raises(CohortTooSmall, match="1 rows are common to all, at least 2"):
        align({"a": ["1", "2"], "b": ["1", "3"], "c": ["1", "4"]}, floor=2)


def test_a_list_with_a_repeated_point_is_refused() -> None:
    point = b"".join(Masker(b"x").hashed(["one"]))
    with pytest.raises(RemoteProtocolError, match="twice"):
        common({"a": point, "b": point + point})


@pytest.mark.parametrize("positions", [[2], [0, 0]])
def test_the_helper_cannot_name_nonsense(positions: list[int]) -> None:
    masker = Masker(b"x")
    b"".join(masker.hashed(["one", "two"]))
    with pytest.raises(RemoteProtocolError):
        masker.own_rows(np.array(positions, np.uint32))


def test_rules_of_normalisation() -> None:
    assert normalise(" E\u0301va ", "exact") == " E\u0301va "
    assert normalise(" E\u0301va ", "trimmed") == "\u00c9va"
    assert normalise(" STRASSE", "caseless") == normalise("stra\u00dfe", "caseless")

    assert normalise(" 007a", "trimmed-unpadded") == "7a"
    assert normalise(" 00A ", "caseless-unpadded") == "a"
    assert [normalise(zeros, "trimmed-unpadded") for zeros in ("", "0", "000")] == ["", "0", "0"]


@given(st.text(" 0\tabAB9\u00df\u00c9\u0301-"), st.sampled_from(get_args(IdentifierRule)))
def test_whatever_rule_matches_a_row_the_ledger_names_it_alike(text: str, rule) -> None:
    assert row_keys(b"k" * 32, [normalise(text, rule)]) == row_keys(b"k" * 32, [text])


def test_the_rows_hash_separates_identifiers_and_salts() -> None:
    assert rows_hash(b"s", ["ab", "c"]) != rows_hash(b"s", ["a", "bc"])
    assert rows_hash(b"s", ["a"]) != rows_hash(b"t", ["a"])
    assert len(row_keys(b"k" * 32, ["a", "b"])) == 32
    assert row_keys(b"k" * 32, ["a"]) != row_keys(b"l" * 32, ["a"])
