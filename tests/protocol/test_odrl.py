"""Terms as ODRL and back, as TOML and back; what the subset does not know is refused by name."""

import contextlib
import copy
import json
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol import odrl, operands, terms, terms_policy, terms_table, terms_toml
from protocol.odrl import OdrlError, Policy
from protocol.terms import Constraint, Terms, evaluate
from tests.protocol.policies import facts, policies

TARGET = "urn:northbund:asset:applicants-a"
TOKEN = "urn:northbund:token:0x" + "33" * 20
ARBITER = "0x" + "ab" * 20
TABLE: dict[str, Any] = {
    "operations": ["shared-features"],
    "codes": ["0x" + "12" * 32],
    "counterparties": [ARBITER],
    "recipients": [ARBITER],
    "purposes": ["risk"],
    "attesters": [ARBITER],
    "deciders": [],
    "valid_until": "2027-01-01T00:00:00Z",
    "uses": 5,
    "price": 5 * 10**17,
    "price_unit": "row",
    "labels": ["hidden"],
    "operators_min": 3,
    "epsilon_max": 2.5,
    "parameters": {"width": {"min": 2, "max": 4}, "field": {"any_of": ["m61"]}},
    "permission": [{"operand": "odrl:purpose", "operator": "isNoneOf", "value": ["marketing"]}],
    "prohibition": [{"operand": "cdt:parameter.epochs", "operator": "gteq", "value": 9}],
}


def terms_of(table: dict[str, Any]) -> tuple[Terms, str]:
    read = terms_table.read(table, data=True)
    return terms_policy.for_data(read, {}, terms_table.until(read, 0.0)), read.price_unit


def written() -> dict[str, Any]:
    built, unit = terms_of(TABLE)
    return odrl.write(Policy(TARGET, built, unit, TOKEN))


@given(policies(), st.sampled_from(["edge", "row", "opening"]))
def test_what_is_written_is_read_again(policy: Terms, unit: Any) -> None:
    currency = TOKEN if policy.duty else ""
    whole = Policy(TARGET, policy, unit, currency)
    assert odrl.read(json.loads(json.dumps(odrl.write(whole)))) == whole


def test_a_policy_is_plain_odrl_with_names_of_our_own_under_cdt() -> None:
    policy = written()
    (permission,) = policy["permission"]
    assert policy["@context"] == [odrl.CONTEXT, {"cdt": "urn:northbund:cdt:"}]
    assert policy["@type"] == "Set"
    assert policy["uid"].startswith("urn:sha256:")
    assert permission["action"] == "use"
    assert {"leftOperand": "count", "operator": "lteq", "rightOperand": 5} in permission[
        "constraint"
    ]
    assert {
        "leftOperand": "dateTime",
        "operator": "lteq",
        "rightOperand": {"@value": "2027-01-01T00:00:00Z", "@type": "xsd:dateTime"},
    } in permission["constraint"]
    assert permission["duty"] == [
        {
            "action": "compensate",
            "cdt:per": "row",
            "constraint": [
                {
                    "leftOperand": "payAmount",
                    "operator": "gteq",
                    "rightOperand": {"@value": str(5 * 10**17), "@type": "xsd:decimal"},
                    "unit": TOKEN,
                }
            ],
        }
    ]
    assert policy["prohibition"][0]["constraint"][0]["leftOperand"] == "cdt:parameter.epochs"


def test_the_table_that_is_shown_means_the_same_terms() -> None:
    built, unit = terms_of(TABLE)
    table = tomllib.loads(terms_toml.table_of(built, unit, data=True))["datasets"]["terms"]
    assert terms_of(table) == (built, unit)


@given(policies(), facts())
def test_the_table_that_is_shown_never_allows_more(
    policy: Terms, asked: dict[str, terms.Scalar]
) -> None:
    try:
        text = terms_toml.table_of(policy, "edge", data=True)
        built, _ = terms_of(tomllib.loads(text)["datasets"]["terms"])
    except terms_table.TermsTableError:
        assume(False)
    if evaluate(built, asked).permitted:
        assert evaluate(policy, asked).permitted
    for name in {each.leftOperand for each in policy.permission}:
        for value in operands.candidates(built, name):
            assert operands.allows(policy, name, value) or not operands.allows(built, name, value)


def test_a_policy_that_only_says_who_may_not_has_no_table() -> None:
    never = Constraint(leftOperand=terms.PURPOSE, operator="isNoneOf", rightOperand=("x",))
    with pytest.raises(terms_table.TermsTableError, match="a list under purposes"):
        terms_toml.table_of(Terms(permission=(never,)), "edge", data=True)


def test_a_silent_policy_becomes_a_table_that_allows_nobody() -> None:
    text = terms_toml.table_of(Terms(permission=()), "edge", data=True)
    assert "purposes = []  # the policy is silent here" in text
    built, _ = terms_of(tomllib.loads(text)["datasets"]["terms"])
    assert not operands.allows(built, terms.PURPOSE, "risk")


def test_a_policy_for_compute_has_no_members_of_rows() -> None:
    text = terms_toml.table_of(Terms(permission=()), "edge", data=False)
    assert "[compute.terms]" in text
    terms_table.read(tomllib.loads(text)["compute"]["terms"], data=False)


def test_other_ways_to_write_the_same_are_understood() -> None:
    policy = written()
    (permission,) = policy["permission"]
    for each in permission["constraint"]:
        if not each["leftOperand"].startswith("cdt:"):
            each["leftOperand"] = odrl.ODRL + each["leftOperand"]
        else:
            each["leftOperand"] = odrl.CDT + each["leftOperand"].removeprefix("cdt:")
        each["operator"] = "odrl:" + each["operator"]
        if each["leftOperand"].endswith("count"):
            each["rightOperand"] = {"@value": "5", "@type": "xsd:integer"}
        if isinstance(each["rightOperand"], list):
            each["rightOperand"] = {"@list": each["rightOperand"]}
    policy["permission"] = permission
    permission["duty"] = permission["duty"][0]
    assert odrl.read(policy) == odrl.read(written())


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def changed(policy: dict[str, Any]) -> None:
        *way, last = path.split("/")
        inside: Any = policy
        for step in way:
            inside = inside[int(step) if step.isdecimal() else step]
        inside[int(last) if last.isdecimal() else last] = value

    return changed


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("assigner", "https://bank.example", "the policy: 'assigner' is not part"),
        ("@type", "Offer", "@type is 'Offer'"),
        ("profile", "urn:other", "profile is 'urn:other'"),
        ("conflict", "perm", "conflict is 'perm'"),
        ("cdt:leakage", "some", "cdt:leakage is 'some'"),
        ("permission", [], "0 stand there"),
        ("permission", 5, "permission is no list"),
        ("permission/0/action", "read", "permission number 1: action is 'read'"),
        ("permission/0/assignee", "x", "permission number 1: 'assignee'"),
        ("permission/0/target", None, "needs a target"),
        ("permission/0/constraint/1", {"and": []}, "constraint number 2: 'and'"),
        ("permission/0/constraint/1", "x", "constraint number 2 is no object"),
        ("permission/0/constraint/1", {"leftOperand": "count"}, "operator is missing"),
        ("permission/0/constraint/0/operator", "hasPart", "'hasPart' is not known"),
        ("permission/0/constraint/0/operator", 5, "5 is not known"),
        ("permission/0/constraint/0/leftOperand", "spatial", "'spatial' is not known"),
        ("permission/0/constraint/0/leftOperand", ["x"], "is not known"),
        ("permission/0/constraint/0/unit", "x", "only a price has a unit"),
        ("permission/0/constraint/0/rightOperand", True, "neither text nor number"),
        ("permission/0/constraint/0/rightOperand", [None], "neither text nor number"),
        ("permission/0/constraint/0/rightOperand", [5], "5 is not text"),
        ("permission/0/constraint/0/rightOperand", {"@id": "x"}, "'@id' is not part"),
        (
            "permission/0/constraint/0/rightOperand",
            {"@value": "many", "@type": "xsd:integer"},
            "'many' is not of type xsd:integer",
        ),
        ("permission/0/duty/0/action", "inform", "action is 'inform'"),
        ("permission/0/duty/0/cdt:per", "day", "cdt:per is 'day'"),
        (
            "permission/0/duty/0/constraint/0",
            {"leftOperand": "count", "operator": "eq", "rightOperand": 1},
            "nothing that is paid",
        ),
        ("permission/0/duty", [{}, {}], "the one duty"),
        ("prohibition/0/constraint", [], "0 constraints stand there"),
        ("prohibition/0/duty", [], "prohibition number 1: 'duty'"),
    ],
)
def test_what_the_subset_does_not_know_is_refused_by_name_and_place(
    path: str, value: Any, says: str
) -> None:
    policy = copy.deepcopy(written())
    change(path, value)(policy)
    with pytest.raises(OdrlError) as refused:
        odrl.read(policy)
    assert says in str(refused.value)


def test_a_wrong_moment_is_told() -> None:
    policy = written()
    for each in policy["permission"][0]["constraint"]:
        if each["leftOperand"] == "dateTime":
            each["rightOperand"] = "tomorrow"
    with pytest.raises(OdrlError, match="2027-01-01T00:00:00Z would be right"):
        odrl.read(policy)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["@value", "@type", "leftOperand", "operator", "rightOperand", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
PLACES = ("permission", "permission/0/constraint", "permission/0/constraint/3/rightOperand",
          "permission/0/duty", "permission/0/duty/0/constraint", "prohibition", "@type",
          "permission/0/constraint/7/rightOperand", "permission/0/constraint/7")  # fmt: skip


@given(st.sampled_from(PLACES), JSON)
def test_nothing_but_odrl_errors_comes_out(path: str, value: Any) -> None:
    policy = copy.deepcopy(written())
    change(path, value)(policy)
    with contextlib.suppress(OdrlError):
        odrl.read(policy)


@given(JSON)
def test_anything_else_is_no_policy(value: Any) -> None:
    with pytest.raises(OdrlError):
        odrl.read(value)
