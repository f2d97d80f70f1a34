"""The provider's side of negotiations: what peers, a person and the clock make of each process.

Each answer is committed with its reasons before it is given, and a repeated message gets the
answer that holds now. What a peer can make this node keep is bounded (`negotiation_bounds`,
`referrals`).
"""

from collections.abc import Iterable

import trio

from node import assets, referrals
from node import negotiation_bounds as bounds
from node import negotiation_records as records
from node.directory import Directory, Organisation
from node.document_exchange import DocumentExchange
from node.engine import Again, Engine, Owed, Transaction
from node.errors import Fault
from node.grants import Grants
from node.host import Host
from node.judging import Judging
from node.negotiation_records import Negotiation
from node.negotiation_verdicts import Verdicts, pending, refusal
from node.standing import AuthorRate
from protocol import codec
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.messages import (
    NEGOTIATION_PROTOCOL,
    ContractAcceptance,
    ContractAgreement,
    ContractFinalized,
    ContractOffer,
    ContractReceived,
    ContractRequest,
    ContractTermination,
    ContractVerification,
)
from protocol.negotiation import Due, Effect, Process, State
from protocol.negotiation_provider import Message, acted, asked, heard

TELL = "tell-negotiation"
TELL_TIMEOUT_S = 10.0
TELL_FOR_S = 3600.0
"""The consumer asks by itself too, so telling it unasked is given up after this."""
MESSAGES = (ContractRequest, ContractAcceptance, ContractVerification, ContractTermination)


class Provider:
    """Negotiations that other nodes began, about this node's assets."""

    def __init__(
        self,
        engine: Engine,
        host: Host,
        directory: Directory,
        exchange: DocumentExchange,
        judging: Judging,
        grants: Grants,
    ) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        self._exchange = exchange
        self._judging = judging
        self._grants = grants
        self._verdicts = Verdicts(judging, grants)
        self._fetches = AuthorRate(bounds.REQUESTS_PER_HOUR / bounds.HOUR_S, bounds.FETCHES_AT_ONCE)
        engine.perform(TELL, self._tell)

    # ------------------------------------------------------------------ a peer's messages

    async def answer(self, peer_id: PeerId, message: ContractRequest | Message) -> Wire:
        """The answer to a consumer's message, committed before.

        RemoteProtocolError if the message cannot follow; Fault if it cannot be judged yet.
        """
        negotiation = records.find(self._engine.db, message.process)
        if negotiation is not None:
            self.expire(negotiation)
            return self._answer_known(records.known(self._engine.db, message.process), message)
        if isinstance(message, ContractRequest):
            return await self._answer_new(peer_id, message)
        if isinstance(message, ContractTermination):
            return self._withdrawn_before(peer_id, message)
        raise RemoteProtocolError("this process is not known here")

    async def _answer_new(self, peer_id: PeerId, request: ContractRequest) -> Wire:
        process = request.process
        organisation = self._directory.of_peer(peer_id)
        if organisation is None or organisation.account != request.consumer:
            return refusal(process, "this peer is not bound to the account that it asks for")
        since = self._engine.clock() - bounds.HOUR_S
        if bounds.is_flooded(self._engine.db, self._directory, organisation, since):
            return refusal(process, "too many requests came in an hour: ask again later")
        if not self._may_fetch(organisation, request.parent_proof):
            return refusal(process, "too many unknown algorithms came in an hour: ask again later")
        await self._exchange.obtain(request.parent_proof, [peer_id])
        negotiation = records.find(self._engine.db, process)
        if negotiation is not None:  # the same request came twice, and the other one was faster
            return self._answer_known(negotiation, request)
        if bounds.was_withdrawn(self._engine.db, process):
            return refusal(process, "the request was withdrawn before it was considered")
        judgement = self._judging.judge(request)
        with self._engine.transaction() as tx:
            standing = asked(tx.now, request.expires)
            account = organisation.account
            if organisation.operator is None:
                bounds.forget_strangers(tx, self._directory)
            new = records.insert(tx, request, "provider", account, peer_id, standing)
            return self._verdicts.settle(tx, new, judgement)

    def _may_fetch(self, asking: Organisation, proof: bytes) -> bool:
        """False if a document would have to be asked for, and too many were for this peer.

        What cannot be had leaves no process behind, so that only this bounds it: each asks others.
        """
        if assets.has_document(self._engine.db, proof):
            return True
        key = asking.peer_id if asking.operator is not None else "strangers"
        return self._fetches.allows(key, trio.current_time())

    def _answer_known(self, known: Negotiation, message: ContractRequest | Message) -> Wire:
        if isinstance(message, ContractRequest):
            if known.request != codec.encode(message):
                raise RemoteProtocolError("another request came under the same process id")
            return self._answer_now(known)
        standing, effects = heard(known.standing, message)
        if standing != known.standing:
            if isinstance(message, ContractAcceptance):
                return self._accepted(known, standing)
            with self._engine.transaction() as tx:
                self._keep_heard(tx, known, standing, message, effects)
            known = records.known(self._engine.db, known.process)
        if isinstance(message, ContractTermination):
            return ContractReceived(process=known.process)
        if isinstance(message, ContractVerification) and known.state is State.FINALIZED:
            return ContractFinalized(process=known.process)
        return self._answer_now(known)

    def _keep_heard(
        self,
        tx: Transaction,
        known: Negotiation,
        standing: Process,
        message: Message,
        effects: Iterable[Effect],
    ) -> None:
        changes: dict[str, object] = {}
        if isinstance(message, ContractTermination):
            sentence = f"{self._name(known)} withdrew: {message.sentence}"[: records.TEXT_MOST]
            changes |= {
                "sentence": sentence,
                "answer": codec.encode(refusal(known.process, sentence)),
            }
        if Effect.VOID_GRANT in effects and known.answer is not None:
            self._grants.void(tx, codec.decode(known.answer, ContractAgreement).grant)
        records.move(tx, known, standing, **changes)

    def _accepted(self, known: Negotiation, standing: Process) -> Wire:
        """The offer was accepted: it is judged by the terms of this moment."""
        with self._engine.transaction() as tx:
            moved = records.move(tx, known, standing)
            return self._verdicts.settle(tx, moved, self._judging.judge(moved.wanted))

    def _answer_now(self, known: Negotiation) -> Wire:
        match known.state:
            case State.REQUESTED | State.ACCEPTED:
                left_s = known.deadline - self._engine.clock()
                return pending(known.process, left_s, known.failures)
            case State.OFFERED if known.offered is not None:
                return codec.decode(known.offered, ContractOffer)
        if known.answer is None:
            return refusal(known.process, known.sentence)
        return codec.decode(known.answer, ContractAgreement, ContractTermination)

    # ------------------------------------------------------------------ a person's word

    def approve(self, process: bytes, by: str, remark: str) -> None:
        """A person of this node waives what was referred; the grant is signed and told.

        Fault `request-unknown`, `request-decided`; `terms-refused` if by the terms of this
        moment something else fails too.
        """
        referral, known = self._undecided(process)
        waived = referral.waivable
        judgement = self._judging.judge(known.wanted, waived)
        if judgement.verdict not in ("permit", "counter"):
            failed = "; ".join(each.sentence for each in judgement.failures)
            raise Fault("terms-refused", f"by the terms of today more than that fails: {failed}")
        with self._engine.transaction() as tx:
            referrals.decide(tx, process, "approved", by, remark)
            self._verdicts.settle(tx, known, judgement, waived)
            self._owe_telling(tx, process)

    def refuse(self, process: bytes, by: str, remark: str) -> None:
        """A person of this node says no; the remark is told as the reason. Faults as `approve`."""
        _, known = self._undecided(process)
        sentence = f"refused by a person: {remark}" if remark else "refused by a person"
        with self._engine.transaction() as tx:
            referrals.decide(tx, process, "refused", by, remark)
            self._verdicts.refuse(tx, known, sentence, known.failures)
            self._owe_telling(tx, process)

    def _undecided(self, process: bytes) -> tuple[referrals.Referral, Negotiation]:
        found = records.find(self._engine.db, process)
        if found is not None and found.side == "provider":
            self.expire(found)
        referral = referrals.undecided(self._engine.db, process)
        return referral, records.known(self._engine.db, process)

    # ------------------------------------------------------------------ deadlines

    def expire(self, negotiation: Negotiation) -> None:
        """Afterwards the process has ended if its deadline has passed."""
        standing, effects = acted(negotiation.standing, Due(), self._engine.clock())
        if standing == negotiation.standing:
            return
        sentence = self._why_expired(negotiation)
        changes: dict[str, object] = {"sentence": sentence}
        changes["answer"] = codec.encode(refusal(negotiation.process, sentence))
        with self._engine.transaction() as tx:
            records.move(tx, negotiation, standing, **changes)
            if Effect.TELL in effects:
                self._owe_telling(tx, negotiation.process)

    def _why_expired(self, negotiation: Negotiation) -> str:
        match negotiation.state:
            case State.OFFERED:
                return "the offer was not accepted before it ended"
            case State.AGREED:
                return f"{self._name(negotiation)} did not verify the grant before it expired"
        return "nobody decided about the request before its deadline"

    def _owe_telling(self, tx: Transaction, process: bytes) -> None:
        tx.owe(TELL, process, not_after=tx.now + TELL_FOR_S)

    async def _tell(self, owed: Owed) -> Again | None:
        known = records.find(self._engine.db, owed.key)
        if known is None or known.state is State.FINALIZED:
            return None
        data = await self._host.request(
            known.peer_id,
            NEGOTIATION_PROTOCOL,
            codec.encode(self._answer_now(known)),
            timeout_s=TELL_TIMEOUT_S,
        )
        codec.decode(data, ContractReceived)
        return None

    def _withdrawn_before(self, peer_id: PeerId, message: ContractTermination) -> Wire:
        """The request was lost, or is on its way still: then it is not considered any more."""
        if self._directory.of_peer(peer_id) is not None:
            with self._engine.transaction() as tx:
                bounds.note_withdrawal(tx, message.process, peer_id)
        return ContractReceived(process=message.process)

    def _name(self, known: Negotiation) -> str:
        return self._directory.name(known.counterparty)
