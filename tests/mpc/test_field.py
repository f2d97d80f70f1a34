"""The two fields against Python's integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.field import M31, M61, PrimeField, field_named

FIELDS = [M61, M31]


def elements(field: PrimeField, values: list[int]) -> np.ndarray:
    return np.array([v % field.modulus for v in values], field.dtype)


def numbers(field: PrimeField) -> st.SearchStrategy[list[int]]:
    edge = st.sampled_from([0, 1, 2, field.modulus - 1, field.modulus - 2, field.modulus // 2])
    return st.lists(edge | st.integers(0, field.modulus - 1), min_size=1, max_size=40)


@pytest.mark.parametrize("field", FIELDS, ids=repr)
@given(data=st.data())
def test_add_scale_multiply_negate_agree_with_integers(field: PrimeField, data: st.DataObject):
    left = data.draw(numbers(field))
    right = data.draw(
        st.lists(st.integers(0, field.modulus - 1), min_size=len(left), max_size=len(left))
    )
    constant = data.draw(st.integers(-field.modulus, 2 * field.modulus) | st.integers(-9, 9))
    p, a, b = field.modulus, elements(field, left), elements(field, right)
    assert field.add(a, b).tolist() == [(x + y) % p for x, y in zip(left, right, strict=True)]
    assert field.multiply(a, b).tolist() == [x * y % p for x, y in zip(left, right, strict=True)]
    assert field.scale(a, constant).tolist() == [x * constant % p for x in left]
    assert field.negate(a).tolist() == [-x % p for x in left]
    assert a.tolist() == left  # inputs are left alone
    field.add_into(a, b)
    assert a.tolist() == [(x + y) % p for x, y in zip(left, right, strict=True)]


@pytest.mark.parametrize(("field", "top"), [(M61, 2**64 - 1), (M31, 2**62 - 1)], ids=str)
@given(data=st.data())
def test_fold_reduces_any_word(field: PrimeField, top: int, data: st.DataObject):
    values = data.draw(st.lists(st.integers(0, top) | st.just(top), min_size=1, max_size=30))
    assert field.fold(np.array(values, np.uint64)).tolist() == [v % field.modulus for v in values]


@pytest.mark.parametrize("field", FIELDS, ids=repr)
@given(data=st.data())
def test_signed_integers_come_back(field: PrimeField, data: st.DataObject):
    half = field.modulus // 2
    values = data.draw(st.lists(st.integers(-half, half) | st.sampled_from([half, -half, 0])))
    array = np.array(values, np.int64)
    assert field.to_integers(field.from_integers(array)).tolist() == values
    assert field.in_range(field.from_integers(array))


@pytest.mark.parametrize("field", FIELDS, ids=repr)
def test_an_integer_that_would_wrap_is_refused(field: PrimeField):
    for value in (field.modulus // 2 + 1, -(field.modulus // 2) - 1):
        with pytest.raises(OverflowError):
            field.from_integers(np.array([0, value], np.int64))


@pytest.mark.parametrize("field", FIELDS, ids=repr)
def test_words_outside_the_field_are_drawn_again(field: PrimeField):
    p = field.modulus
    draws: list[int] = []

    def draw(count: int) -> np.ndarray:
        draws.append(count)
        return np.array([p, 5][:count] if len(draws) == 1 else [7] * count, field.dtype)

    words = np.array([p, 3, p], field.dtype)
    assert field.uniform(words, draw).tolist() == [7, 3, 5]
    assert draws == [2, 1]


def test_in_range_refuses_the_modulus_itself():
    assert not M31.in_range(np.array([M31.modulus], M31.dtype))
    assert not M61.in_range(np.array([2**64 - 1], M61.dtype))
    assert M61.in_range(np.empty(0, M61.dtype))


def test_fields_are_found_by_name():
    assert field_named("m61") is M61
    assert field_named("m31") is M31
    with pytest.raises(ValueError, match="m127"):
        field_named("m127")
