"""From findings to a verdict: permit, counter, refer or refuse, and the values that would pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import terms
from protocol.ids import hexadecimal
from protocol.judgement import CHANGEABLE, judged, nearest
from protocol.messages import ContractRequest
from protocol.terms import Constraint, Finding, Terms, evaluate
from tests.protocol.policies import WILD_POLICIES

NOW = 1_800_000_000
D, X = b"\xdd" * 20, b"\xab" * 20


def said(operand: str, operator: str, value: object) -> Constraint:
    return Constraint(leftOperand=operand, operator=operator, rightOperand=value)


POLICY = Terms(
    permission=(
        said(terms.ATTESTER, "isAnyOf", (hexadecimal(D),)),
        said(terms.DECIDER, "isAnyOf", (hexadecimal(X),)),
        said(terms.EXPIRY, "lteq", NOW + 1000),
        said(terms.USES, "lteq", 5),
    ),
    duty=(said(terms.PAY_AMOUNT, "gteq", "100"),),
)


def request(**changes: object) -> ContractRequest:
    plain: dict[str, object] = {
        "process": bytes(32),
        "child": bytes(32),
        "parent": bytes(32),
        "parent_proof": bytes(32),
        "consumer": bytes(20),
        "attester": D,
        "decider": X,
        "pay_amount": "100",
        "uses": 1,
        "expires": NOW + 10,
    }
    return ContractRequest(**(plain | changes))  # type: ignore[arg-type]


def failed(operand: str) -> Finding:
    return Finding(operand, "this", "that", passed=False)


PASSED = Finding(terms.PURPOSE, "this", "this", passed=True)
OFFER = nearest(POLICY, request(), now=NOW)


def test_nothing_failed_is_yes() -> None:
    assert judged([PASSED], [PASSED]).verdict == "permit"


@pytest.mark.parametrize("operand", CHANGEABLE)
def test_what_the_consumer_can_change_is_countered_if_something_passes(operand: str) -> None:
    judgement = judged([PASSED, failed(operand)], [PASSED], offer=OFFER)
    assert (judgement.verdict, judgement.counter) == ("counter", OFFER)
    assert judged([failed(operand)], []).verdict == "refuse"


def test_what_needs_another_document_is_refused() -> None:
    findings = [failed(terms.USES), failed(terms.PURPOSE)]
    assert judged(findings, [], offer=OFFER).verdict == "refuse"


def test_what_the_owner_wants_a_person_to_decide_is_referred() -> None:
    judgement = judged([PASSED, failed(terms.PURPOSE)], [], referable=terms.PURPOSE.__eq__)
    assert judgement.verdict == "refer"
    assert judgement.referred == (failed(terms.PURPOSE),)


def test_an_offer_comes_first_where_a_person_alone_could_not_mend_it() -> None:
    findings = [failed(terms.USES), failed(terms.PURPOSE)]
    judgement = judged(findings, [], offer=OFFER, referable=terms.PURPOSE.__eq__)
    assert judgement.verdict == "counter"
    assert judgement.referred == (failed(terms.PURPOSE),)


def test_what_is_firm_is_neither_referred_nor_waived_nor_offered() -> None:
    """Also where the terms say the very same: a floor stands by itself."""
    both = failed(terms.CONTRIBUTORS)
    judgement = judged(
        [both], [both], offer=OFFER, referable=lambda _: True, waived={terms.CONTRIBUTORS}
    )
    assert judgement.verdict == "refuse"
    assert judgement.failures == (both,)
    assert judgement.counter is None


def test_what_a_person_waived_passes_and_says_so() -> None:
    judgement = judged([failed(terms.PURPOSE)], [PASSED], waived={terms.PURPOSE})
    assert judgement.verdict == "permit"
    assert judgement.findings[0].allowed == "that, but a person waived it"


@given(
    st.integers(0, 300),
    st.integers(1, 9),
    st.integers(NOW - 10, NOW + 2000),
    st.sampled_from([D, X]),
    st.sampled_from([D, X]),
)
def test_an_offer_passes_and_keeps_what_passed(
    amount: int, uses: int, expires: int, attester: bytes, decider: bytes
) -> None:
    asked = request(
        pay_amount=str(amount), uses=uses, expires=expires, attester=attester, decider=decider
    )
    offer = nearest(POLICY, asked, now=NOW)
    assert offer is not None
    facts = {
        terms.PAY_AMOUNT: offer.pay_amount,
        terms.USES: offer.uses,
        terms.EXPIRY: offer.expires,
        terms.ATTESTER: hexadecimal(offer.attester),
        terms.DECIDER: hexadecimal(offer.decider),
    }
    decision = evaluate(POLICY, facts)
    assert [each.operand for each in decision.failures] == [
        name for name in terms.REQUIRED if name not in facts
    ]
    assert offer.expires > NOW
    assert offer.pay_amount == str(max(100, amount))
    assert offer.uses == min(5, uses)
    assert offer.expires == max(NOW + 1, min(NOW + 1000, expires))


@given(WILD_POLICIES)
def test_whatever_terms_a_peer_publishes_an_offer_is_one_or_none(policy: Terms) -> None:
    offer = nearest(policy, request(), now=NOW)
    assert offer is None or (offer.uses >= 1 and offer.expires > NOW)


def test_limits_that_leave_nothing_leave_no_offer() -> None:
    none_left = said(terms.USES, "lteq", 0)
    assert nearest(POLICY, request(), now=NOW, limits=[none_left]) is None
    assert nearest(POLICY, request(), now=NOW + 2000) is None
    two_left = said(terms.USES, "lteq", 2)
    offer = nearest(POLICY, request(uses=4), now=NOW, limits=[two_left])
    assert offer is not None
    assert offer.uses == 2
