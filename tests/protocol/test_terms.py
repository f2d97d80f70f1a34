"""Terms: what is silent permits nobody, each constraint gives its own reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import terms, terms_policy, terms_table
from protocol.ids import Account, hexadecimal
from protocol.terms import Constraint, Terms, evaluate
from protocol.terms_table import TermsTableError

C = Account(b"\xcc" * 20)
D = Account(b"\xdd" * 20)
ACCOUNTS = {"fintech-c": C, "regulator-d": D}
ARBITER = "0x" + "ab" * 20
TABLE = {
    "operations": ["shared-features"],
    "counterparties": ["fintech-c"],
    "recipients": ["fintech-c"],
    "purposes": ["risk"],
    "attesters": ["regulator-d"],
    "deciders": [ARBITER],
    "valid_for_days": 30,
    "uses": 5,
    "price": 5 * 10**17,
    "parameters": {"width": {"max": 4}, "field": {"any_of": ["m61"]}},
}
FACTS: dict[str, terms.Scalar] = {
    terms.OPERATION: "shared-features",
    terms.COUNTERPARTY: hexadecimal(C),
    terms.OUTPUT_RECIPIENT: hexadecimal(C),
    terms.PURPOSE: "risk",
    terms.ATTESTER: hexadecimal(D),
    terms.DECIDER: ARBITER,
    terms.EXPIRY: 1000,
    terms.USES: 1,
    terms.PAY_AMOUNT: str(5 * 10**17),
    terms.COMMITTEE_SIZE: 3,
    terms.OPERATORS: 3,
    terms.CONTRIBUTORS: 2,
    terms.COHORT_SIZE: 1000,
    terms.OPENINGS: 4,
    terms.NOISE: 0.3,
    terms.PARAMETER + "width": 2,
    terms.PARAMETER + "field": "m61",
}


def data_terms() -> Terms:
    return terms_policy.for_data(terms_table.read(TABLE, data=True), ACCOUNTS, 2000)


def test_what_the_terms_ask_for_is_permitted() -> None:
    decision = evaluate(data_terms(), FACTS)
    assert decision.permitted
    assert len(decision.findings) == len(data_terms().permission) + 1


@pytest.mark.parametrize(
    ("operand", "asked"),
    [
        (terms.OPERATION, "score"),
        (terms.COUNTERPARTY, hexadecimal(D)),
        (terms.OUTPUT_RECIPIENT, hexadecimal(D)),
        (terms.PURPOSE, "marketing"),
        (terms.ATTESTER, hexadecimal(C)),
        (terms.DECIDER, hexadecimal(D)),
        (terms.EXPIRY, 2001),
        (terms.USES, 6),
        (terms.PAY_AMOUNT, str(5 * 10**17 - 1)),
        (terms.PAY_AMOUNT, "much"),
        (terms.COMMITTEE_SIZE, 2),
        (terms.OPERATORS, 1),
        (terms.CONTRIBUTORS, 1),
        (terms.COHORT_SIZE, 99),
        (terms.OPENINGS, 9),
        (terms.NOISE, 0.29),
        (terms.PARAMETER + "width", 12),
        (terms.PARAMETER + "field", "m31"),
    ],
)
def test_each_constraint_fails_alone_and_says_what_would_pass(
    operand: str, asked: terms.Scalar
) -> None:
    decision = evaluate(data_terms(), FACTS | {operand: asked})
    assert [each.operand for each in decision.failures] == [operand]
    assert str(asked) in decision.failures[0].sentence
    assert "is allowed" in decision.failures[0].sentence


@pytest.mark.parametrize("operand", sorted(FACTS))
def test_a_request_that_is_silent_about_an_operand_fails_it(operand: str) -> None:
    facts = {name: value for name, value in FACTS.items() if name != operand}
    assert [each.operand for each in evaluate(data_terms(), facts).failures] == [operand]


@pytest.mark.parametrize("operand", terms.REQUIRED)
def test_terms_that_are_silent_about_a_required_operand_permit_nobody(operand: str) -> None:
    permission = tuple(each for each in data_terms().permission if each.leftOperand != operand)
    decision = evaluate(Terms(permission=permission), FACTS)
    assert [each.operand for each in decision.failures] == [operand]


def test_empty_terms_permit_nobody() -> None:
    assert not evaluate(Terms(permission=()), FACTS).permitted


@pytest.mark.parametrize(
    "member", ["operations", "counterparties", "recipients", "purposes", "attesters", "deciders"]
)
def test_an_empty_list_permits_nobody(member: str) -> None:
    table = terms_table.read(TABLE | {member: []}, data=True)
    assert not evaluate(terms_policy.for_data(table, ACCOUNTS, 2000), FACTS).permitted


def test_a_prohibition_that_holds_forbids() -> None:
    for operator, right in (("eq", "risk"), ("isAnyOf", ("risk", "x")), ("isAnyOf", "risk")):
        never = Constraint(leftOperand=terms.PURPOSE, operator=operator, rightOperand=right)
        decision = evaluate(Terms(permission=data_terms().permission, prohibition=(never,)), FACTS)
        assert [each.operand for each in decision.failures] == [terms.PURPOSE]
        assert decision.failures[0].allowed.startswith("anything but risk")


@pytest.mark.parametrize("right", ["risk", ("risk",), ("other", "risk")])
def test_none_of_means_none_of_a_list_and_of_one(right: object) -> None:
    constraint = Constraint(leftOperand=terms.PURPOSE, operator="isNoneOf", rightOperand=right)
    permission = (*data_terms().permission, constraint)
    assert not evaluate(Terms(permission=permission), FACTS).permitted


@given(st.sampled_from(["lteq", "gteq"]), st.text(max_size=5))
def test_text_is_never_compared_as_a_number(operator: str, text: str) -> None:
    constraint = Constraint(leftOperand=terms.NOISE, operator=operator, rightOperand=0.3)
    decision = evaluate(Terms(permission=(constraint,)), {terms.NOISE: text})
    assert not decision.permitted


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"operations": "shared-features"}, "operations"),
        ({"uses": 0}, "uses"),
        ({"noise_minimum": 0.3}, "noise_minimum"),
        ({"price": 2**96}, "2\\^96"),
        ({"price": -1}, "price"),
        ({"committee_min": 2}, "committee_min"),
        ({"contributors_min": 1}, "contributors_min"),
        ({"parameters": {"width": {"maximum": 4}}}, "maximum"),
    ],
)
def test_a_wrong_table_is_named(changes: dict[str, object], says: str) -> None:
    with pytest.raises(TermsTableError, match=says):
        terms_table.read(TABLE | changes, data=True)


def test_an_unknown_organisation_is_named() -> None:
    table = terms_table.read(TABLE | {"recipients": ["fintech-x"]}, data=True)
    with pytest.raises(TermsTableError, match="fintech-x"):
        terms_policy.for_data(table, ACCOUNTS, 2000)
