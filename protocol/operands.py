"""The operands of terms: which operators fit each, which values, and what can never hold.

A policy is checked when it is read, not when the first request comes: a constraint of the wrong
type or one that nothing could fulfil is a slip of the administrator's, and would refuse everybody
without a word. The exception is an empty list, which says on purpose that nobody may.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

import msgspec

from protocol import moments, terms
from protocol.manifest import Parameters
from protocol.terms import Constraint, Operator, Scalar, Terms

Kind = Literal["text", "account", "hash", "whole", "number", "time", "amount"]

_SETS: Final[tuple[Operator, ...]] = ("eq", "isAnyOf", "isNoneOf")
_ORDERED: Final[tuple[Operator, ...]] = ("eq", "lteq", "gteq", "isAnyOf", "isNoneOf")


@dataclass(frozen=True, slots=True)
class Operand:
    """What stands on the left: its values are of one kind, from `low` to `high` or of `choices`."""

    kind: Kind
    operators: tuple[Operator, ...]
    low: float = -inf
    high: float = inf
    choices: tuple[str, ...] = ()

    @property
    def is_ordered(self) -> bool:
        """Whether its values can be more and less."""
        return self.kind in ("whole", "number", "time", "amount")

    @property
    def values(self) -> str:
        """Its values in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return {
            "text": "text",
            "account": "an account (0x and 40 hexadecimal digits in lower case)",
            "hash": "a SHA-256 (0x and 64 hexadecimal digits in lower case)",
            "whole": f"a whole number{self._range}",
            "number": f"a number{self._range}",
            "time": "seconds since 1970, up to the year 9999",
            "amount": "an amount as decimal text, below 2^96",
        }[self.kind]

    @property
    def _range(self) -> str:
        low = "" if self.low == -inf else f" from {self.low:g}"
        return low if self.high == inf else f"{low} to {self.high:g}"


def _whole(low: float, high: float = inf) -> Operand:
    return Operand("whole", _ORDERED, low, high)


OPERANDS: Final[dict[str, Operand]] = {
    terms.OPERATION: Operand("text", _SETS),
    terms.CODE: Operand("hash", _SETS),
    terms.COUNTERPARTY: Operand("account", _SETS),
    terms.OUTPUT_RECIPIENT: Operand("account", _SETS),
    terms.PURPOSE: Operand("text", _SETS),
    terms.EXPIRY: Operand("time", ("lteq", "gteq"), 0, moments.LAST),
    terms.USES: _whole(1, 2**31 - 1),
    terms.PAY_AMOUNT: Operand("amount", ("gteq",), 0, 2**96 - 1),
    terms.COMMITTEE_SIZE: _whole(3, 64),
    terms.OPERATORS: _whole(0, 64),
    terms.CONTRIBUTORS: _whole(0, 64),
    terms.COHORT_SIZE: _whole(1, 2**31 - 1),
    terms.OPENINGS: _whole(1),
    terms.NOISE: Operand("number", _ORDERED, 0, 100),
    terms.EPSILON: Operand("number", _ORDERED, 0),
    terms.LABELS: Operand("text", _SETS, choices=("seen-by-owners", "hidden")),
    terms.TESTED_IDS: _whole(1, 2**31 - 1),
    terms.ATTESTER: Operand("account", _SETS),
    terms.DECIDER: Operand("account", _SETS),
}
"""Every operand but those of an operation's parameters, which `find` knows too."""


def _parameter(kind: msgspec.inspect.Type) -> Operand:
    match kind:
        case msgspec.inspect.LiteralType(values=values):
            return Operand("text", _SETS, choices=tuple(map(str, values)))
        case msgspec.inspect.IntType(ge=low, le=high):
            return _whole(-inf if low is None else low, inf if high is None else high)
        case msgspec.inspect.FloatType(ge=low, gt=above, le=high, lt=below):
            lowest = low if low is not None else above
            highest = high if high is not None else below
            return Operand(
                "number",
                _ORDERED,
                -inf if lowest is None else lowest,
                inf if highest is None else highest,
            )
    return Operand("text", _SETS)


def _parameters() -> dict[str, Operand]:
    described = msgspec.inspect.type_info(Parameters)
    fields = described.fields if isinstance(described, msgspec.inspect.StructType) else ()
    return {terms.PARAMETER + field.name: _parameter(field.type) for field in fields}


PARAMETERS: Final = _parameters()
"""The parameters of the operations that this release knows, by their types."""


def find(name: str) -> Operand | None:
    """The operand of that name, or None if no request could ever state it."""
    return OPERANDS.get(name) or PARAMETERS.get(name)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the constraints on one operand, and what would be right."""

    operand: str
    sentence: str


def problems(policy: Terms) -> Iterator[Problem]:
    """Everything that is wrong with `policy`: unknown, of the wrong type, or never fulfilled."""
    constraints = [*policy.permission, *policy.duty, *policy.prohibition]
    wrong = set()
    for each in constraints:
        sentence = _misfit(each)
        if sentence:
            wrong.add(each.leftOperand)
            yield Problem(each.leftOperand, sentence)
    for name in dict.fromkeys(each.leftOperand for each in constraints):
        if name not in wrong and not is_possible(policy, name):
            yield Problem(name, _never(policy, name))


def _misfit(constraint: Constraint) -> str:
    """What is wrong with one constraint by itself, or nothing."""
    name = constraint.leftOperand
    operand = find(name)
    if operand is None:
        known = PARAMETERS if name.startswith(terms.PARAMETER) else OPERANDS
        return f"{name} is not known; known are {', '.join(sorted(known))}"
    if constraint.operator not in operand.operators:
        fitting = ", ".join(operand.operators)
        return f"the operator {constraint.operator} does not fit {name}; right would be {fitting}"
    right = constraint.rightOperand
    if isinstance(right, tuple) and constraint.operator not in ("isAnyOf", "isNoneOf"):
        return f"{constraint.operator} takes one value, not a list of {len(right)}"
    for value in right if isinstance(right, tuple) else (right,):
        if not _fits(operand, value):
            return f"{value!r:.80} is not {operand.values}"
    return ""


def _fits(operand: Operand, value: Scalar) -> bool:
    match operand.kind:
        case "text":
            return isinstance(value, str) and (not operand.choices or value in operand.choices)
        case "account" | "hash":
            digits = 40 if operand.kind == "account" else 64
            return isinstance(value, str) and _is_hexadecimal(value, digits)
        case "amount":
            return isinstance(value, str) and 0 <= terms.amount(value) <= operand.high
        case "time":
            return isinstance(value, int) and 0 <= value <= moments.LAST
    return not isinstance(value, str)  # a bound may be wider than what can be asked for


def _is_hexadecimal(value: str, digits: int) -> bool:
    return (
        value.startswith("0x")
        and len(value) == 2 + digits
        and all(digit in "0123456789abcdef" for digit in value[2:])
    )


def is_possible(policy: Terms, name: str) -> bool:
    """Whether some value of the operand fulfils all that `policy` says of it.

    An empty list counts as possible: it is how an owner says that nobody may.
    """
    said = on(policy, name)
    if any(each.operator == "isAnyOf" and each.rightOperand == () for each in said):
        return True
    return allows_some(policy, name)


def allows_some(policy: Terms, name: str) -> bool:
    """Whether some value of the operand fulfils all that `policy` says of it."""
    return any(allows(policy, name, value) for value in candidates(policy, name))


def on(policy: Terms, name: str) -> tuple[Constraint, ...]:
    """The constraints of permission and duty on one operand."""
    return tuple(each for each in (*policy.permission, *policy.duty) if each.leftOperand == name)


def allows(policy: Terms, name: str, value: Scalar) -> bool:
    """Whether `value` fulfils all that `policy` says of the operand, and is one of its values."""
    operand = find(name)
    return (
        operand is not None
        and _is_value(operand, value)
        and all(terms.holds(each, value) for each in on(policy, name))
        and not any(
            terms.holds(each, value) for each in policy.prohibition if each.leftOperand == name
        )
    )


def _is_value(operand: Operand, value: Scalar) -> bool:
    if not operand.is_ordered:
        return _fits(operand, value)
    number = terms.amount(value) if operand.kind == "amount" else value
    if isinstance(number, str) or not operand.low <= number <= operand.high:
        return False
    return operand.kind not in ("whole", "time") or float(number).is_integer()


def candidates(policy: Terms, name: str) -> tuple[Scalar, ...]:
    """Values of the operand of which one is allowed if any is: every bound and its neighbours.

    For text the values that are listed, and one that is listed nowhere.
    """
    operand = find(name)
    if operand is None:
        return ()
    listed = list(_listed(policy, name))
    if not operand.is_ordered:
        return (*operand.choices, *listed, *(() if operand.choices else (_elsewhere(operand),)))
    if operand.kind == "amount":
        amounts = [terms.amount(each) for each in listed]
        near = (each + by for each in (0, *amounts) for by in (0, -1, 1))
        return tuple(str(each) for each in near if each >= 0)
    step = 1 if operand.kind in ("whole", "time") else _STEP
    numbers = [each for each in listed if not isinstance(each, str)]
    bounds = [each for each in (operand.low, operand.high) if abs(each) != inf]
    around = [0 if step == 1 else 0.0, *numbers, *bounds]
    if step == 1:
        around = [*map(_floor, around), *(-_floor(-each) for each in around)]
    return tuple(each + by for each in around for by in (0, -step, step))


def nearest(policy: Terms, name: str, asked: Scalar) -> Scalar | None:
    """The value nearest to `asked` that `policy` allows for the operand, or None if none is.

    Of texts there is no nearer and farther: it is the first that is listed, never an invented one.
    """
    if allows(policy, name, asked):
        return asked
    listed = _listed if (found := find(name)) and not found.is_ordered else candidates
    passing = [value for value in listed(policy, name) if allows(policy, name, value)]
    return min(passing, key=lambda value: _distance(value, asked), default=None)


def _distance(value: Scalar, asked: Scalar) -> float:
    """0 between texts. Between texts that spell amounts, the difference of the amounts."""
    if isinstance(value, str) and isinstance(asked, str):
        return abs(terms.amount(value) - terms.amount(asked)) if value.isdecimal() else 0
    return 0 if isinstance(value, str) or isinstance(asked, str) else abs(value - asked)


_STEP = 1e-9


def _floor(value: float) -> int:
    return int(value // 1)


def _elsewhere(operand: Operand) -> str:
    digits = {"account": 40, "hash": 64}.get(operand.kind)
    return "0x" + "0" * digits if digits else "\x00"


def _listed(policy: Terms, name: str) -> Iterator[Scalar]:
    for each in (*policy.permission, *policy.duty, *policy.prohibition):
        if each.leftOperand == name:
            right = each.rightOperand
            yield from right if isinstance(right, tuple) else (right,)


def _never(policy: Terms, name: str) -> str:
    said = [terms.allowed(each) for each in on(policy, name)]
    said += [terms.forbidden(each) for each in policy.prohibition if each.leftOperand == name]
    operand = find(name)
    values = operand.values if operand else "nothing"
    return f"no request can fulfil this: {' and '.join(said)}, where it is {values}"
