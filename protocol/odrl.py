"""Terms of use as ODRL (W3C Information Model 2.2, JSON-LD), written and read.

    {"@context": ["http://www.w3.org/ns/odrl.jsonld", {"cdt": "urn:northbund:cdt:"}],
     "@type": "Set", "uid": ..., "profile": "urn:northbund:odrl:1", "conflict": "prohibit",
     "permission": [{"target": ..., "action": "use", "constraint": [...],
                     "duty": [{"action": "compensate", "constraint": [...]}]}],
     "prohibition": [{"target": ..., "action": "use", "constraint": [...]}]}

A subset: one permission, whose constraints hold together; each prohibition has one constraint; the
one duty is to compensate. What else a policy says is refused by name and place, because a
constraint that is left out would be a permission that its author never gave.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from protocol import moments, operands, terms
from protocol.documents import terms_hash
from protocol.errors import RemoteProtocolError
from protocol.terms import Constraint, Operator, Scalar, Terms

ODRL = "http://www.w3.org/ns/odrl/2/"
CONTEXT = "http://www.w3.org/ns/odrl.jsonld"
CDT = "urn:northbund:cdt:"
PROFILE = "urn:northbund:odrl:1"

_OPERATORS = get_args(Operator)
_POLICY = {
    "@context",
    "@type",
    "uid",
    "profile",
    "conflict",
    "permission",
    "prohibition",
    "cdt:leakage",
}
_CONSTRAINT = {"leftOperand", "operator", "rightOperand", "unit"}
_INTEGER = "xsd:integer"
_DECIMALS = ("xsd:decimal", "xsd:double", "xsd:float")
_TIME = "xsd:dateTime"

PriceUnit = Literal["edge", "row", "opening"]


class OdrlError(ValueError):
    """The policy says what the subset does not know; the text says what and where."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy about one asset: `target` is its name, `currency` that of the price, as IRIs."""

    target: str
    terms: Terms
    price_unit: PriceUnit
    currency: str


def write(policy: Policy) -> dict[str, Any]:
    """The policy as a JSON-LD object; `uid` follows from the terms alone."""
    payment = {
        "action": "compensate",
        "cdt:per": policy.price_unit,
        "constraint": [_written(each) | {"unit": policy.currency} for each in policy.terms.duty],
    }
    permission: dict[str, Any] = {
        "target": policy.target,
        "action": "use",
        "constraint": [_written(each) for each in policy.terms.permission],
    }
    written: dict[str, Any] = {
        "@context": [CONTEXT, {"cdt": CDT}],
        "@type": "Set",
        "uid": f"urn:sha256:{terms_hash(policy.terms).hex()}",
        "profile": PROFILE,
        "conflict": "prohibit",
        "cdt:leakage": policy.terms.leakage,
        "permission": [permission | {"duty": [payment]}],
    }
    if policy.terms.prohibition:
        written["prohibition"] = [
            {"target": policy.target, "action": "use", "constraint": [_written(each)]}
            for each in policy.terms.prohibition
        ]
    return written


def _written(constraint: Constraint) -> dict[str, Any]:
    right = constraint.rightOperand
    name = constraint.leftOperand
    return {
        "leftOperand": name.removeprefix("odrl:"),
        "operator": constraint.operator,
        "rightOperand": [_value(name, each) for each in right]
        if isinstance(right, tuple)
        else _value(name, right),
    }


def _value(name: str, value: Scalar) -> Any:
    if name == terms.EXPIRY and isinstance(value, int):
        return {"@value": moments.text(min(max(value, 0), moments.LAST)), "@type": _TIME}
    if name == terms.PAY_AMOUNT:
        return {"@value": str(value), "@type": "xsd:decimal"}
    return value


# ---------------------------------------------------------------------- reading


def read(found: Any) -> Policy:
    """The policy that a JSON-LD object says; OdrlError names what the subset does not know."""
    policy = _object(found, "the policy", _POLICY)
    _expect(policy, "the policy", "@type", ("Set", "odrl:Set", "Policy", "odrl:Policy", None))
    _expect(policy, "the policy", "profile", (PROFILE, None))
    _expect(policy, "the policy", "conflict", ("prohibit", "odrl:prohibit", None))
    _expect(policy, "the policy", "cdt:leakage", ("noise", "accept", None))
    permissions = _list(policy.get("permission", []), "permission")
    if len(permissions) != 1:
        raise OdrlError(f"permission: {len(permissions)} stand there, and one is possible here")
    permission = _rule(permissions[0], "permission number 1", {"duty"})
    duty, price_unit, currency = _duties(permission)
    built = Terms(
        permission=_constraints(permission, "permission number 1"),
        prohibition=tuple(
            _prohibited(each, f"prohibition number {number}")
            for number, each in enumerate(_list(policy.get("prohibition", []), "prohibition"), 1)
        ),
        duty=duty,
        leakage=policy.get("cdt:leakage", "noise"),
    )
    problem = next(operands.problems(built), None)
    if problem is not None:
        raise OdrlError(f"{problem.operand}: {problem.sentence}")
    return Policy(str(permission["target"]), built, price_unit, currency)


def _rule(found: Any, where: str, further: set[str]) -> dict[str, Any]:
    rule = _object(found, where, {"target", "action", "constraint"} | further)
    _expect(rule, where, "action", ("use", "odrl:use"))
    if not isinstance(rule.get("target"), str):
        raise OdrlError(f"{where}: it needs a target, the asset that it is about")
    return rule


def _prohibited(found: Any, where: str) -> Constraint:
    constraints = _constraints(_rule(found, where, set()), where)
    if len(constraints) != 1:
        raise OdrlError(
            f"{where}: {len(constraints)} constraints stand there; write a prohibition for each"
        )
    return constraints[0]


def _duties(permission: Mapping[str, Any]) -> tuple[tuple[Constraint, ...], PriceUnit, str]:
    duties = _list(permission.get("duty", []), "permission number 1, duty")
    if not duties:
        return (), "edge", ""
    if len(duties) != 1:
        raise OdrlError("permission number 1, duty: to compensate is the one duty that is known")
    where = "permission number 1, duty number 1"
    duty = _object(duties[0], where, {"action", "constraint", "cdt:per"})
    _expect(duty, where, "action", ("compensate", "odrl:compensate"))
    _expect(duty, where, "cdt:per", ("edge", "row", "opening", None))
    constraints = _constraints(duty, where)
    for each in constraints:
        if each.leftOperand != terms.PAY_AMOUNT:
            raise OdrlError(f"{where}: {each.leftOperand} is nothing that is paid")
    units = [str(each.get("unit", "")) for each in _list(duty.get("constraint", []), where)]
    return constraints, duty.get("cdt:per", "edge"), units[0] if units else ""


def _constraints(rule: Mapping[str, Any], where: str) -> tuple[Constraint, ...]:
    found = _list(rule.get("constraint", []), f"{where}, constraint")
    return tuple(
        _constraint(each, f"{where}, constraint number {number}")
        for number, each in enumerate(found, 1)
    )


def _constraint(found: Any, where: str) -> Constraint:
    constraint = _object(found, where, _CONSTRAINT)
    for member in ("leftOperand", "operator", "rightOperand"):
        if member not in constraint:
            raise OdrlError(f"{where}: {member} is missing")
    name = _operand(constraint["leftOperand"], where)
    operator = _short(constraint["operator"])
    if operator not in _OPERATORS:
        known = ", ".join(_OPERATORS)
        raise OdrlError(f"{where}: the operator {operator!r:.80} is not known; known are {known}")
    if "unit" in constraint and name != terms.PAY_AMOUNT:
        raise OdrlError(f"{where}: only a price has a unit")
    right = constraint["rightOperand"]
    if isinstance(right, dict) and "@list" in right:
        right = right["@list"]
    values = right if isinstance(right, list) else [right]
    read_values = tuple(_scalar(each, name, where) for each in values)
    return Constraint(
        leftOperand=name,
        operator=operator,
        rightOperand=read_values if isinstance(right, list) else read_values[0],
    )


def _operand(found: Any, where: str) -> str:
    name = _short(found)
    if isinstance(name, str):
        full = name if name.startswith("cdt:") else f"odrl:{name}"
        if operands.find(full) is not None:
            return full
    known = ", ".join(each.removeprefix("odrl:") for each in operands.OPERANDS)
    raise OdrlError(f"{where}: the left operand {found!r:.80} is not known; known are {known}")


def _short(found: Any) -> Any:
    """A term without ODRL's own prefix; terms of this profile with `cdt:`."""
    if not isinstance(found, str):
        return found
    if found.startswith(CDT):
        return "cdt:" + found.removeprefix(CDT)
    return found.removeprefix(ODRL).removeprefix("odrl:")


def _scalar(found: Any, name: str, where: str) -> Scalar:
    kind = None
    if isinstance(found, dict):
        literal = _object(found, f"{where}, rightOperand", {"@value", "@type"})
        found, kind = literal.get("@value"), literal.get("@type")
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise OdrlError(f"{where}: the right operand {found!r:.80} is neither text nor number")
    try:
        if name == terms.EXPIRY and isinstance(found, str):
            return moments.seconds(found)
        if kind == _INTEGER:
            return int(found)
        return float(found) if kind in _DECIMALS and name != terms.PAY_AMOUNT else found
    except RemoteProtocolError as error:
        raise OdrlError(f"{where}: {error}") from error
    except (ValueError, OverflowError):
        raise OdrlError(f"{where}: {found!r:.80} is not of type {kind}") from None


def _object(found: Any, where: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise OdrlError(f"{where} is no object")
    strange = next((member for member in found if member not in known), None)
    if strange is not None:
        raise OdrlError(
            f"{where}: {strange!r:.80} is not part of the subset; known are "
            f"{', '.join(sorted(known))}"
        )
    return found


def _list(found: Any, where: str) -> list[Any]:
    if isinstance(found, dict):  # JSON-LD writes a list of one without brackets
        return [found]
    if not isinstance(found, list):
        raise OdrlError(f"{where} is no list")
    return found


def _expect(found: Mapping[str, Any], where: str, member: str, right: tuple[Any, ...]) -> None:
    value = found.get(member)
    if value not in right:
        known = ", ".join(each for each in right if each is not None)
        raise OdrlError(f"{where}: {member} is {value!r:.80}; right would be {known}")
