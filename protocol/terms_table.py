"""Terms as an administrator writes them in TOML, turned into constraints.

    [datasets.terms]
    operations = ["shared-features"]
    counterparties = ["fintech-c"]
    recipients = ["fintech-c"]
    purposes = ["credit-risk-model"]
    attesters = ["regulator-d"]
    deciders = ["0x5b38da6a701c568545dcfcb03fcb875f56beddc4"]
    valid_for_days = 30
    uses = 5
    noise_min = 0.3
    numbers_per_row_max = 8

    [datasets.terms.parameters]
    width = { max = 4 }

Organisations are written by the names of the configuration or as accounts; the terms hold their
accounts.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from protocol import operands, terms
from protocol.documents import Price
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.terms import Constraint, Operator, Scalar, Terms

DAY_S = 86_400


class TermsTableError(ValueError):
    """The administrator's table is wrong; the text says where and what would be right."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a parameter may be: at least, at most, or one of."""

    min: float | None = None
    max: float | None = None
    any_of: tuple[Scalar, ...] | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A constraint in ODRL's own words, for what no member of the table says.

    Organisations may be written by name; a time also as `2027-01-01T00:00:00Z`.
    """

    operand: terms.LeftOperand
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


Referable = Literal[
    "counterparties",
    "recipients",
    "purposes",
    "attesters",
    "deciders",
    "valid",
    "uses",
    "labels",
    "parameters",
    "committee_min",
    "operators_min",
    "contributors_min",
]
"""What a person may waive for one request. Noise, epsilon, openings and rows in common are not
among them: they protect the people in the rows, whom no consumer's good reason protects."""

_REFERABLE: Mapping[str, str] = {
    "counterparties": terms.COUNTERPARTY,
    "recipients": terms.OUTPUT_RECIPIENT,
    "purposes": terms.PURPOSE,
    "attesters": terms.ATTESTER,
    "deciders": terms.DECIDER,
    "valid": terms.EXPIRY,
    "uses": terms.USES,
    "labels": terms.LABELS,
    "parameters": terms.PARAMETER,
    "committee_min": terms.COMMITTEE_SIZE,
    "operators_min": terms.OPERATORS,
    "contributors_min": terms.CONTRIBUTORS,
}


class TermsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members of a `terms` table. What is left out is not permitted, or has its floor."""

    operations: tuple[str, ...]
    counterparties: tuple[str, ...]
    recipients: tuple[str, ...]
    purposes: tuple[str, ...]
    attesters: tuple[str, ...]
    deciders: tuple[str, ...]
    valid_for_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] | None = None
    valid_until: datetime | None = None
    uses: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    price: Annotated[int, msgspec.Meta(ge=0)] = 0
    price_unit: Literal["edge", "row", "opening"] = "edge"
    codes: tuple[str, ...] | None = None
    labels: tuple[Literal["seen-by-owners", "hidden"], ...] | None = None
    committee_min: Annotated[int, msgspec.Meta(ge=3, le=64)] = 3
    operators_min: Annotated[int, msgspec.Meta(ge=2, le=64)] = 2
    contributors_min: Annotated[int, msgspec.Meta(ge=2, le=64)] = 2
    cohort_min: Annotated[int, msgspec.Meta(ge=1)] = 100
    numbers_per_row_max: Annotated[int, msgspec.Meta(ge=1)] = 8
    noise_min: Annotated[float, msgspec.Meta(ge=0)] = 0.3
    epsilon_max: Annotated[float, msgspec.Meta(gt=0)] | None = None
    leakage: Literal["noise", "accept"] = "noise"
    parameters: dict[str, Bounds] = {}
    permission: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=16)] = ()
    prohibition: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=16)] = ()
    duty: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=4)] = ()
    refer: tuple[Referable, ...] = ()
    refer_days: Annotated[int, msgspec.Meta(ge=1, le=60)] = 7


_OF_ROWS = (
    "cohort_min",
    "numbers_per_row_max",
    "noise_min",
    "epsilon_max",
    "leakage",
    "labels",
    "parameters",
    "committee_min",
    "operators_min",
    "contributors_min",
)
"""Members that only an owner of rows can mean."""


def read(table: Mapping[str, Any], *, data: bool) -> TermsTable:
    """The table of a dataset or of a compute asset; TermsTableError says which member is wrong."""
    try:
        found = msgspec.convert(dict(table), TermsTable)
    except msgspec.ValidationError as error:
        raise TermsTableError(f"terms: {error}") from error
    if found.price >= 2**96:
        raise TermsTableError("terms.price must be below 2^96: the registry keeps no more")
    if found.valid_for_days is None and found.valid_until is None:
        raise TermsTableError("terms: say how long they hold, by valid_for_days or valid_until")
    if found.valid_until is not None and found.valid_until.tzinfo is None:
        raise TermsTableError("terms.valid_until needs a time zone: 2027-01-01T00:00:00Z is right")
    idle = [] if data else [member for member in _OF_ROWS if member in table]
    if idle:
        raise TermsTableError(
            f"terms.{idle[0]} says something of rows, and a compute asset has none: leave it out"
        )
    return found


def price_of(table: TermsTable) -> Price:
    """What one use costs."""
    return Price(amount=str(table.price), unit=table.price_unit)


def until(table: TermsTable, published_at: float) -> int:
    """The last second at which a grant may expire, for an asset published at `published_at`."""
    ends = []
    if table.valid_for_days is not None:
        ends.append(int(published_at) + table.valid_for_days * DAY_S)
    if table.valid_until is not None:
        ends.append(int(table.valid_until.timestamp()))
    return min(ends)


def referable(table: TermsTable, operand: str) -> bool:
    """Whether a person may waive what the terms say of this operand."""
    name = terms.PARAMETER if operand.startswith(terms.PARAMETER) else operand
    return any(_REFERABLE[member] == name for member in table.refer)


def for_data(table: TermsTable, accounts: Mapping[str, Account], last: int) -> Terms:
    """The terms of a dataset: everything that touches its rows is constrained.

    `last` is the last second at which a grant may expire (Unix time). TermsTableError names a
    rule that can never hold, is of the wrong type or speaks of somebody unknown.
    """
    permission = [
        *_common(table, accounts, last),
        _at_least(terms.COMMITTEE_SIZE, table.committee_min),
        _at_least(terms.OPERATORS, table.operators_min),
        _at_least(terms.CONTRIBUTORS, table.contributors_min),
        _at_least(terms.COHORT_SIZE, table.cohort_min),
        _at_most(terms.OPENINGS, table.numbers_per_row_max),
        _at_least(terms.NOISE, table.noise_min),
    ]
    if table.epsilon_max is not None:
        permission.append(_at_most(terms.EPSILON, table.epsilon_max))
    if table.labels is not None:
        permission.append(_any_of(terms.LABELS, table.labels))
    for name, bounds in sorted(table.parameters.items()):
        permission += _bounded(name, bounds)
    return _built(table, accounts, permission)


def for_compute(table: TermsTable, accounts: Mapping[str, Account], last: int) -> Terms:
    """The terms of a compute node, which never sees a row. TermsTableError as `for_data`."""
    return _built(table, accounts, _common(table, accounts, last))


def _built(
    table: TermsTable, accounts: Mapping[str, Account], permission: list[Constraint]
) -> Terms:
    duty = [_at_least(terms.PAY_AMOUNT, str(table.price))]
    built = Terms(
        permission=(*permission, *_rules("permission", table.permission, accounts)),
        prohibition=_rules("prohibition", table.prohibition, accounts),
        duty=(*duty, *_rules("duty", table.duty, accounts)),
        leakage=table.leakage,
    )
    problem = next(operands.problems(built), None)
    if problem is not None:
        raise TermsTableError(f"terms.{_member(problem.operand)}: {problem.sentence}")
    return built


def _member(operand: str) -> str:
    """The member of the table that speaks of the operand, or the operand itself."""
    if operand.startswith(terms.PARAMETER):
        return "parameters." + operand.removeprefix(terms.PARAMETER)
    return _MEMBERS.get(operand, operand)


_MEMBERS: Mapping[str, str] = {
    terms.OPERATION: "operations",
    terms.CODE: "codes",
    terms.COUNTERPARTY: "counterparties",
    terms.OUTPUT_RECIPIENT: "recipients",
    terms.PURPOSE: "purposes",
    terms.EXPIRY: "valid_until",
    terms.USES: "uses",
    terms.PAY_AMOUNT: "price",
    terms.COMMITTEE_SIZE: "committee_min",
    terms.OPERATORS: "operators_min",
    terms.CONTRIBUTORS: "contributors_min",
    terms.COHORT_SIZE: "cohort_min",
    terms.OPENINGS: "numbers_per_row_max",
    terms.NOISE: "noise_min",
    terms.EPSILON: "epsilon_max",
    terms.LABELS: "labels",
    terms.ATTESTER: "attesters",
    terms.DECIDER: "deciders",
}


def _common(table: TermsTable, accounts: Mapping[str, Account], last: int) -> list[Constraint]:
    def named(member: str, organisations: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_account(f"terms.{member}", name, accounts) for name in organisations)

    code = [] if table.codes is None else [_any_of(terms.CODE, table.codes)]
    return [
        _any_of(terms.OPERATION, table.operations),
        *code,
        _any_of(terms.COUNTERPARTY, named("counterparties", table.counterparties)),
        _any_of(terms.OUTPUT_RECIPIENT, named("recipients", table.recipients)),
        _any_of(terms.PURPOSE, table.purposes),
        _any_of(terms.ATTESTER, named("attesters", table.attesters)),
        _any_of(terms.DECIDER, named("deciders", table.deciders)),
        _at_most(terms.EXPIRY, last),
        _at_most(terms.USES, table.uses),
    ]


def _rules(
    member: str, rules: tuple[Rule, ...], accounts: Mapping[str, Account]
) -> tuple[Constraint, ...]:
    return tuple(
        Constraint(
            leftOperand=rule.operand,
            operator=rule.operator,
            rightOperand=_right(f"terms.{member} number {number}", rule, accounts),
        )
        for number, rule in enumerate(rules, start=1)
    )


def _right(where: str, rule: Rule, accounts: Mapping[str, Account]) -> Scalar | tuple[Scalar, ...]:
    if (rule.operand == terms.PAY_AMOUNT) is not where.startswith("terms.duty"):
        raise TermsTableError(
            f"{where}: a price is a duty, and the only one; {rule.operand} is not"
            if rule.operand != terms.PAY_AMOUNT
            else f"{where}: a price is a duty; write it under duty"
        )
    if isinstance(rule.value, tuple):
        return tuple(_value(where, rule.operand, each, accounts) for each in rule.value)
    return _value(where, rule.operand, rule.value, accounts)


def _value(where: str, operand: str, value: Scalar, accounts: Mapping[str, Account]) -> Scalar:
    known = operands.find(operand)
    if known is None:
        return value
    if known.kind == "account" and isinstance(value, str):
        return _account(where, value, accounts)
    if known.kind == "time" and isinstance(value, str):
        return _seconds(where, value)
    return str(value) if known.kind == "amount" else value


def _seconds(where: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise TermsTableError(
            f"{where}: {text!r:.80} is no time; 2027-01-01T00:00:00Z would be right"
        )
    return int(moment.timestamp())


def _account(member: str, name: str, accounts: Mapping[str, Account]) -> str:
    if name in accounts:
        return hexadecimal(accounts[name])
    try:
        return hexadecimal(from_hexadecimal(name, 20))
    except RemoteProtocolError:
        raise TermsTableError(
            f"{member} names {name!r}, which is neither an organisation of this configuration nor "
            "an account: add it under [[organisations]]"
        ) from None


def _bounded(name: str, bounds: Bounds) -> list[Constraint]:
    operand = terms.PARAMETER + name
    if operand not in operands.PARAMETERS:
        known = ", ".join(each.removeprefix(terms.PARAMETER) for each in operands.PARAMETERS)
        raise TermsTableError(f"terms.parameters: {name!r:.80} is unknown; known are {known}")
    found = []
    if bounds.min is not None:
        found.append(_at_least(operand, bounds.min))
    if bounds.max is not None:
        found.append(_at_most(operand, bounds.max))
    if bounds.any_of is not None:
        found.append(_any_of(operand, bounds.any_of))
    return found


def _any_of(operand: str, values: tuple[Scalar, ...]) -> Constraint:
    return Constraint(leftOperand=operand, operator="isAnyOf", rightOperand=values)


def _at_most(operand: str, value: Scalar) -> Constraint:
    return Constraint(leftOperand=operand, operator="lteq", rightOperand=value)


def _at_least(operand: str, value: Scalar) -> Constraint:
    return Constraint(leftOperand=operand, operator="gteq", rightOperand=value)
