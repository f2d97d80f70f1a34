"""Terms back as the TOML table that an administrator would write: what an import shows.

The table never allows more than the terms. Where they are silent about what every table must say,
it says the least: nobody, one use, no time at all. What no member says becomes a rule.
"""

from collections.abc import Iterator

from protocol import moments, operands, terms
from protocol.terms import Constraint, Operator, Scalar, Terms
from protocol.terms_table import TermsTableError

_LISTS = {
    "operations": terms.OPERATION,
    "codes": terms.CODE,
    "counterparties": terms.COUNTERPARTY,
    "recipients": terms.OUTPUT_RECIPIENT,
    "purposes": terms.PURPOSE,
    "attesters": terms.ATTESTER,
    "deciders": terms.DECIDER,
    "labels": terms.LABELS,
}
_NEEDED = ("operations", "counterparties", "recipients", "purposes", "attesters", "deciders")
_BOUNDS: dict[str, tuple[str, Operator, float, float]] = {
    "uses": (terms.USES, "lteq", 1, 2**31 - 1),
    "committee_min": (terms.COMMITTEE_SIZE, "gteq", 3, 64),
    "operators_min": (terms.OPERATORS, "gteq", 2, 64),
    "contributors_min": (terms.CONTRIBUTORS, "gteq", 2, 64),
    "cohort_min": (terms.COHORT_SIZE, "gteq", 1, 2**31),
    "numbers_per_row_max": (terms.OPENINGS, "lteq", 1, 2**31),
    "tested_ids_max": (terms.TESTED_IDS, "lteq", 1, 2**31 - 1),
    "noise_min": (terms.NOISE, "gteq", 0, 100),
    "epsilon_max": (terms.EPSILON, "lteq", 1e-9, 1e9),
}
_SILENT = "  # the policy is silent here: the least"


def table_of(policy: Terms, price_unit: str, *, data: bool) -> str:
    """The `terms` table as TOML text, of a dataset or of a compute asset.

    TermsTableError if the policy only says who or what is NOT allowed where a table needs a list
    of who or what is, or if it asks of a compute asset what only rows can fulfil.
    """
    left = [*policy.permission, *policy.duty]
    name = "datasets.terms" if data else "compute.terms"
    lines = [
        f"[{name}]",
        *_lists(left),
        *_time(left),
        *_bounds(left, data=data),
        *_price(left, price_unit),
    ]
    if policy.leakage != "noise" and data:
        lines.append(f'leakage = "{policy.leakage}"')
    parameters = list(_parameters(left)) if data else []
    if parameters:
        lines += ["", f"[{name}.parameters]", *parameters]
    for member, rules in (
        ("permission", [each for each in left if each.leftOperand != terms.PAY_AMOUNT]),
        ("prohibition", policy.prohibition),
        ("duty", [each for each in left if each.leftOperand == terms.PAY_AMOUNT]),
    ):
        for rule in rules:
            lines += ["", f"[[{name}.{member}]]", *_rule(rule)]
    return "\n".join(lines) + "\n"


def _take(left: list[Constraint], operand: str, *fitting: Operator) -> Constraint | None:
    """The first constraint on the operand by one of these operators; it is taken out of `left`."""
    for each in left:
        if each.leftOperand == operand and each.operator in fitting:
            left.remove(each)
            return each
    return None


def _lists(left: list[Constraint]) -> Iterator[str]:
    for member, operand in _LISTS.items():
        spoken = any(each.leftOperand == operand for each in left)
        found = _take(left, operand, "isAnyOf", "eq")
        if found is not None:
            right = found.rightOperand
            yield f"{member} = {_toml(right if isinstance(right, tuple) else (right,))}"
        elif member in _NEEDED and spoken:
            raise TermsTableError(
                f"{operand}: the policy says what is not allowed and not what is; a table needs "
                f"a list under {member}"
            )
        elif member in _NEEDED:
            yield f"{member} = []{_SILENT}"


def _time(left: list[Constraint]) -> Iterator[str]:
    found = _take(left, terms.EXPIRY, "lteq")
    last = 0 if found is None else int(str(found.rightOperand))
    moment = moments.text(min(max(last, 0), moments.LAST))
    yield f"valid_until = {moment}{_SILENT if found is None else ''}"


def _bounds(left: list[Constraint], *, data: bool) -> Iterator[str]:
    for member, (operand, operator, low, high) in _BOUNDS.items():
        if not data and member != "uses":
            continue
        found = _take(left, operand, operator)
        if found is None:
            if member == "uses":
                yield f"uses = 1{_SILENT}"
            continue
        right = found.rightOperand
        whole = member in ("noise_min", "epsilon_max") or float(str(right)).is_integer()
        if isinstance(right, int | float) and low <= right <= high and whole:
            yield f"{member} = {_number(right)}"
        else:
            left.append(found)
            if member == "uses":
                yield f"uses = 1{_SILENT}"


def _price(left: list[Constraint], price_unit: str) -> Iterator[str]:
    found = _take(left, terms.PAY_AMOUNT, "gteq")
    if found is not None:
        yield f"price = {terms.amount(found.rightOperand)}"
    yield f'price_unit = "{price_unit}"'


def _parameters(left: list[Constraint]) -> Iterator[str]:
    for operand in operands.PARAMETERS:
        said = []
        for member, operator in (("min", "gteq"), ("max", "lteq"), ("any_of", "isAnyOf")):
            found = _take(left, operand, operator)  # type: ignore[arg-type]
            if found is not None:
                said.append(f"{member} = {_toml(found.rightOperand)}")
        if said:
            yield f"{operand.removeprefix(terms.PARAMETER)} = {{ {', '.join(said)} }}"


def _rule(rule: Constraint) -> list[str]:
    return [
        f'operand = "{rule.leftOperand}"',
        f'operator = "{rule.operator}"',
        f"value = {_toml(rule.rightOperand)}",
    ]


def _toml(value: Scalar | tuple[Scalar, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return _quoted(value) if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def _quoted(text: str) -> str:
    """A TOML basic string; everything that is not a plain letter is escaped."""
    return '"' + "".join(_letter(each) for each in text) + '"'


def _letter(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
