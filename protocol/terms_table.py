"""Terms as an administrator writes them in TOML; `terms_policy` makes constraints of them.

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

from protocol import moments, terms
from protocol.documents import Price
from protocol.errors import RemoteProtocolError
from protocol.terms import Operator, Scalar

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
"""What a person may waive for one request. Noise, epsilon, openings, tested ids and rows in
common are not among them: they protect the people in the rows, whom no consumer's good reason
protects."""

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
    valid_until: str | None = None
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
    tested_ids_max: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] | None = None
    parameters: dict[str, Bounds] = {}
    permission: tuple[Rule, ...] = ()
    prohibition: tuple[Rule, ...] = ()
    duty: tuple[Rule, ...] = ()
    refer: tuple[Referable, ...] = ()
    refer_days: Annotated[int, msgspec.Meta(ge=1, le=60)] = 7


_OF_ROWS = (
    "cohort_min",
    "numbers_per_row_max",
    "noise_min",
    "epsilon_max",
    "leakage",
    "tested_ids_max",
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
        found = msgspec.convert(plain(table), TermsTable)
    except msgspec.ValidationError as error:
        raise TermsTableError(f"terms: {error}") from error
    if found.price >= 2**96:
        raise TermsTableError("terms.price must be below 2^96: the registry keeps no more")
    if found.valid_for_days is None and found.valid_until is None:
        raise TermsTableError("terms: say how long they hold, by valid_for_days or valid_until")
    if found.valid_until is not None:
        _seconds(found.valid_until)
    idle = [] if data else [member for member in _OF_ROWS if member in table]
    if idle:
        raise TermsTableError(
            f"terms.{idle[0]} says something of rows, and a compute asset has none: leave it out"
        )
    return found


def plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with TOML's own moments as text."""
    return {
        member: value.isoformat() if hasattr(value, "isoformat") else value
        for member, value in table.items()
    }


def _seconds(moment: str) -> int:
    try:
        return moments.seconds(moment)
    except RemoteProtocolError as error:
        raise TermsTableError(f"terms.valid_until: {error}") from error


def price_of(table: TermsTable) -> Price:
    """What one use costs: the highest of the prices that the table states."""
    duties = (terms.amount(rule.value) for rule in table.duty)
    return Price(amount=str(max([table.price, *duties])), unit=table.price_unit)


def until(table: TermsTable, published_at: float) -> int:
    """The last second at which a grant may expire, for an asset published at `published_at`."""
    ends = []
    if table.valid_for_days is not None:
        ends.append(int(published_at) + table.valid_for_days * DAY_S)
    if table.valid_until is not None:
        ends.append(_seconds(table.valid_until))
    return min(ends)


def referable(table: TermsTable, operand: str) -> bool:
    """Whether a person may waive what the terms say of this operand."""
    name = terms.PARAMETER if operand.startswith(terms.PARAMETER) else operand
    return any(_REFERABLE[member] == name for member in table.refer)
