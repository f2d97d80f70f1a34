"""The consumer's side of negotiations: ask, accept, verify, withdraw, each until it is answered.

Every step is committed before it is said. What is said follows from the state alone, so after a
crash the node goes on where it stood.
"""

from typing import cast

import msgspec

from node import assets
from node import negotiation_records as records
from node.directory import Directory
from node.engine import Again, Engine, Owed, Transaction
from node.errors import Fault
from node.grants import Grants
from node.host import Host
from node.negotiation_records import Negotiation
from protocol import codec
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import hexadecimal
from protocol.messages import (
    NEGOTIATION_PROTOCOL,
    ContractAcceptance,
    ContractAgreement,
    ContractFinalized,
    ContractOffer,
    ContractPending,
    ContractReceived,
    ContractRequest,
    ContractTermination,
    ContractVerification,
)
from protocol.negotiation import Due, Effect, Process, State
from protocol.negotiation_consumer import (
    Accept,
    Answer,
    Limits,
    Speech,
    Withdraw,
    acted,
    asked,
    heard,
    speech,
)

SPEAK = "negotiate"
ANSWER_TIMEOUT_S = 10.0
POLL_S = 300.0
"""How often a request is repeated that waits for a person: the person's word comes unasked, and
this is for the case that it is lost."""
SLOW_S = 600.0
SLOW_AFTER = 10
"""After so many attempts the end of a process is told to a silent peer only every SLOW_S."""

PERSON_HERE = "an offer waits here for a person to accept or withdraw"
PERSON_THERE = "a person decides there"

UNASKED = (ContractOffer, ContractAgreement, ContractTermination)
"""What a provider may say on a stream of its own."""
ANSWERS = (*UNASKED, ContractPending, ContractFinalized, ContractReceived)


class Consumer:
    """Negotiations that this node began."""

    def __init__(self, engine: Engine, host: Host, directory: Directory, grants: Grants) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        self._grants = grants
        engine.perform(SPEAK, self._speak)

    def start(self, request: ContractRequest, limits: Limits | None = None) -> None:
        """Owe the asking of the child's owner for this one edge; Fault if nobody can be asked.

        A counter-offer within `limits` is accepted at once; without limits a person is waited for.
        """
        child = assets.find(self._engine.db, request.child)
        if child is None:
            raise Fault("cdt-unknown", f"no asset {hexadecimal(request.child)} is known here")
        peer_id = self._directory.peer_of(child.owner)
        told = msgspec.json.encode(limits).decode() if limits else ""
        with self._engine.transaction() as tx:
            standing, _ = asked(tx.now, request.expires)
            records.insert(tx, request, "consumer", child.owner, peer_id, standing, told)
            _owe_speech(tx, request.process, standing)

    def accept(self, process: bytes) -> None:
        """A person takes the offer; Fault `negotiation-state` if there is none to take."""
        negotiation = self._own(process)
        self._act(negotiation, Accept(negotiation.offer))

    def withdraw(self, process: bytes) -> None:
        """A person gives up; Fault `negotiation-state` once the grant is held or all is over."""
        self._act(self._own(process), Withdraw(), sentence="withdrawn here")

    def _own(self, process: bytes) -> Negotiation:
        negotiation = records.known(self._engine.db, process)
        if negotiation.side != "consumer":
            raise Fault("negotiation-state", "the other side began this negotiation: only it can")
        self.expire(negotiation)
        return records.known(self._engine.db, process)

    def _act(self, negotiation: Negotiation, action: Accept | Withdraw, **changes: object) -> None:
        try:
            standing, _ = acted(negotiation.standing, action, self._engine.clock())
        except RemoteProtocolError as error:
            raise Fault("negotiation-state", str(error)) from None
        with self._engine.transaction() as tx:
            records.move(tx, negotiation, standing, **changes)
            _owe_speech(tx, negotiation.process, standing)

    def expire(self, negotiation: Negotiation) -> None:
        """Afterwards the process has ended if its deadline has passed."""
        standing, effects = acted(negotiation.standing, Due(), self._engine.clock())
        if standing == negotiation.standing:
            return
        with self._engine.transaction() as tx:
            records.move(tx, negotiation, standing, sentence=self._why_expired(negotiation))
            if Effect.SPEAK in effects:
                _owe_speech(tx, negotiation.process, standing)

    def _why_expired(self, negotiation: Negotiation) -> str:
        name = self._directory.name(negotiation.counterparty)
        match negotiation.state:
            case State.OFFERED:
                return "nobody here accepted the offer before it ended"
            case State.VERIFIED:
                return f"{name} did not confirm the grant before it expired"
        if negotiation.sentence == PERSON_THERE:
            return f"nobody at {name} decided before the deadline"
        if negotiation.sentence:
            return f"{name} did not answer well before the deadline: {negotiation.sentence}"
        return f"{name} did not answer before the deadline"

    # ------------------------------------------------------------------ saying and hearing

    async def _speak(self, owed: Owed) -> Again | None:
        negotiation = records.find(self._engine.db, owed.key)
        if negotiation is None:
            return None
        self.expire(negotiation)
        negotiation = records.known(self._engine.db, owed.key)
        said = speech(negotiation.standing, self._engine.clock())
        if said is None:
            return None
        try:
            answer, data = await self._say(negotiation, said)
        except Fault:
            late = negotiation.state in (State.VERIFIED, State.TERMINATED)
            if late and owed.attempts >= SLOW_AFTER:
                return Again(SLOW_S)
            raise
        self._hear_or_say_why(records.known(self._engine.db, owed.key), answer, data)
        now = records.known(self._engine.db, owed.key)
        waits = speech(now.standing, self._engine.clock()) is said
        return Again(POLL_S) if waits else None

    async def _say(self, negotiation: Negotiation, said: Speech) -> tuple[Answer, bytes]:
        data = await self._host.request(
            negotiation.peer_id,
            NEGOTIATION_PROTOCOL,
            _message(negotiation, said),
            timeout_s=ANSWER_TIMEOUT_S,
        )
        answer = cast("Answer", codec.decode(data, *ANSWERS))
        if answer.process != negotiation.process:
            raise RemoteProtocolError("the answer belongs to another process")
        return answer, data

    def _hear_or_say_why(self, negotiation: Negotiation, answer: Answer, data: bytes) -> None:
        """As `hear`; what is wrong with an answer is kept for whoever looks at the process."""
        try:
            self.hear(negotiation, answer, data)
        except RemoteProtocolError as error:
            sentence = f"the answer cannot be used: {error}"[: records.TEXT_MOST]
            if sentence != negotiation.sentence:
                with self._engine.transaction() as tx:
                    records.move(tx, negotiation, negotiation.standing, sentence=sentence)
            raise

    def hear(self, negotiation: Negotiation, answer: Answer, data: bytes) -> None:
        """Afterwards the answer is kept with what it owes; an old one changes nothing.

        RemoteProtocolError if it cannot follow, or its grant is not what was asked for.
        """
        standing, effects = heard(negotiation.standing, answer, self._engine.clock())
        if standing == negotiation.standing:
            return
        if isinstance(answer, ContractAgreement):
            self._check(negotiation, answer)
        elif isinstance(answer, ContractOffer):
            standing, effects = _weighed(negotiation, standing, answer, self._engine.clock())
        with self._engine.transaction() as tx:
            if isinstance(answer, ContractAgreement):
                self._grants.keep(tx, answer.grant, answer.signature)
            changes = _kept(negotiation, standing, answer, data)
            records.move(tx, negotiation, standing, **changes)
            if Effect.SPEAK in effects:
                _owe_speech(tx, negotiation.process, standing)

    def _check(self, negotiation: Negotiation, agreement: ContractAgreement) -> None:
        owner = negotiation.counterparty
        self._grants.check(negotiation.wanted, agreement.grant, agreement.signature, owner)


def _weighed(
    negotiation: Negotiation, offered: Process, offer: ContractOffer, now: float
) -> tuple[Process, tuple[Effect, ...]]:
    """An offer within the limits is accepted at once; any other waits for a person."""
    if not negotiation.limits:
        return offered, ()
    limits = msgspec.json.decode(negotiation.limits, type=Limits)
    return acted(offered, Accept(offer.number), now) if limits.hold(offer) else (offered, ())


def _kept(
    negotiation: Negotiation, standing: Process, answer: Answer, data: bytes
) -> dict[str, object]:
    """The columns in which an answer that is news is kept, for whoever looks at the process."""
    match answer:
        case ContractAgreement():
            return {"answer": data, "findings": "[]", "sentence": ""}
        case ContractOffer():
            sentence = PERSON_HERE if standing.state is State.OFFERED else ""
            found = records.findings_of(answer.reasons)
            return {"offered": data, "findings": found, "sentence": sentence}
        case ContractPending():
            found = records.findings_of(answer.reasons)
            return {"findings": found, "sentence": PERSON_THERE}
        case ContractTermination() if negotiation.state is not State.TERMINATED:
            found = records.findings_of(answer.reasons)
            return {"answer": data, "findings": found, "sentence": answer.sentence}
    return {}


def _owe_speech(tx: Transaction, process: bytes, standing: Process) -> None:
    """The body tells one speech from the next: the engine settles what it has performed by it."""
    tx.owe(SPEAK, process, f"{standing.state} {standing.offer}".encode())


def _message(negotiation: Negotiation, said: Speech) -> bytes:
    process = negotiation.process
    message: Wire
    match said:
        case Speech.REQUEST:
            return negotiation.request
        case Speech.ACCEPTANCE:
            message = ContractAcceptance(process=process, number=negotiation.offer)
        case Speech.VERIFICATION:
            message = ContractVerification(process=process)
        case Speech.WITHDRAWAL:
            sentence = negotiation.sentence
            message = ContractTermination(process=process, sentence=sentence, reasons=())
    return codec.encode(message)
