"""The consumer's side of a negotiation, as pure transitions of `protocol.negotiation`'s table."""

from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from protocol.errors import RemoteProtocolError
from protocol.messages import (
    ContractAgreement,
    ContractFinalized,
    ContractOffer,
    ContractPending,
    ContractReceived,
    ContractRequest,
    ContractTermination,
)
from protocol.negotiation import (
    ANSWER_S,
    APART_S,
    CONFIRM_S,
    NEGOTIATION,
    OFFERS_MOST,
    WAIT_MOST_S,
    Due,
    Effect,
    Event,
    Process,
    State,
    Transition,
)

Answer = (
    ContractOffer
    | ContractPending
    | ContractAgreement
    | ContractTermination
    | ContractFinalized
    | ContractReceived
)


class Speech(StrEnum):
    """What a consumer says in a state, until it is answered."""

    REQUEST = "request"
    ACCEPTANCE = "acceptance"
    VERIFICATION = "verification"
    WITHDRAWAL = "withdrawal"


@dataclass(frozen=True, slots=True)
class Accept:
    """Take the offer of this number, by the limits that were given or by a person's word."""

    number: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A person gives up."""


def asked(now: float, expires: float) -> Transition:
    """A new process, for a grant that is to expire at `expires`."""
    return Process(NEGOTIATION.initial, now + ANSWER_S, expires), (Effect.SPEAK,)


def speech(process: Process, now: float) -> Speech | None:
    """What there is to say now, until it is answered; None if there is nothing."""
    match process.state:
        case State.REQUESTED:
            return Speech.REQUEST
        case State.ACCEPTED:
            return Speech.ACCEPTANCE
        case State.VERIFIED:
            return Speech.VERIFICATION
        case State.TERMINATED if not process.told and now < process.not_after + APART_S:
            return Speech.WITHDRAWAL
    return None


def acted(process: Process, action: Accept | Withdraw | Due, now: float) -> Transition:
    """The process after this side's own `action`, and what is owed.

    RemoteProtocolError if the action cannot follow; then nothing has changed.
    """
    match action:
        case Accept():
            if action.number != process.offer:
                raise RemoteProtocolError(f"offer {action.number} is not the newest one")
            return process.after(Event.ACCEPT, deadline=now + ANSWER_S), (Effect.SPEAK,)
        case Withdraw():
            if process.state is State.VERIFIED:
                raise RemoteProtocolError("the grant is held already, so nothing is withdrawn")
            return _given_up(process, Event.WITHDRAW)
        case Due():
            if now < process.deadline or NEGOTIATION.is_final(process.state):
                return process, ()
            return _given_up(process, Event.EXPIRE)


def heard(process: Process, answer: Answer, now: float) -> Transition:
    """The process after the provider's `answer`, and what is owed.

    An agreement is checked against the request by the caller, before. An answer that is older
    than another one changes nothing. RemoteProtocolError if it cannot follow.
    """
    match answer:
        case ContractOffer():
            return _offered(process, answer, now)
        case ContractPending():
            return _pending(process, answer, now)
        case ContractAgreement():
            return _agreed(process, answer.grant.expiry)
        case ContractTermination():
            return _terminated(process, now)
        case ContractFinalized():
            over = process.state is State.FINALIZED
            return process if over else process.after(Event.FINALIZE), ()
        case ContractReceived():
            return _received(process)


def _offered(process: Process, offer: ContractOffer, now: float) -> Transition:
    if process.state is State.TERMINATED or offer.number <= process.offer:
        return process, ()
    if offer.number != process.offer + 1:
        raise RemoteProtocolError(f"offer {offer.number} follows offer {process.offer}")
    if offer.number > OFFERS_MOST:
        raise RemoteProtocolError(f"more than {OFFERS_MOST} offers in one process")
    if offer.expires > process.not_after:
        raise RemoteProtocolError("the offer is for longer than was asked")
    deadline = min(now + min(offer.valid_s, WAIT_MOST_S), process.not_after)
    return process.after(Event.OFFER, deadline=deadline, offer=offer.number), ()


def _pending(process: Process, pending: ContractPending, now: float) -> Transition:
    if not NEGOTIATION.allows(process.state, Event.REFER):
        return process, ()
    wait_s = min(pending.valid_s, WAIT_MOST_S) + ANSWER_S
    return process.after(Event.REFER, deadline=min(now + wait_s, process.not_after)), ()


def _agreed(process: Process, expiry: float) -> Transition:
    if process.state in (State.VERIFIED, State.FINALIZED, State.TERMINATED):
        return process, ()
    deadline = expiry + CONFIRM_S
    held = process.after(Event.AGREE, Event.VERIFY, deadline=deadline, not_after=expiry)
    return held, (Effect.KEEP_GRANT, Effect.SPEAK)


def _terminated(process: Process, now: float) -> Transition:
    if process.state is State.TERMINATED:
        return replace(process, told=True), ()
    dead = process.state is State.VERIFIED and now >= process.not_after
    return process.after(Event.EXPIRE if dead else Event.TERMINATE), ()


def _received(process: Process) -> Transition:
    if process.state is not State.TERMINATED:
        raise RemoteProtocolError(f"nothing was to be received in state {process.state}")
    return replace(process, told=True), ()


def _given_up(process: Process, event: Event) -> Transition:
    """Before a grant is held the provider is told: it may have signed one meanwhile."""
    told = process.state is State.VERIFIED
    return process.after(event, told=told), () if told else (Effect.SPEAK,)


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a counter-offer may say so that nobody has to be asked; given at the start.

    `pay_most` is decimal text, `expires_least` Unix seconds.
    """

    pay_most: str
    uses_least: int
    expires_least: int
    attesters: tuple[bytes, ...]
    deciders: tuple[bytes, ...]

    def hold(self, offer: ContractOffer) -> bool:
        """True if the offer lies within all of them."""
        return (
            int(offer.price) <= int(self.pay_most)
            and offer.uses >= self.uses_least
            and offer.expires >= self.expires_least
            and offer.attester in self.attesters
            and offer.decider in self.deciders
        )


def accepted(request: ContractRequest, offer: ContractOffer | None) -> ContractRequest:
    """The request as it stands once `offer` is accepted: what the grant then has to answer."""
    if offer is None:
        return request
    return msgspec.structs.replace(
        request,
        pay_amount=offer.price,
        uses=offer.uses,
        expires=offer.expires,
        attester=offer.attester,
        decider=offer.decider,
    )
