"""What follows from a judgement in a negotiation: a signed grant, an offer, a person, or no."""

import json
from collections.abc import Collection, Iterable

from node import negotiation_records as records
from node import referrals
from node.engine import Transaction
from node.grants import Grants
from node.judging import Judging
from node.negotiation_records import Negotiation
from protocol import codec
from protocol.codec import Wire
from protocol.judgement import CounterTerms, Judgement
from protocol.messages import ContractOffer, ContractPending, ContractTermination
from protocol.negotiation import OFFERS_MOST
from protocol.negotiation_provider import Agree, Offer, Refer, Refuse, acted
from protocol.terms import Finding

OFFER_S = 3600
"""How long a counter-offer holds: its consumer may have to ask a person."""
DAY_S = 86_400
FORBIDDEN = "the terms of use do not allow this"


class Verdicts:
    """Acts upon judgements within the transaction of whoever asked for them."""

    def __init__(self, judging: Judging, grants: Grants) -> None:
        self._judging = judging
        self._grants = grants

    def settle(
        self,
        tx: Transaction,
        known: Negotiation,
        judgement: Judgement,
        waived: Collection[str] = frozenset(),
    ) -> Wire:
        """The answer; afterwards it is kept with its reasons, and its deadline is owed."""
        findings = records.plain(judgement.findings)
        kept = json.dumps(findings)
        answer = self._act(tx, known, judgement, waived, kept)
        state = records.known(tx.db, known.process).state
        tx.note("negotiation", known.process, state, findings=findings)
        return answer

    def _act(
        self,
        tx: Transaction,
        known: Negotiation,
        judgement: Judgement,
        waived: Collection[str],
        findings: str,
    ) -> Wire:
        if judgement.verdict == "permit":
            return self._agree(tx, known, waived, findings)
        if judgement.counter is not None and known.offer < OFFERS_MOST:
            return _offer(tx, known, judgement.counter, judgement.failures, findings)
        sentence = FORBIDDEN
        if judgement.verdict == "refer":
            if not referrals.is_full(tx.db, known.peer_id):
                return self._refer(tx, known, judgement, findings)
            sentence = f"{referrals.REFERRED_MOST} of your requests wait for a person already"
        return self.refuse(tx, known, sentence, judgement.failures, findings)

    def _agree(
        self, tx: Transaction, known: Negotiation, waived: Collection[str], findings: str
    ) -> Wire:
        agreement = self._grants.give(tx, known.wanted, waived)
        standing, _ = acted(known.standing, Agree(agreement.grant.expiry), tx.now)
        kept = codec.encode(agreement)
        records.move(tx, known, standing, answer=kept, sentence="", findings=findings)
        return agreement

    def _refer(
        self, tx: Transaction, known: Negotiation, judgement: Judgement, findings: str
    ) -> Wire:
        table, _ = self._judging.terms_of_leaf(known.child)
        until = min(tx.now + table.refer_days * DAY_S, known.not_after)
        operands = frozenset(each.operand for each in judgement.referred)
        referrals.refer(tx, known.process, known.peer_id, operands, until)
        standing, _ = acted(known.standing, Refer(until), tx.now)
        records.move(tx, known, standing, sentence="waits for a person here", findings=findings)
        return pending(known.process, until - tx.now, judgement.failures)

    def refuse(
        self,
        tx: Transaction,
        known: Negotiation,
        sentence: str,
        failed: Iterable[Finding],
        findings: str | None = None,
    ) -> Wire:
        """The answer no; afterwards the process is over for this reason."""
        answer = refusal(known.process, sentence, failed)
        standing, _ = acted(known.standing, Refuse(), tx.now)
        changes: dict[str, object] = {} if findings is None else {"findings": findings}
        changes |= {"answer": codec.encode(answer), "sentence": answer.sentence}
        records.move(tx, known, standing, **changes)
        return answer


def refusal(process: bytes, sentence: str, failed: Iterable[Finding] = ()) -> ContractTermination:
    """No, within the bounds of the message."""
    return ContractTermination(
        process=process,
        sentence=sentence[: records.TEXT_MOST],
        reasons=records.reasons_of(failed),
    )


def pending(process: bytes, left_s: float, failed: Iterable[Finding]) -> ContractPending:
    """A person decides, within `left_s` seconds."""
    reasons = records.reasons_of(failed)
    return ContractPending(process=process, valid_s=max(1, int(left_s)), reasons=reasons)


def _offer(
    tx: Transaction,
    known: Negotiation,
    counter: CounterTerms,
    failed: Iterable[Finding],
    findings: str,
) -> Wire:
    standing, _ = acted(known.standing, Offer(OFFER_S), tx.now)
    offer = ContractOffer(
        process=known.process,
        number=standing.offer,
        price=counter.pay_amount,
        uses=counter.uses,
        expires=counter.expires,
        attester=counter.attester,
        decider=counter.decider,
        valid_s=OFFER_S,
        reasons=records.reasons_of(failed),
    )
    kept = codec.encode(offer)
    records.move(tx, known, standing, offered=kept, sentence="", findings=findings)
    return offer
