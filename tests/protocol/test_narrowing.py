"""Along a composition terms only narrow, and whoever promises more is told by which child."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import narrowing, operands, terms
from protocol.errors import RemoteProtocolError
from protocol.narrowing import Composed
from protocol.terms import Constraint, Scalar, Terms, evaluate
from tests.protocol.policies import NAMES, WILD_POLICIES, facts, policies

WIDTH = "cdt:parameter.width"
FEW = (WIDTH, terms.PURPOSE, terms.LABELS, terms.USES, terms.NOISE, terms.PAY_AMOUNT)


def said(operand: str, operator: str, value: object) -> Constraint:
    return Constraint(leftOperand=operand, operator=operator, rightOperand=value)


def width(most: int) -> Terms:
    return Terms(permission=(said(WIDTH, "lteq", most),))


def trees(names: tuple[str, ...] = NAMES) -> st.SearchStrategy[Composed]:
    leaf = st.builds(Composed, st.just("leaf"), policies(names))
    return st.recursive(
        leaf,
        lambda below: st.builds(
            Composed,
            st.sampled_from(["a", "b"]),
            st.none() | policies(names),
            st.lists(below, min_size=1, max_size=3).map(tuple),
        ),
        max_leaves=4,
    ).filter(lambda tree: tree.height <= narrowing.MAX_HEIGHT)


@settings(max_examples=40)
@given(trees(), facts())
def test_what_a_composition_permits_everything_below_permits(
    tree: Composed, asked: dict[str, Scalar]
) -> None:
    whole = evaluate(narrowing.effective(tree), asked).permitted
    each = [evaluate(part, asked).permitted for _, part in narrowing.spoken(tree)]
    assert not whole or all(each)
    failed = [located for located in narrowing.judge(tree, asked) if not located.finding.passed]
    assert (not failed) == all(each)


@settings(max_examples=40)
@given(trees(), policies(), facts())
def test_another_child_or_other_terms_only_take_away(
    tree: Composed, more: Terms, asked: dict[str, Scalar]
) -> None:
    wider = Composed("top", more, (tree, Composed("other", more)))
    if evaluate(narrowing.effective(wider), asked).permitted:
        assert evaluate(narrowing.effective(tree), asked).permitted


@settings(max_examples=40)
@given(policies(FEW), policies(FEW), facts(FEW))
def test_terms_that_are_not_laxer_allow_nothing_that_a_child_refuses(
    own: Terms, below: Terms, asked: dict[str, Scalar]
) -> None:
    tree = Composed("top", own, (Composed("leaf", below),))
    named = {located.finding.operand for located in narrowing.laxer(tree)}
    constraints = {each.leftOperand for each in (*below.permission, *below.duty)}
    for name, value in asked.items():
        if name in constraints - named:
            alone = {name: value}
            ours = [f for f in evaluate(own, alone).findings if f.operand == name]
            theirs = [f for f in evaluate(below, alone).findings if f.operand == name]
            if all(each.passed for each in ours):
                assert all(each.passed for each in theirs)


@given(policies(FEW))
def test_the_same_terms_are_not_laxer(policy: Terms) -> None:
    assert narrowing.laxer(Composed("top", policy, (Composed("leaf", policy),))) == ()


@settings(max_examples=60)
@given(WILD_POLICIES, WILD_POLICIES, facts())
def test_whatever_peers_publish_is_judged_without_harm(
    own: Terms, below: Terms, asked: dict[str, Scalar]
) -> None:
    tree = Composed("top", own, (Composed("leaf", below),))
    assert all(each.sentence for each in narrowing.judge(tree, asked))
    assert all(each.sentence for each in narrowing.laxer(tree))
    assert all(each.sentence for each in operands.problems(narrowing.effective(tree)))


def test_the_failing_child_is_named_with_its_path() -> None:
    deep = Composed("all", width(8), (
        Composed("north", None, (Composed("branch-1", width(8)), Composed("branch-2", width(4)))),
        Composed("south", width(9)),
    ))  # fmt: skip
    (located,) = narrowing.laxer(deep)
    assert located.path == ("all", "north", "branch-2")
    assert located.finding.asked == "at most 8"
    assert located.finding.allowed == "at most 4"
    failed = [each for each in narrowing.judge(deep, {WIDTH: 5}) if not each.finding.passed]
    assert ("all", "north", "branch-2") in {
        each.path for each in failed if each.finding.operand == WIDTH
    }
    assert "all > north > branch-2: parameter width: 5 was asked, at most 4" in "\n".join(
        each.sentence for each in failed
    )


def test_a_child_that_says_nothing_allows_nobody() -> None:
    silent = Composed("top", None, (Composed("leaf", None),))
    assert not evaluate(narrowing.effective(silent), {}).permitted
    assert {each.finding.operand for each in narrowing.judge(silent, {})} == set(terms.REQUIRED)


def test_prohibitions_and_prices_below_count_too() -> None:
    below = Terms(
        permission=(),
        prohibition=(said(terms.PURPOSE, "eq", "marketing"),),
        duty=(said(terms.PAY_AMOUNT, "gteq", "10"),),
    )
    own = Terms(
        permission=(said(terms.PURPOSE, "isAnyOf", ("marketing", "risk")),),
        duty=(said(terms.PAY_AMOUNT, "gteq", "9"),),
    )
    found = narrowing.laxer(Composed("top", own, (Composed("leaf", below),)))
    assert [(each.finding.operand, each.finding.allowed) for each in found] == [
        (terms.PAY_AMOUNT, "at least 10"),
        (terms.PURPOSE, "anything but marketing"),
        (terms.PURPOSE, "nothing"),
    ]


def test_a_tree_that_is_too_high_is_refused() -> None:
    tree = Composed("leaf", width(1))
    for number in range(5):
        tree = Composed(str(number), None, (tree,))
    with pytest.raises(RemoteProtocolError, match="higher than 4"):
        narrowing.effective(tree)


@given(st.integers(1, 70), st.integers(1, 70))
def test_leakage_is_accepted_only_where_everybody_accepts_it(one: int, two: int) -> None:
    accepts = Terms(permission=width(one).permission, leakage="accept")
    both = Composed("top", None, (Composed("a", accepts), Composed("b", width(two))))
    assert narrowing.effective(both).leakage == "noise"
    assert narrowing.effective(Composed("a", accepts)).leakage == "accept"
