"""Policies for hypothesis: any terms that are right by themselves, and facts to ask with."""

from hypothesis import strategies as st

from protocol import operands, terms
from protocol.terms import Constraint, Terms

ACCOUNTS = tuple("0x" + digit * 40 for digit in "abc")
HASHES = tuple("0x" + digit * 64 for digit in "12")
TEXTS = ("risk", "marketing", "score", 'a "quoted" \\ \x07 word')


def _values(operand: operands.Operand) -> st.SearchStrategy[terms.Scalar]:
    if operand.choices:
        return st.sampled_from(operand.choices)
    match operand.kind:
        case "account":
            return st.sampled_from(ACCOUNTS)
        case "hash":
            return st.sampled_from(HASHES)
        case "text":
            return st.sampled_from(TEXTS)
        case "amount":
            return st.integers(0, 2**96 - 1).map(str)
        case "time":
            return st.integers(10**9, 2 * 10**9)
        case "whole":
            return st.integers(1, 70)
    return st.floats(0, 12, width=16) | st.integers(0, 12)


@st.composite
def constraints(draw: st.DrawFn, name: str) -> Constraint:
    operand = operands.find(name)
    assert operand is not None
    operator = draw(st.sampled_from(operand.operators))
    if operator in ("isAnyOf", "isNoneOf"):
        value = draw(_values(operand) | st.lists(_values(operand), max_size=3).map(tuple))
    else:
        value = draw(_values(operand))
    return Constraint(leftOperand=name, operator=operator, rightOperand=value)


NAMES = (*operands.OPERANDS, *operands.PARAMETERS)
UNPAID = tuple(name for name in NAMES if name != terms.PAY_AMOUNT)


@st.composite
def policies(draw: st.DrawFn, names: tuple[str, ...] = UNPAID, most: int = 6) -> Terms:
    """Terms of the right types that something could fulfil."""
    some = st.sampled_from(names).flatmap(constraints)
    built = Terms(
        permission=tuple(draw(st.lists(some, max_size=most))),
        prohibition=tuple(draw(st.lists(some, max_size=3))),
        duty=tuple(draw(st.lists(constraints(terms.PAY_AMOUNT), max_size=2))),
        leakage=draw(st.sampled_from(["noise", "accept"])),
    )
    problems = {each.operand for each in operands.problems(built)}

    def right(said: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        return tuple(each for each in said if each.leftOperand not in problems)

    return Terms(
        permission=right(built.permission),
        prohibition=right(built.prohibition),
        duty=right(built.duty),
        leakage=built.leakage,
    )


ANYTHING = st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=4)
WILD = st.builds(
    Constraint,
    leftOperand=st.sampled_from((*NAMES, "cdt:colour", "cdt:parameter.depth", "odrl:spatial")),
    operator=st.sampled_from(["eq", "lteq", "gteq", "isAnyOf", "isNoneOf"]),
    rightOperand=ANYTHING | st.lists(ANYTHING, max_size=3).map(tuple),
)
"""Constraints as a peer's document may hold them: well formed, and otherwise anything."""
WILD_POLICIES = st.builds(
    Terms,
    permission=st.lists(WILD, max_size=6).map(tuple),
    prohibition=st.lists(WILD, max_size=3).map(tuple),
    duty=st.lists(WILD, max_size=2).map(tuple),
)


@st.composite
def facts(draw: st.DrawFn, names: tuple[str, ...] = NAMES) -> dict[str, terms.Scalar]:
    """What a request states of some of the operands."""
    stated = draw(st.lists(st.sampled_from(names), unique=True))
    return {name: draw(_values(operands.find(name))) for name in stated}
