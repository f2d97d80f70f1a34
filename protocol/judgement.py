"""What follows from the findings on a request: yes, another offer, a person's decision, or no.

- `permit`: nothing failed.
- `refer`: all that failed is what the owner wants a person to decide.
- `counter`: besides that, what failed is what the consumer can change without another document
  (price, uses, expiry, attester, decider), and there are values that pass.
- `refuse`: anything else. A floor of privacy or other code is never offered and never referred.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from protocol import operands, terms
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.messages import ContractRequest
from protocol.terms import Constraint, Finding, Scalar, Terms

Verdict = Literal["permit", "counter", "refer", "refuse"]

CHANGEABLE = (terms.PAY_AMOUNT, terms.USES, terms.EXPIRY, terms.ATTESTER, terms.DECIDER)
"""What a request states by itself, apart from the algorithm's document."""


@dataclass(frozen=True, slots=True)
class CounterTerms:
    """The values nearest to a request's own that would pass; `expires` is Unix seconds."""

    pay_amount: str
    uses: int
    expires: int
    attester: Account
    decider: Account


@dataclass(frozen=True, slots=True)
class Judgement:
    """A finding for each constraint and each floor, and what follows from them.

    `counter` is there for the verdict `counter` alone. `referred` are the findings that a person
    may waive: with `refer` all that failed, with `counter` those that the offer does not mend.
    """

    findings: tuple[Finding, ...]
    verdict: Verdict
    counter: CounterTerms | None = None
    referred: tuple[Finding, ...] = ()

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed, in the order of the terms."""
        return tuple(finding for finding in self.findings if not finding.passed)


def judged(
    said: Iterable[Finding],
    firm: Iterable[Finding],
    *,
    offer: CounterTerms | None = None,
    referable: Callable[[str], bool] = lambda _: False,
    waived: Collection[str] = (),
) -> Judgement:
    """The judgement on what the terms `said` and on what is `firm` (floors, code, revocations).

    `offer` holds values that pass, if there are any; `waived` the operands that a person has let
    pass. Neither touches what is firm.
    """
    by_terms = tuple(_waived(finding, waived) for finding in said)
    fixed = tuple(firm)
    findings = (*by_terms, *fixed)
    failed = [each for each in by_terms if not each.passed]
    referred = tuple(each for each in failed if referable(each.operand))
    stuck = [each for each in failed if not referable(each.operand)]
    if not all(each.passed for each in fixed):
        return Judgement(findings, "refuse")
    if not stuck:
        return Judgement(findings, "refer" if referred else "permit", referred=referred)
    if offer is not None and all(each.operand in CHANGEABLE for each in stuck):
        return Judgement(findings, "counter", offer, referred)
    return Judgement(findings, "refuse")


def nearest(
    policy: Terms, request: ContractRequest, *, now: float, limits: Iterable[Constraint] = ()
) -> CounterTerms | None:
    """The values nearest to the request's own that pass `policy` and `limits`; None without any.

    An expiry that is not after `now` (Unix seconds) is none.
    """
    alive = Constraint(leftOperand=terms.EXPIRY, operator="gteq", rightOperand=int(now) + 1)
    narrowed = Terms(
        permission=(*policy.permission, alive, *limits),
        prohibition=policy.prohibition,
        duty=policy.duty,
    )
    asked: dict[str, Scalar] = {
        terms.PAY_AMOUNT: request.pay_amount,
        terms.USES: request.uses,
        terms.EXPIRY: request.expires,
        terms.ATTESTER: hexadecimal(request.attester),
        terms.DECIDER: hexadecimal(request.decider),
    }
    found = {name: operands.nearest(narrowed, name, value) for name, value in asked.items()}
    if any(value is None for value in found.values()):
        return None
    return CounterTerms(
        pay_amount=str(found[terms.PAY_AMOUNT]),
        uses=_whole(found[terms.USES]),
        expires=_whole(found[terms.EXPIRY]),
        attester=Account(from_hexadecimal(str(found[terms.ATTESTER]), 20)),
        decider=Account(from_hexadecimal(str(found[terms.DECIDER]), 20)),
    )


def _whole(value: Scalar | None) -> int:
    """The number that `nearest` gave: a whole one, of whatever type the terms have."""
    return 0 if value is None or isinstance(value, str) else int(value)


def _waived(finding: Finding, waived: Collection[str]) -> Finding:
    if finding.passed or finding.operand not in waived:
        return finding
    return replace(finding, allowed=f"{finding.allowed}, but a person waived it", passed=True)
