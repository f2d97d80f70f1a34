"""Contract negotiation between two nodes: the consumer asks, the provider's terms decide.

Every step is committed before it is answered or sent, so both sides recover from a crash and a
repeated message gets the answer that was given. The table is `protocol.negotiation`.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from sqlite_utils import Database

from node import assets
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Again, Engine, Owed, Transaction
from node.errors import Fault
from node.grants import Grants
from node.host import Host
from node.judging import Judging
from node.log import get_logger
from node.rows import first, select
from protocol import codec
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, CdtId, PeerId, hexadecimal
from protocol.messages import (
    NEGOTIATION_PROTOCOL,
    ContractAgreement,
    ContractFinalized,
    ContractRequest,
    ContractTermination,
    ContractVerification,
    Reason,
)
from protocol.negotiation import NEGOTIATION, Event, State
from protocol.terms import Finding, describe

log = get_logger("negotiations")

ASK = "negotiate"
VERIFY = "verify-grant"
EXPIRE = "expire-negotiation"
ANSWER_TIMEOUT_S = 10.0
DEADLINE_S = 120.0
REQUESTS_PER_HOUR = 500
"""Of one peer: each is kept for ever, and each yes costs a signature."""
ANSWERS = (ContractAgreement, ContractTermination)


@dataclass(frozen=True, slots=True)
class Negotiation:
    """One process as this node keeps it; `findings` is JSON, one object for each constraint."""

    process: bytes
    side: Literal["consumer", "provider"]
    child: CdtId
    parent: CdtId
    counterparty: Account
    peer_id: PeerId
    state: State
    request: bytes
    answer: bytes | None
    findings: str
    sentence: str
    deadline: float


def find(db: Database, process: bytes) -> Negotiation | None:
    """The process, or None if this node takes no part in it."""
    return first(db, Negotiation, "negotiations WHERE process = ?", [process])


def every(db: Database) -> list[Negotiation]:
    """All processes, the latest first."""
    return select(db, Negotiation, "negotiations ORDER BY updated_at DESC, process")


def granted_request(db: Database, child: bytes, parent: bytes) -> ContractRequest:
    """The request that this node answered with its latest grant; Fault `grant-unknown`."""
    found = first(
        db,
        Negotiation,
        "negotiations WHERE side = 'provider' AND child = ? AND parent = ? AND state IN "
        "('AGREED', 'VERIFIED', 'FINALIZED') ORDER BY updated_at DESC",
        [child, parent],
    )
    if found is None:
        raise Fault("grant-unknown", f"this node granted {hexadecimal(child)} to no such algorithm")
    return codec.decode(found.request, ContractRequest)


class Negotiations:
    """Both sides of the table, for one node."""

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
        engine.perform(ASK, self._ask)
        engine.perform(VERIFY, self._verify)
        engine.perform(EXPIRE, self._expire_unverified)
        host.serve(NEGOTIATION_PROTOCOL, self._serve, limit=4096)

    # ------------------------------------------------------------------ consumer

    def start(self, request: ContractRequest) -> None:
        """Owe the asking of the child's owner for this one edge; Fault if nobody can be asked."""
        child = assets.find(self._engine.db, request.child)
        if child is None:
            raise Fault("cdt-unknown", f"no asset {hexadecimal(request.child)} is known here")
        peer_id = self._directory.peer_of(child.owner)
        with self._engine.transaction() as tx:
            self._insert(tx, request, "consumer", child.owner, peer_id)
            tx.owe(ASK, request.process)

    async def _ask(self, owed: Owed) -> Again | None:
        negotiation = find(self._engine.db, owed.key)
        if negotiation is None or negotiation.state is not State.REQUESTED:
            return None
        if self._engine.clock() >= negotiation.deadline:
            self._expire(negotiation)
            return None
        data = await self._request(negotiation.peer_id, negotiation.request)
        answer = codec.decode(data, ContractAgreement, ContractTermination)
        if isinstance(answer, ContractAgreement):
            self._agreed(negotiation, answer, data)
        else:
            self._refused(negotiation, answer)
        return None

    def _agreed(self, negotiation: Negotiation, answer: ContractAgreement, data: bytes) -> None:
        request = codec.decode(negotiation.request, ContractRequest)
        if answer.process != negotiation.process:
            raise RemoteProtocolError("the agreement belongs to another process")
        self._grants.check(request, answer.grant, answer.signature, negotiation.counterparty)
        with self._engine.transaction() as tx:
            self._grants.keep(tx, answer.grant, answer.signature)
            agreed = NEGOTIATION.step(negotiation.state, Event.AGREE)
            self._move(tx, negotiation, NEGOTIATION.step(agreed, Event.VERIFY), answer=data)
            tx.owe(VERIFY, negotiation.process)

    def _refused(self, negotiation: Negotiation, answer: ContractTermination) -> None:
        findings = [
            Finding(reason.operand, reason.asked, reason.allowed, passed=False)
            for reason in answer.reasons
        ]
        with self._engine.transaction() as tx:
            state = NEGOTIATION.step(negotiation.state, Event.TERMINATE)
            self._move(tx, negotiation, state, findings=findings, sentence=answer.sentence)

    def _expire(self, negotiation: Negotiation) -> None:
        with self._engine.transaction() as tx:
            state = NEGOTIATION.step(negotiation.state, Event.EXPIRE)
            name = self._directory.name(negotiation.counterparty)
            self._move(
                tx, negotiation, state, sentence=f"{name} did not answer before the deadline"
            )

    async def _verify(self, owed: Owed) -> Again | None:
        negotiation = find(self._engine.db, owed.key)
        if negotiation is None or negotiation.state is not State.VERIFIED:
            return None
        if self._engine.clock() >= negotiation.deadline:
            self._expire(negotiation)
            return None
        message = codec.encode(ContractVerification(process=negotiation.process))
        codec.decode(await self._request(negotiation.peer_id, message), ContractFinalized)
        with self._engine.transaction() as tx:
            self._move(tx, negotiation, NEGOTIATION.step(negotiation.state, Event.FINALIZE))
        return None

    async def _request(self, peer_id: PeerId, message: bytes) -> bytes:
        return await self._host.request(
            peer_id, NEGOTIATION_PROTOCOL, message, timeout_s=ANSWER_TIMEOUT_S
        )

    # ------------------------------------------------------------------ provider

    async def _serve(self, peer_id: PeerId, data: bytes) -> bytes:
        message = codec.decode(data, ContractRequest, ContractVerification)
        known = find(self._engine.db, message.process)
        if known is not None and (known.side != "provider" or known.peer_id != peer_id):
            raise RemoteProtocolError("this process belongs to somebody else")
        if isinstance(message, ContractVerification):
            return codec.encode(self._verified(known, message))
        if known is not None:
            return _again(known, data)
        return codec.encode(await self._decide(peer_id, message))

    async def _decide(self, peer_id: PeerId, request: ContractRequest) -> Wire:
        """The answer to a new request, committed together with its reasons."""
        organisation = self._directory.of_peer(peer_id)
        if organisation is None or organisation.account != request.consumer:
            return _no(request, "this peer is not bound to the account that it asks for")
        if self._asked_lately(peer_id) >= REQUESTS_PER_HOUR:
            sentence = f"more than {REQUESTS_PER_HOUR} requests in an hour are not considered"
            return _no(request, sentence)
        await self._exchange.obtain(request.parent_proof, [peer_id])
        known = find(self._engine.db, request.process)
        if known is not None:  # the same request came twice, and the other one was faster
            return codec.decode(_again(known, codec.encode(request)), *ANSWERS)
        judgement = self._judging.judge(request)
        with self._engine.transaction() as tx:
            new = self._insert(tx, request, "provider", organisation.account, peer_id)
            answer: Wire
            if judgement.verdict == "permit":
                answer = self._grants.give(tx, request)
                state = NEGOTIATION.step(new.state, Event.AGREE)
                tx.owe(EXPIRE, request.process, after_s=DEADLINE_S)
            else:
                sentence = "the terms of use do not allow this"
                answer = _no(request, sentence, judgement.failures)
                state = NEGOTIATION.step(new.state, Event.TERMINATE)
            self._move(tx, new, state, answer=codec.encode(answer), findings=judgement.findings)
            tx.note("negotiation", request.process, state, findings=plain(judgement.findings))
        return answer

    async def _expire_unverified(self, owed: Owed) -> None:
        negotiation = find(self._engine.db, owed.key)
        if negotiation is not None and negotiation.state is State.AGREED:
            self._expire(negotiation)

    def _asked_lately(self, peer_id: PeerId) -> int:
        row = self._engine.db.execute(
            "SELECT count(*) FROM negotiations "
            "WHERE peer_id = ? AND side = 'provider' AND updated_at > ?",
            [peer_id, self._engine.clock() - 3600],
        ).fetchone()
        return int(row[0])

    def _verified(self, known: Negotiation | None, message: ContractVerification) -> Wire:
        if known is None:
            raise RemoteProtocolError("this process is not known here")
        if known.state is not State.FINALIZED:
            with self._engine.transaction() as tx:
                verified = NEGOTIATION.step(known.state, Event.VERIFY)
                self._move(tx, known, NEGOTIATION.step(verified, Event.FINALIZE))
        return ContractFinalized(process=message.process)

    # ------------------------------------------------------------------ the table

    def _insert(
        self,
        tx: Transaction,
        request: ContractRequest,
        side: Literal["consumer", "provider"],
        counterparty: Account,
        peer_id: PeerId,
    ) -> Negotiation:
        negotiation = Negotiation(
            process=request.process,
            side=side,
            child=CdtId(request.child),
            parent=CdtId(request.parent),
            counterparty=counterparty,
            peer_id=peer_id,
            state=NEGOTIATION.initial,
            request=codec.encode(request),
            answer=None,
            findings="[]",
            sentence="",
            deadline=tx.now + DEADLINE_S,
        )
        row = {**asdict(negotiation), "state": str(negotiation.state), "updated_at": tx.now}
        tx.db.table("negotiations").insert(row)
        return negotiation

    def _move(
        self,
        tx: Transaction,
        negotiation: Negotiation,
        state: State,
        *,
        answer: bytes | None = None,
        findings: Iterable[Finding] | None = None,
        sentence: str = "",
    ) -> None:
        changes: dict[str, object] = {"state": str(state), "updated_at": tx.now}
        if answer is not None:
            changes["answer"] = answer
        if findings is not None:
            changes["findings"] = json.dumps(plain(findings))
        if sentence:
            changes["sentence"] = sentence
        tx.db.table("negotiations").update([negotiation.process], changes)
        log.info("negotiation", process=negotiation.process.hex()[:16], state=str(state))


def _again(known: Negotiation, data: bytes) -> bytes:
    """The answer that was given to this very request."""
    if known.request != data or known.answer is None:
        raise RemoteProtocolError("another request came under the same process id")
    return known.answer


def _no(
    request: ContractRequest, sentence: str, failed: Iterable[Finding] = ()
) -> ContractTermination:
    reasons = tuple(
        Reason(operand=each.operand, asked=each.asked[:1024], allowed=each.allowed[:1024])
        for each in failed
    )
    return ContractTermination(process=request.process, sentence=sentence, reasons=reasons)


def plain(findings: Iterable[Finding]) -> list[dict[str, object]]:
    """The findings as JSON values, each with its operand in plain words."""
    return [
        {
            "operand": each.operand,
            "what": describe(each.operand),
            "asked": each.asked,
            "allowed": each.allowed,
            "passed": each.passed,
        }
        for each in findings
    ]
