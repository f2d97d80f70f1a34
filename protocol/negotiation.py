"""Contract negotiation: the Dataspace Protocol's states, one table for both sides.

The consumer asks for one edge (child -> parent). The provider's terms decide at once: AGREED
carries the signed grant, TERMINATED a reason for each constraint. Requests are retransmitted
until answered or past the deadline, so every event may come twice: `step` is asked only about
events that are new to a process, and a repeated message gets the stored answer again.
"""

from enum import StrEnum

from protocol.machine import Machine


class State(StrEnum):
    """Where one process stands."""

    REQUESTED = "REQUESTED"
    AGREED = "AGREED"
    VERIFIED = "VERIFIED"
    FINALIZED = "FINALIZED"
    TERMINATED = "TERMINATED"


class Event(StrEnum):
    """What moves it. The consumer verifies; the provider agrees, refuses and finalizes."""

    AGREE = "agree"
    VERIFY = "verify"
    FINALIZE = "finalize"
    TERMINATE = "terminate"
    EXPIRE = "expire"


NEGOTIATION = Machine(
    name="negotiation",
    initial=State.REQUESTED,
    table={
        (State.REQUESTED, Event.AGREE): State.AGREED,
        (State.REQUESTED, Event.TERMINATE): State.TERMINATED,
        (State.REQUESTED, Event.EXPIRE): State.TERMINATED,
        (State.AGREED, Event.VERIFY): State.VERIFIED,
        (State.AGREED, Event.EXPIRE): State.TERMINATED,
        (State.VERIFIED, Event.FINALIZE): State.FINALIZED,
        (State.VERIFIED, Event.EXPIRE): State.TERMINATED,
    },
)
