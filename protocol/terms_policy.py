"""From an administrator's table to the constraints of a policy, checked as a whole.

Organisations are written by the names of the configuration or as accounts; the terms hold their
accounts. Whatever could never be fulfilled is refused here, with the member that says it.
"""

from collections.abc import Mapping

from protocol import moments, operands, privacy, terms
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.terms import Constraint, Scalar, Terms
from protocol.terms_table import Bounds, Rule, TermsTable, TermsTableError


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
    if table.tested_ids_max is not None:
        permission.append(_at_most(terms.TESTED_IDS, table.tested_ids_max))
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


def operand_of(member: str) -> str:
    """The operand that a member of the table speaks of; an operand is its own."""
    if member.startswith("parameters."):
        return terms.PARAMETER + member.removeprefix("parameters.")
    known = {name: operand for operand, name in _MEMBERS.items()} | {"valid_for_days": terms.EXPIRY}
    return known.get(member, member)


def is_spoken_of(operand: str) -> bool:
    """Whether terms or floors say something of the operand."""
    return operands.find(operand) is not None or operand in privacy.FLOORS


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
    terms.TESTED_IDS: "tested_ids_max",
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
    if (rule.operand == terms.PAY_AMOUNT) != where.startswith("terms.duty"):
        raise TermsTableError(
            f"{where}: the one duty is {terms.PAY_AMOUNT}, and it is nothing but a duty"
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
        return moments.seconds(text)
    except RemoteProtocolError as error:
        raise TermsTableError(f"{where}: {error}") from error


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
