"""The provider's side of a negotiation, as pure transitions of `protocol.negotiation`'s table."""

from dataclasses import dataclass

from protocol.errors import RemoteProtocolError
from protocol.messages import ContractAcceptance, ContractTermination, ContractVerification
from protocol.negotiation import (
    ANSWER_S,
    NEGOTIATION,
    Due,
    Effect,
    Event,
    Process,
    State,
    Transition,
)

Message = ContractAcceptance | ContractVerification | ContractTermination


@dataclass(frozen=True, slots=True)
class Agree:
    """A grant is signed that expires at `expiry`."""

    expiry: float


@dataclass(frozen=True, slots=True)
class Offer:
    """What would pass is said, and holds for `valid_s` seconds."""

    valid_s: float


@dataclass(frozen=True, slots=True)
class Refer:
    """A person decides before `until`."""

    until: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """No."""


Action = Agree | Offer | Refer | Refuse | Due


def asked(now: float, expires: float) -> Process:
    """A new process, to be judged next."""
    return Process(NEGOTIATION.initial, now + ANSWER_S, expires)


def acted(process: Process, action: Action, now: float) -> Transition:
    """The process after this side's own `action`, and what is owed.

    RemoteProtocolError if the action cannot follow; then nothing has changed.
    """
    match action:
        case Agree():
            expiry = action.expiry
            return process.after(Event.AGREE, deadline=expiry, not_after=expiry), ()
        case Offer():
            deadline = min(now + action.valid_s, process.not_after)
            return process.after(Event.OFFER, deadline=deadline, offer=process.offer + 1), ()
        case Refer():
            deadline = min(action.until, process.not_after)
            return process.after(Event.REFER, deadline=deadline), ()
        case Refuse():
            return process.after(Event.TERMINATE), ()
        case Due():
            return _expired(process, now)


def heard(process: Process, message: Message) -> Transition:
    """The process after the consumer's `message`, and what is owed.

    A message that is older than another one changes nothing, nor does one that comes too late.
    After an acceptance that is news the request is judged again with the offer's values.
    RemoteProtocolError if the message cannot follow.
    """
    match message:
        case ContractAcceptance():
            return _accepted(process, message.number), ()
        case ContractVerification():
            if process.state in (State.FINALIZED, State.TERMINATED):
                return process, ()
            return process.after(Event.VERIFY, Event.FINALIZE), ()
        case ContractTermination():
            if process.state is State.TERMINATED:
                return process, ()
            void = (Effect.VOID_GRANT,) if process.state is State.AGREED else ()
            return process.after(Event.WITHDRAW), void


def _accepted(process: Process, number: int) -> Process:
    if not 1 <= number <= process.offer:
        raise RemoteProtocolError(f"offer {number} was never made")
    if process.state is not State.OFFERED or number < process.offer:
        return process
    return process.after(Event.ACCEPT)


def _expired(process: Process, now: float) -> Transition:
    if now < process.deadline or NEGOTIATION.is_final(process.state):
        return process, ()
    # a consumer that waits for a person or thinks about an offer has no stream open
    tell = () if process.state is State.AGREED else (Effect.TELL,)
    return process.after(Event.EXPIRE), tell
