"""What fits which operand, what can never hold, and the nearest value that would pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import operands, terms
from protocol.terms import Constraint, Terms

ACCOUNT = "0x" + "ab" * 20


def said(operand: str, operator: str, value: object) -> Constraint:
    return Constraint(leftOperand=operand, operator=operator, rightOperand=value)


def sentences(*permission: Constraint, prohibition: tuple[Constraint, ...] = ()) -> list[str]:
    policy = Terms(permission=permission, prohibition=prohibition)
    return [each.sentence for each in operands.problems(policy)]


@pytest.mark.parametrize(
    ("constraint", "says"),
    [
        (said("cdt:colour", "eq", "red"), "cdt:colour is not known"),
        (said("cdt:parameter.depth", "lteq", 2), "cdt:parameter.width"),
        (said(terms.PURPOSE, "lteq", "risk"), "right would be eq, isAnyOf, isNoneOf"),
        (said(terms.PAY_AMOUNT, "lteq", "5"), "right would be gteq"),
        (said(terms.EXPIRY, "isAnyOf", (5,)), "right would be lteq, gteq"),
        (said(terms.USES, "eq", (1, 2)), "one value, not a list of 2"),
        (said(terms.USES, "lteq", "5"), "'5' is not a whole number from 1"),
        (said(terms.PURPOSE, "eq", 5), "5 is not text"),
        (said(terms.ATTESTER, "eq", "regulator-d"), "is not an account"),
        (said(terms.ATTESTER, "eq", ACCOUNT.upper()), "is not an account"),
        (said(terms.CODE, "eq", "0x12"), "is not a SHA-256"),
        (said(terms.PAY_AMOUNT, "gteq", "1.5"), "an amount as decimal text"),
        (said(terms.PAY_AMOUNT, "gteq", str(2**96)), "below 2^96"),
        (said(terms.LABELS, "eq", "shown"), "one of seen-by-owners, hidden"),
        (said("cdt:parameter.field", "isAnyOf", ("m61", "m62")), "one of m31, m61"),
        (said("cdt:parameter.width", "gteq", "4"), "'4' is not a whole number from 1 to 64"),
    ],
)
def test_what_does_not_fit_its_operand_is_told_with_what_would(
    constraint: Constraint, says: str
) -> None:
    (sentence,) = sentences(constraint)
    assert says in sentence


@pytest.mark.parametrize(
    "permission",
    [
        [said(terms.USES, "lteq", 0)],
        [said(terms.COMMITTEE_SIZE, "lteq", 2)],
        [said(terms.NOISE, "gteq", 101)],
        [said("cdt:parameter.width", "gteq", 65)],
        [said("cdt:parameter.width", "gteq", 4), said("cdt:parameter.width", "lteq", 2)],
        [said("cdt:parameter.width", "gteq", 2.1), said("cdt:parameter.width", "lteq", 2.9)],
        [said(terms.USES, "eq", 1), said(terms.USES, "eq", 2)],
        [said(terms.USES, "lteq", 3), said(terms.USES, "isNoneOf", (1, 2, 3))],
        [said(terms.PURPOSE, "isAnyOf", ("a", "b")), said(terms.PURPOSE, "isAnyOf", ("c",))],
        [said(terms.PURPOSE, "eq", "a"), said(terms.PURPOSE, "isNoneOf", "a")],
        [said(terms.LABELS, "isNoneOf", ("hidden", "seen-by-owners"))],
    ],
)
def test_what_nothing_could_fulfil_is_told_with_all_that_is_said(
    permission: list[Constraint],
) -> None:
    (sentence,) = sentences(*permission)
    assert sentence.startswith("no request can fulfil this")
    assert all(terms.allowed(each) in sentence for each in permission)


def test_a_prohibition_that_leaves_nothing_is_told() -> None:
    only = said(terms.PURPOSE, "isAnyOf", ("a", "b"))
    (sentence,) = sentences(only, prohibition=(only,))
    assert "anything but a, b" in sentence


def test_an_empty_list_is_no_mistake_it_says_that_nobody_may() -> None:
    assert sentences(said(terms.ATTESTER, "isAnyOf", ())) == []
    assert sentences(said("cdt:parameter.width", "isAnyOf", ())) == []


NUMBERS = st.integers(1, 12) | st.floats(0.5, 12.5, allow_nan=False)
ON_WIDTH = st.builds(
    said,
    st.just("cdt:parameter.width"),
    st.sampled_from(["eq", "lteq", "gteq"]),
    NUMBERS,
) | st.builds(
    said,
    st.just("cdt:parameter.width"),
    st.sampled_from(["isAnyOf", "isNoneOf"]),
    st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple),
)
POLICIES = st.builds(
    Terms,
    permission=st.lists(ON_WIDTH, max_size=4).map(tuple),
    prohibition=st.lists(ON_WIDTH, max_size=2).map(tuple),
)


@given(POLICIES)
def test_possible_is_exactly_what_some_value_fulfils(policy: Terms) -> None:
    name = "cdt:parameter.width"
    fulfilled = [value for value in range(1, 65) if operands.allows(policy, name, value)]
    assert operands.is_possible(policy, name) is bool(fulfilled)


@given(POLICIES, st.integers(-3, 70))
def test_the_nearest_value_passes_and_none_that_passes_is_nearer(policy: Terms, asked: int) -> None:
    name = "cdt:parameter.width"
    fulfilled = [value for value in range(1, 65) if operands.allows(policy, name, value)]
    found = operands.nearest(policy, name, asked)
    if not fulfilled:
        assert found is None
        return
    assert isinstance(found, int | float)
    assert operands.allows(policy, name, found)
    assert abs(found - asked) == min(abs(value - asked) for value in fulfilled)


@given(st.lists(st.integers(0, 2**96 - 1), max_size=3), st.integers(0, 2**96 - 1))
def test_the_nearest_amount_is_the_least_that_pays(floors: list[int], asked: int) -> None:
    policy = Terms(
        permission=(), duty=tuple(said(terms.PAY_AMOUNT, "gteq", str(each)) for each in floors)
    )
    found = operands.nearest(policy, terms.PAY_AMOUNT, str(asked))
    assert found == str(max([asked, *floors]))


def test_the_nearest_text_is_one_that_is_listed() -> None:
    policy = Terms(permission=(said(terms.ATTESTER, "isAnyOf", (ACCOUNT, "0x" + "cd" * 20)),))
    assert operands.nearest(policy, terms.ATTESTER, "0x" + "ee" * 20) == ACCOUNT
    nobody = Terms(permission=(said(terms.ATTESTER, "isAnyOf", ()),))
    assert operands.nearest(nobody, terms.ATTESTER, ACCOUNT) is None
    anybody_else = Terms(permission=(said(terms.ATTESTER, "isNoneOf", (ACCOUNT,)),))
    assert operands.nearest(anybody_else, terms.ATTESTER, ACCOUNT) is None


def test_every_operand_of_the_table_has_plain_words() -> None:
    for name in operands.OPERANDS:
        assert terms.describe(name) != name
        assert operands.OPERANDS[name].values
