"""Terms: what is silent permits nobody, each constraint gives its own reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import terms, terms_policy, terms_table
from protocol.ids import Account, hexadecimal
from protocol.terms import Constraint, Scalar, Terms, evaluate
from protocol.terms_table import TermsTableError
from tests.protocol.policies import facts, policies

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


def test_another_rule_of_ids_and_more_tests_than_the_cap_are_refused_by_name() -> None:
    table = TABLE | {"tested_ids_max": 5000, "parameters": {"id_rule": {"any_of": ["trimmed"]}}}
    built = terms_policy.for_data(terms_table.read(table, data=True), ACCOUNTS, 2000)
    right = FACTS | {terms.PARAMETER + "id_rule": "trimmed", terms.TESTED_IDS: 1000}
    assert evaluate(built, right).permitted
    wrong = right | {terms.PARAMETER + "id_rule": "exact", terms.TESTED_IDS: 6000}
    assert [each.sentence for each in evaluate(built, wrong).failures] == [
        "ids that a counterparty may test: 6000 was asked, at most 5000 is allowed",
        "parameter id_rule: exact was asked, only trimmed is allowed",
    ]


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
    told = "1970-01-01T00:33:21Z" if operand == terms.EXPIRY else str(asked)
    assert told in decision.failures[0].sentence
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


@given(policies(), facts())
def test_nothing_is_permitted_that_is_not_said(policy: Terms, asked: dict[str, Scalar]) -> None:
    decision = evaluate(policy, asked)
    spoken = {each.leftOperand for each in policy.permission}
    if decision.permitted:
        assert set(terms.REQUIRED) <= spoken
        assert all(each.leftOperand in asked for each in (*policy.permission, *policy.duty))
    said = len(policy.permission) + len(policy.duty) + len(policy.prohibition)
    assert len(decision.findings) == said + len(set(terms.REQUIRED) - spoken)


@given(policies(), policies(), facts())
def test_more_constraints_never_permit_more(
    policy: Terms, more: Terms, asked: dict[str, Scalar]
) -> None:
    narrowed = Terms(
        permission=(*policy.permission, *more.permission),
        prohibition=(*policy.prohibition, *more.prohibition),
        duty=(*policy.duty, *more.duty),
    )
    failed = {each for each in evaluate(policy, asked).failures if each.allowed != "nothing"}
    assert failed <= set(evaluate(narrowed, asked).failures)


@given(policies(), st.sampled_from(terms.REQUIRED), facts())
def test_one_empty_list_is_enough_to_allow_nobody(
    policy: Terms, operand: str, asked: dict[str, Scalar]
) -> None:
    nobody = Constraint(leftOperand=operand, operator="isAnyOf", rightOperand=())
    assert not evaluate(Terms(permission=(*policy.permission, nobody)), asked).permitted


WRONG_TABLES = [
    ({"parameters": {"width": {"min": 5, "max": 4}}}, "terms.parameters.width: no request can"),
    ({"parameters": {"depth": {"max": 4}}}, "'depth' is unknown; known are width"),
    ({"parameters": {"field": {"max": 4}}}, "terms.parameters.field: the operator lteq does not"),
    ({"parameters": {"width": {"any_of": ["4"]}}}, "terms.parameters.width: '4' is not a whole"),
    ({"noise_min": 101.0}, "terms.noise_min: no request can fulfil this: at least 101"),
    ({"codes": ["0x12"]}, "terms.codes: '0x12' is not a SHA-256"),
    ({"labels": ["shown"]}, "labels"),
    ({"valid_for_days": None}, "valid_for_days or valid_until"),
    ({"valid_until": "2027-01-01"}, "2027-01-01T00:00:00Z would be right"),
    ({"refer": ["noise_min"]}, "refer"),
    ({"prohibition": [{"operand": "x", "operator": "eq", "value": 1}]}, "operand"),
    (
        {"prohibition": [{"operand": "odrl:purpose", "operator": "eq", "value": "risk"}]},
        "terms.purposes: no request can fulfil this: only risk and anything but risk",
    ),
    (
        {"permission": [{"operand": "odrl:payAmount", "operator": "gteq", "value": 5}]},
        "terms.permission number 1: the one duty is",
    ),
    (
        {"duty": [{"operand": "odrl:count", "operator": "lteq", "value": 5}]},
        "terms.duty number 1: the one duty is",
    ),
    (
        {"permission": [{"operand": "odrl:dateTime", "operator": "lteq", "value": "soon"}]},
        "terms.permission number 1: 'soon' is no moment",
    ),
    (
        {"permission": [{"operand": "cdt:attester", "operator": "isNoneOf", "value": ["who"]}]},
        "terms.permission number 1 names 'who'",
    ),
]


@pytest.mark.parametrize(("changes", "says"), WRONG_TABLES)
def test_terms_that_could_never_hold_are_refused_when_they_are_read(
    changes: dict[str, object], says: str
) -> None:
    table = {name: value for name, value in (TABLE | changes).items() if value is not None}
    with pytest.raises(TermsTableError) as refused:
        terms_policy.for_data(terms_table.read(table, data=True), ACCOUNTS, 2000)
    assert says in str(refused.value)


@pytest.mark.parametrize("member", ["noise_min", "parameters", "cohort_min", "leakage"])
def test_a_compute_asset_has_no_terms_about_rows(member: str) -> None:
    table = {name: value for name, value in TABLE.items() if name != "parameters"}
    value = {"noise_min": 0.5, "parameters": {}, "cohort_min": 5, "leakage": "noise"}[member]
    with pytest.raises(TermsTableError, match=f"terms.{member} says something of rows"):
        terms_table.read(table | {member: value}, data=False)
    terms_table.read(table, data=False)


def test_the_whole_table_of_terms_becomes_constraints() -> None:
    table = TABLE | {
        "codes": ["0x" + "12" * 32],
        "labels": ["hidden"],
        "operators_min": 3,
        "epsilon_max": 1.5,
        "prohibition": [{"operand": "cdt:attester", "operator": "eq", "value": "fintech-c"}],
        "duty": [{"operand": "odrl:payAmount", "operator": "gteq", "value": 7}],
    }
    built = terms_policy.for_data(terms_table.read(table, data=True), ACCOUNTS, 2000)
    said = {(each.leftOperand, each.operator, each.rightOperand) for each in built.permission}
    assert {
        (terms.CODE, "isAnyOf", ("0x" + "12" * 32,)),
        (terms.LABELS, "isAnyOf", ("hidden",)),
        (terms.OPERATORS, "gteq", 3),
        (terms.EPSILON, "lteq", 1.5),
        (terms.COMMITTEE_SIZE, "gteq", 3),
        (terms.EXPIRY, "lteq", 2000),
        (terms.USES, "lteq", 5),
    } <= said
    assert [each.rightOperand for each in built.duty] == [str(5 * 10**17), "7"]
    assert built.prohibition[0].rightOperand == hexadecimal(C)


def test_how_long_terms_hold_is_the_earlier_of_both_ends() -> None:
    read = terms_table.read(TABLE | {"valid_until": "1970-01-11T00:00:00Z"}, data=True)
    assert terms_table.until(read, 0.0) == 10 * 86_400
    assert terms_table.until(terms_table.read(TABLE, data=True), 0.0) == 30 * 86_400


def test_amounts_of_a_peer_are_read_without_harm() -> None:
    for text in ("9" * 100_000, "٣", "-1", "", "1e9"):
        asked = FACTS | {terms.PAY_AMOUNT: text}
        assert not evaluate(data_terms(), asked).permitted


@pytest.mark.parametrize(
    ("refer", "operand", "may"),
    [
        (["purposes"], terms.PURPOSE, True),
        (["purposes"], terms.ATTESTER, False),
        (["parameters"], "cdt:parameter.width", True),
        (["valid"], terms.EXPIRY, True),
        (["uses"], terms.NOISE, False),
    ],
)
def test_what_a_person_may_waive_is_what_the_table_says(
    refer: list[str], operand: str, may: bool
) -> None:
    table = terms_table.read(TABLE | {"refer": refer}, data=True)
    assert terms_table.referable(table, operand) is may
