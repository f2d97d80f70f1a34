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
from typing import Annotated, Any, Literal

import msgspec

from protocol import terms
from protocol.documents import Price
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.terms import Constraint, Scalar, Terms


class TermsTableError(ValueError):
    """The administrator's table is wrong; the text says where and what would be right."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a parameter may be: at least, at most, or one of."""

    min: float | None = None
    max: float | None = None
    any_of: tuple[Scalar, ...] | None = None


class TermsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members of a `terms` table. What is left out is not permitted, or has its floor."""

    operations: tuple[str, ...]
    counterparties: tuple[str, ...]
    recipients: tuple[str, ...]
    purposes: tuple[str, ...]
    attesters: tuple[str, ...]
    deciders: tuple[str, ...]
    valid_for_days: Annotated[int, msgspec.Meta(ge=1, le=3650)]
    uses: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    price: Annotated[int, msgspec.Meta(ge=0)] = 0
    price_unit: Literal["edge", "row", "opening"] = "edge"
    committee_min: Annotated[int, msgspec.Meta(ge=3, le=64)] = 3
    contributors_min: Annotated[int, msgspec.Meta(ge=2, le=64)] = 2
    cohort_min: Annotated[int, msgspec.Meta(ge=1)] = 100
    numbers_per_row_max: Annotated[int, msgspec.Meta(ge=1)] = 8
    noise_min: Annotated[float, msgspec.Meta(ge=0)] = 0.3
    leakage: Literal["noise", "accept"] = "noise"
    parameters: dict[str, Bounds] = {}


def read(table: Mapping[str, Any]) -> TermsTable:
    """The table, each member checked; TermsTableError says which is wrong."""
    try:
        found = msgspec.convert(dict(table), TermsTable)
    except msgspec.ValidationError as error:
        raise TermsTableError(f"terms: {error}") from error
    if found.price >= 2**96:
        raise TermsTableError("terms.price must be below 2^96: the registry keeps no more")
    return found


def price_of(table: TermsTable) -> Price:
    """What one use costs."""
    return Price(amount=str(table.price), unit=table.price_unit)


def for_data(table: TermsTable, accounts: Mapping[str, Account], until: int) -> Terms:
    """The terms of a dataset: everything that touches its rows is constrained.

    `until` is the last second at which a grant may expire (Unix time).
    """
    permission = [
        *_common(table, accounts, until),
        _at_least(terms.COMMITTEE_SIZE, table.committee_min),
        _at_least(terms.CONTRIBUTORS, table.contributors_min),
        _at_least(terms.COHORT_SIZE, table.cohort_min),
        _at_most(terms.OPENINGS, table.numbers_per_row_max),
        _at_least(terms.NOISE, table.noise_min),
    ]
    for name, bounds in sorted(table.parameters.items()):
        permission += _bounded(terms.PARAMETER + name, bounds)
    return Terms(permission=tuple(permission), leakage=table.leakage)


def for_compute(table: TermsTable, accounts: Mapping[str, Account], until: int) -> Terms:
    """The terms of a compute node, which never sees a row."""
    return Terms(permission=tuple(_common(table, accounts, until)))


def _common(table: TermsTable, accounts: Mapping[str, Account], until: int) -> list[Constraint]:
    def named(member: str, organisations: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_account(f"terms.{member}", name, accounts) for name in organisations)

    return [
        _any_of(terms.OPERATION, table.operations),
        _any_of(terms.COUNTERPARTY, named("counterparties", table.counterparties)),
        _any_of(terms.OUTPUT_RECIPIENT, named("recipients", table.recipients)),
        _any_of(terms.PURPOSE, table.purposes),
        _any_of(terms.ATTESTER, named("attesters", table.attesters)),
        _any_of(terms.DECIDER, named("deciders", table.deciders)),
        _at_most(terms.EXPIRY, until),
        _at_most(terms.USES, table.uses),
        _at_least(terms.PAY_AMOUNT, str(table.price)),
    ]


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


def _bounded(operand: str, bounds: Bounds) -> list[Constraint]:
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
