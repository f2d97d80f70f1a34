"""Both sides' transitions: only RemoteProtocolError, ends are ends, old news changes nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace

from protocol import messages, negotiation_consumer, negotiation_provider
from protocol.errors import RemoteProtocolError
from protocol.negotiation import (
    ANSWER_S,
    APART_S,
    NEGOTIATION,
    OFFERS_MOST,
    Due,
    Effect,
    Process,
    State,
)
from protocol.negotiation_consumer import Accept, Limits, Speech, Withdraw, speech
from protocol.negotiation_provider import Agree, Offer, Refer, Refuse
from tests.protocol.test_codec import example

NOW, EXPIRY = 1_000.0, 5_000


def made(kind: type[Any], **changes: object) -> Any:
    return replace(example(inspect.type_info(kind)), **changes)


def agreement(expiry: int = EXPIRY) -> Any:
    whole = made(messages.ContractAgreement)
    return replace(whole, grant=replace(whole.grant, expiry=expiry))


def offer(number: int = 1, **changes: object) -> Any:
    return made(messages.ContractOffer, number=number, expires=EXPIRY, valid_s=300, **changes)


PENDING = made(messages.ContractPending, valid_s=1000)
TERMINATION = made(messages.ContractTermination)
FINALIZED = made(messages.ContractFinalized)
RECEIVED = made(messages.ContractReceived)
ANSWERS = [offer(1), offer(2), PENDING, agreement(), TERMINATION, FINALIZED, RECEIVED]
ACTIONS = [Accept(1), Accept(2), Withdraw(), Due()]
ACCEPTANCES = [made(messages.ContractAcceptance, number=number) for number in (1, 2)]
MESSAGES = [*ACCEPTANCES, made(messages.ContractVerification), TERMINATION]
VERDICTS = [Agree(EXPIRY), Offer(300.0), Refer(3_000.0), Refuse(), Due()]


def consumed(process: Process, event: object, now: float) -> tuple[Process, Any]:
    if event in ACTIONS:
        return negotiation_consumer.acted(process, event, now)  # type: ignore[arg-type]
    return negotiation_consumer.heard(process, event, now)  # type: ignore[arg-type]


def provided(process: Process, event: object, now: float) -> tuple[Process, Any]:
    if event in VERDICTS:
        return negotiation_provider.acted(process, event, now)  # type: ignore[arg-type]
    return negotiation_provider.heard(process, event)  # type: ignore[arg-type]


SIDES = {
    "consumer": (consumed, st.sampled_from([*ANSWERS, *ACTIONS])),
    "provider": (provided, st.sampled_from([*MESSAGES, *VERDICTS])),
}


@pytest.mark.parametrize("side", SIDES)
@given(data=st.data())
def test_whatever_happens_the_table_alone_is_followed(side: str, data: st.DataObject) -> None:
    step, events = SIDES[side]
    process, _ = negotiation_consumer.asked(NOW, EXPIRY)
    now = NOW
    for _ in range(data.draw(st.integers(0, 12))):
        now += data.draw(st.floats(0, 2_000))
        try:
            after, _ = step(process, data.draw(events), now)
        except RemoteProtocolError:
            continue
        reachable = {end for (start, _), end in NEGOTIATION.table.items() if start is process.state}
        twice = {end for (start, _), end in NEGOTIATION.table.items() if start in reachable}
        assert after.state in {process.state} | reachable | twice
        if NEGOTIATION.is_final(process.state):
            assert after.state is process.state
        process = after


def asked(state: State = State.REQUESTED, **changes: Any) -> Process:
    return Process(state, NOW + ANSWER_S, EXPIRY, **changes)


def test_a_consumer_says_what_its_state_says() -> None:
    said = {state: speech(asked(state), NOW) for state in State}
    assert said == {
        State.REQUESTED: Speech.REQUEST,
        State.OFFERED: None,
        State.ACCEPTED: Speech.ACCEPTANCE,
        State.AGREED: None,
        State.VERIFIED: Speech.VERIFICATION,
        State.FINALIZED: None,
        State.TERMINATED: None,
    }
    given_up = asked(State.TERMINATED, told=False)
    assert speech(given_up, NOW) is Speech.WITHDRAWAL
    assert speech(given_up, EXPIRY + APART_S) is None


@pytest.mark.parametrize("state", [State.REQUESTED, State.OFFERED, State.ACCEPTED])
@pytest.mark.parametrize("action", [Withdraw(), Due()])
def test_who_gives_up_before_it_holds_a_grant_says_so_until_it_is_known(
    state: State, action: Withdraw | Due
) -> None:
    over, owed = negotiation_consumer.acted(asked(state), action, NOW + ANSWER_S)
    assert (over.state, over.told, owed) == (State.TERMINATED, False, (Effect.SPEAK,))
    for news in (agreement(), offer(), PENDING):  # what was on its way
        assert negotiation_consumer.heard(over, news, NOW) == (over, ())
    for word in (RECEIVED, TERMINATION):
        assert negotiation_consumer.heard(over, word, NOW)[0].told


def test_a_signed_grant_decides_until_it_expires() -> None:
    held, owed = negotiation_consumer.heard(asked(), agreement(), NOW)
    assert (held.state, owed) == (State.VERIFIED, (Effect.KEEP_GRANT, Effect.SPEAK))
    for wrong in (TERMINATION, RECEIVED, offer()):
        with pytest.raises(RemoteProtocolError):
            negotiation_consumer.heard(held, wrong, NOW)
    with pytest.raises(RemoteProtocolError, match="held"):
        negotiation_consumer.acted(held, Withdraw(), NOW)
    assert negotiation_consumer.acted(held, Due(), EXPIRY + 1) == (held, ())
    over, _ = negotiation_consumer.heard(held, TERMINATION, EXPIRY)
    assert (over.state, over.told) == (State.TERMINATED, True)


def test_offers_come_in_their_order_and_for_no_longer_than_was_asked() -> None:
    first, _ = negotiation_consumer.heard(asked(), offer(1), NOW)
    assert (first.state, first.offer, first.deadline) == (State.OFFERED, 1, NOW + 300)
    assert negotiation_consumer.heard(first, offer(1), NOW + 9) == (first, ())
    taken, owed = negotiation_consumer.acted(first, Accept(1), NOW)
    assert (taken.state, owed) == (State.ACCEPTED, (Effect.SPEAK,))
    second, _ = negotiation_consumer.heard(taken, offer(2), NOW)
    assert (second.state, second.offer) == (State.OFFERED, 2)
    with pytest.raises(RemoteProtocolError, match="not the newest"):
        negotiation_consumer.acted(second, Accept(1), NOW)
    with pytest.raises(RemoteProtocolError, match="follows"):
        negotiation_consumer.heard(asked(), offer(2), NOW)
    with pytest.raises(RemoteProtocolError, match="longer"):
        negotiation_consumer.heard(asked(), replace(offer(1), expires=EXPIRY + 1), NOW)


def test_a_provider_that_offers_for_ever_is_not_followed_for_ever() -> None:
    process, now = asked(), NOW
    for number in range(1, OFFERS_MOST + 1):
        process, _ = negotiation_consumer.heard(process, offer(number), now)
        process, _ = negotiation_consumer.acted(process, Accept(number), now)
    with pytest.raises(RemoteProtocolError, match="more than 8 offers"):
        negotiation_consumer.heard(process, offer(OFFERS_MOST + 1), now)
    assert negotiation_consumer.heard(process, offer(OFFERS_MOST), now) == (process, ())


def test_a_provider_takes_the_newest_offers_acceptance_once() -> None:
    offered, _ = negotiation_provider.acted(asked(), Offer(300.0), NOW)
    with pytest.raises(RemoteProtocolError, match="never made"):
        negotiation_provider.heard(offered, ACCEPTANCES[1])
    accepted, _ = negotiation_provider.heard(offered, ACCEPTANCES[0])
    assert accepted.state is State.ACCEPTED
    assert negotiation_provider.heard(accepted, ACCEPTANCES[0]) == (accepted, ())
    agreed, _ = negotiation_provider.acted(accepted, Agree(EXPIRY), NOW)
    assert (agreed.deadline, agreed.not_after) == (EXPIRY, EXPIRY)
    over, owed = negotiation_provider.heard(agreed, TERMINATION)
    assert (over.state, owed) == (State.TERMINATED, (Effect.VOID_GRANT,))
    done, _ = negotiation_provider.heard(agreed, MESSAGES[2])
    assert done.state is State.FINALIZED
    with pytest.raises(RemoteProtocolError):
        negotiation_provider.heard(done, TERMINATION)


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, True),
        ({"price": "11"}, False),
        ({"uses": 1}, False),
        ({"expires": 99}, False),
        ({"attester": b"\x03" * 20}, False),
        ({"decider": b"\x03" * 20}, False),
    ],
)
def test_limits_hold_each_value_of_an_offer(changes: dict[str, Any], held: bool) -> None:
    limits = Limits(
        pay_most="10",
        uses_least=2,
        expires_least=100,
        attesters=(b"\x01" * 20, b"\x04" * 20),
        deciders=(b"\x02" * 20,),
    )
    within = made(
        messages.ContractOffer,
        price="10",
        uses=2,
        expires=100,
        attester=b"\x04" * 20,
        decider=b"\x02" * 20,
    )
    assert limits.hold(replace(within, **changes)) is held
