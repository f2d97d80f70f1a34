"""Contract negotiation: the Dataspace Protocol's states, one table for both sides.

The consumer asks for one edge (child -> parent). The provider's terms decide: AGREED carries the
signed grant, OFFERED says what would pass, a request may wait for a person, TERMINATED has a
reason for each constraint. What each side does is a pure transition (`negotiation_consumer`,
`negotiation_provider`), so both can be run without a node: a process and what happened to it give
the process afterwards and the effects that are owed.

Three rules make both sides agree whatever is lost, repeated, reordered or crashes:

- A side says what its state says, again and again, until it is answered. A message that brings no
  news changes nothing; one that cannot follow raises, and changes nothing either.
- Once a grant is signed the consumer alone can end the process, by withdrawing before it has
  verified; its withdrawal is repeated until it is received, or until no grant could be alive.
- A signed grant that the consumer holds decides, whatever the provider says: a denial changes
  nothing before the grant's own expiry. After it what the provider says is the end.

So once messages arrive again both sides end alike, and before that they differ only on a grant
whose `not_after` (its expiry, which is signed) has not passed.

Each side having a process id of its own was rejected: streams are authenticated, a process is
bound to its peer, and the consumer's 32 random bytes are seen by that peer alone.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from protocol.machine import Machine

ANSWER_S = 120.0
"""How long the consumer waits for a node that does not answer."""
WAIT_MOST_S = 30 * 86_400.0
"""How long it waits at most for the person at the other side, whatever that side says."""
APART_S = 600.0
"""How far apart two clocks may be: so long after the last expiry a withdrawal is still repeated."""
OFFERS_MOST = 8
"""Of one process: two sides that go on and on would never come to an end."""
CONFIRM_S = 7 * 86_400.0
"""How long after the grant's expiry a consumer still asks how the process ended."""


class State(StrEnum):
    """Where one process stands."""

    REQUESTED = "REQUESTED"
    OFFERED = "OFFERED"
    ACCEPTED = "ACCEPTED"
    AGREED = "AGREED"
    VERIFIED = "VERIFIED"
    FINALIZED = "FINALIZED"
    TERMINATED = "TERMINATED"


class Event(StrEnum):
    """What moves it. The consumer accepts, verifies and withdraws; the provider does the rest."""

    OFFER = "offer"
    ACCEPT = "accept"
    REFER = "refer"
    AGREE = "agree"
    VERIFY = "verify"
    FINALIZE = "finalize"
    TERMINATE = "terminate"
    WITHDRAW = "withdraw"
    EXPIRE = "expire"


NEGOTIATION = Machine(
    name="negotiation",
    initial=State.REQUESTED,
    table={
        (State.REQUESTED, Event.REFER): State.REQUESTED,
        (State.REQUESTED, Event.OFFER): State.OFFERED,
        (State.REQUESTED, Event.AGREE): State.AGREED,
        (State.REQUESTED, Event.TERMINATE): State.TERMINATED,
        (State.REQUESTED, Event.WITHDRAW): State.TERMINATED,
        (State.REQUESTED, Event.EXPIRE): State.TERMINATED,
        (State.OFFERED, Event.ACCEPT): State.ACCEPTED,
        (State.OFFERED, Event.TERMINATE): State.TERMINATED,
        (State.OFFERED, Event.WITHDRAW): State.TERMINATED,
        (State.OFFERED, Event.EXPIRE): State.TERMINATED,
        (State.ACCEPTED, Event.REFER): State.ACCEPTED,
        (State.ACCEPTED, Event.OFFER): State.OFFERED,
        (State.ACCEPTED, Event.AGREE): State.AGREED,
        (State.ACCEPTED, Event.TERMINATE): State.TERMINATED,
        (State.ACCEPTED, Event.WITHDRAW): State.TERMINATED,
        (State.ACCEPTED, Event.EXPIRE): State.TERMINATED,
        (State.AGREED, Event.VERIFY): State.VERIFIED,
        (State.AGREED, Event.WITHDRAW): State.TERMINATED,
        (State.AGREED, Event.EXPIRE): State.TERMINATED,
        (State.VERIFIED, Event.FINALIZE): State.FINALIZED,
        (State.VERIFIED, Event.EXPIRE): State.TERMINATED,
    },
)


class Effect(StrEnum):
    """What a transition owes to the outside."""

    SPEAK = "speak"
    """Send what the state says (`speech`), until it is answered."""
    KEEP_GRANT = "keep grant"
    TELL = "tell"
    """Send the answer unasked: the consumer has stopped waiting on an open stream."""
    VOID_GRANT = "void grant"
    """The consumer has given the grant up; it holds nothing."""


@dataclass(frozen=True, slots=True)
class Process:
    """One side of one negotiation. Times are Unix seconds by this side's own clock."""

    state: State
    deadline: float
    """When the state expires."""
    not_after: float
    """No grant of this process is alive any more after it."""
    offer: int = 0
    """The number of the newest counter-offer; 0 before any."""
    told: bool = True
    """False for a consumer that gave up and has not heard that the provider knows it."""

    def after(self, *events: Event, **changes: float | bool) -> "Process":
        """This process after these events; RemoteProtocolError if the table has no such row."""
        state = self.state
        for event in events:
            state = NEGOTIATION.step(state, event)
        return replace(self, state=state, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Due:
    """Time has passed."""


Transition = tuple[Process, tuple[Effect, ...]]
