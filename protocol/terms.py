"""Terms of use: what an owner allows, and why a request passes or fails.

A subset of ODRL (W3C): constraints of a left operand, an operator and a right operand. Nothing
that is not permitted is allowed: an operand that every permission must speak of and does not is
a failure, and an empty list allows nobody. Every evaluation gives one finding for each
constraint: what was asked, what is allowed, pass or fail.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal

import msgspec

from protocol import moments

Scalar = str | int | float
Operator = Literal["eq", "lteq", "gteq", "isAnyOf", "isNoneOf"]
LeftOperand = Annotated[
    str, msgspec.Meta(pattern=r"\A(odrl|cdt):[A-Za-z]{1,32}(\.[a-z_]{1,32})?\Z")
]

OPERATION = "cdt:operation"
CODE = "cdt:code"
COUNTERPARTY = "odrl:recipient"
OUTPUT_RECIPIENT = "cdt:outputRecipient"
PURPOSE = "odrl:purpose"
EXPIRY = "odrl:dateTime"
USES = "odrl:count"
PAY_AMOUNT = "odrl:payAmount"
COMMITTEE_SIZE = "cdt:committeeSize"
OPERATORS = "cdt:operators"
CONTRIBUTORS = "cdt:contributors"
COHORT_SIZE = "cdt:cohortSize"
OPENINGS = "cdt:openings"
NOISE = "cdt:noise"
EPSILON = "cdt:epsilon"
LABELS = "cdt:labels"
TESTED_IDS = "cdt:testedIds"
ATTESTER = "cdt:attester"
DECIDER = "cdt:decider"
PARAMETER = "cdt:parameter."

REQUIRED = (OPERATION, COUNTERPARTY, OUTPUT_RECIPIENT, PURPOSE, EXPIRY, ATTESTER, DECIDER)
"""Operands that terms must speak of: where they are silent, nobody is permitted."""

_NAMES = {
    OPERATION: "operation",
    CODE: "code of the operation (SHA-256)",
    COUNTERPARTY: "counterparty",
    OUTPUT_RECIPIENT: "recipient of the result",
    PURPOSE: "purpose",
    EXPIRY: "expiry",
    USES: "number of uses",
    PAY_AMOUNT: "price offered",
    COMMITTEE_SIZE: "members of the committee",
    OPERATORS: "operators in the committee other than the recipient's",
    CONTRIBUTORS: "contributors other than the recipient",
    COHORT_SIZE: "rows in common",
    OPENINGS: "numbers opened for each row",
    NOISE: "noise relative to the features' standard deviation",
    EPSILON: "epsilon that the operation guarantees",
    LABELS: "labels",
    TESTED_IDS: "ids that a counterparty may test",
    ATTESTER: "attester",
    DECIDER: "decider of disputes",
}


_AMOUNT_DIGITS = 78
"""As many as the largest amount of a contract (2^256 - 1) has; a peer may write more."""


class Constraint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One condition on one operand; a list stands on the right of isAnyOf and isNoneOf only."""

    leftOperand: LeftOperand  # noqa: N815 - ODRL's own spelling, as it stands in the document
    operator: Operator
    rightOperand: Scalar | tuple[Scalar, ...]  # noqa: N815


class Terms(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Every constraint of `permission` and `duty` must hold and none of `prohibition` may.

    A duty is what the user does for the use: it compensates, by at least an amount.
    """

    permission: Annotated[tuple[Constraint, ...], msgspec.Meta(max_length=64)]
    prohibition: Annotated[tuple[Constraint, ...], msgspec.Meta(max_length=64)] = ()
    duty: Annotated[tuple[Constraint, ...], msgspec.Meta(max_length=8)] = ()
    leakage: Literal["noise", "accept"] = "noise"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one constraint says of one request, in a sentence that a person can act on."""

    operand: str
    asked: str
    allowed: str
    passed: bool

    @property
    def sentence(self) -> str:
        """For instance: `parameter width: 12 was asked, at most 4 is allowed`."""
        return f"{describe(self.operand)}: {self.asked} was asked, {self.allowed} is allowed"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome for one request with a finding for each constraint, floors included."""

    findings: tuple[Finding, ...]

    @property
    def permitted(self) -> bool:
        """True if at least one constraint was checked and none failed."""
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed, in the order of the terms."""
        return tuple(finding for finding in self.findings if not finding.passed)


def least(policy: Terms, operand: str) -> float:
    """The tightest lower bound that `policy` sets on a number; 0 without one."""
    return max(_numbers(policy, operand, "gteq"), default=0.0)


def most(policy: Terms, operand: str) -> float:
    """The tightest upper bound that `policy` sets on a number; infinity without one."""
    return min(_numbers(policy, operand, "lteq"), default=inf)


def _numbers(policy: Terms, operand: str, operator: Operator) -> Iterator[float]:
    for each in policy.permission:
        right = each.rightOperand
        told = each.leftOperand == operand and each.operator in (operator, "eq")
        if told and isinstance(right, int | float):
            yield right


def describe(operand: str) -> str:
    """The operand in plain words."""
    if operand.startswith(PARAMETER):
        return "parameter " + operand.removeprefix(PARAMETER)
    return _NAMES.get(operand, operand)


def with_names(told: str, names: Mapping[str, str]) -> str:
    """The text with each account that has a name in `names` followed by it."""
    for account, name in names.items():
        told = told.replace(account, f"{account} ({name})")
    return told


def evaluate(terms: Terms, facts: Mapping[str, Scalar]) -> Decision:
    """One finding for each constraint of `terms`, and one for each required operand it lacks.

    `facts` maps operands to what the request asks for. An operand that the request does not
    state fails its constraint.
    """
    findings = [_examine(each, facts) for each in (*terms.permission, *terms.duty)]
    for constraint in terms.prohibition:
        findings.append(_forbid(constraint, facts))
    spoken = {constraint.leftOperand for constraint in terms.permission}
    for operand in REQUIRED:
        if operand not in spoken:
            findings.append(Finding(operand, _asked(facts, operand), "nothing", passed=False))
    return Decision(tuple(findings))


def _examine(constraint: Constraint, facts: Mapping[str, Scalar]) -> Finding:
    operand = constraint.leftOperand
    passed = operand in facts and holds(constraint, facts[operand])
    return Finding(operand, _asked(facts, operand), allowed(constraint), passed)


def _forbid(constraint: Constraint, facts: Mapping[str, Scalar]) -> Finding:
    operand = constraint.leftOperand
    passed = operand in facts and not holds(constraint, facts[operand])
    return Finding(operand, _asked(facts, operand), forbidden(constraint), passed)


def holds(constraint: Constraint, value: Scalar) -> bool:
    """Whether `value` fulfils the constraint; text is never compared as a number."""
    right = constraint.rightOperand
    if constraint.leftOperand == PAY_AMOUNT:  # decimal text: JSON holds no such whole numbers
        value, right = amount(value), amount(right)
    match constraint.operator:
        case "isAnyOf" | "isNoneOf":
            among = value in (right if isinstance(right, tuple) else (right,))
            return among if constraint.operator == "isAnyOf" else not among
        case "eq":
            return value == right
    if isinstance(value, str) or not isinstance(right, int | float):
        return False
    return value <= right if constraint.operator == "lteq" else value >= right


def amount(value: Scalar | tuple[Scalar, ...]) -> int:
    """The amount that `value` spells; one that cannot be read is -1, which pays for nothing."""
    text = str(value)
    readable = text.isascii() and text.isdecimal() and len(text) <= _AMOUNT_DIGITS
    return int(text) if readable else -1


def _asked(facts: Mapping[str, Scalar], operand: str) -> str:
    return _told(operand, facts[operand]) if operand in facts else "nothing"


_WORDS = {
    "eq": "exactly",
    "lteq": "at most",
    "gteq": "at least",
    "isAnyOf": "only",
    "isNoneOf": "none of",
}


def allowed(constraint: Constraint) -> str:
    """What a permission allows, in words."""
    return f"{_WORDS[constraint.operator]} {_listed(constraint)}"


def forbidden(constraint: Constraint) -> str:
    """What a prohibition leaves, in words."""
    if constraint.operator in ("eq", "isAnyOf"):
        return f"anything but {_listed(constraint)}"
    return f"anything but {allowed(constraint)}"


def _listed(constraint: Constraint) -> str:
    right = constraint.rightOperand
    values = right if isinstance(right, tuple) else (right,)
    told = [_told(constraint.leftOperand, value) for value in values]
    return ", ".join(told) or "nobody and nothing"


def _told(operand: str, value: Scalar) -> str:
    """The value for a person: bounds that are whole are told so, whatever type their table has."""
    if operand == EXPIRY and isinstance(value, int) and 0 <= value <= moments.LAST:
        return moments.text(value)
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
