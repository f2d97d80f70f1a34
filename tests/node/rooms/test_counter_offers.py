"""What is offered instead: taken within the limits, else by a person; and lies about it."""

from dataclasses import replace

import msgspec
import pytest
import trio

from node import grant_records, negotiation_bounds, negotiation_records
from node.api.contract_methods import ContractMethods, Listed
from node.errors import Fault
from protocol import codec
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId, hexadecimal
from protocol.messages import (
    NEGOTIATION_PROTOCOL,
    ContractAcceptance,
    ContractAgreement,
    ContractOffer,
    ContractReceived,
    ContractRequest,
    ContractTermination,
    ContractVerification,
)
from protocol.negotiation import State
from tests.node.rooms.contracts import (
    ALGORITHM,
    DATA,
    algorithm,
    everybody_knows,
    limits,
    reached,
    request_for,
    seen,
)

LEAF = DATA["bank-b"]


@pytest.fixture
def pair(nodes):
    everybody_knows(nodes, algorithm(nodes))
    return nodes["bank-b"], nodes["fintech-c"]


@pytest.fixture
async def running(pair, nursery):
    for node in pair:
        nursery.start_soon(node.engine.run)


async def test_an_offer_within_the_limits_is_taken_at_once(
    nodes, pair, running, autojump_clock
) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF, uses=5)
    fintech.negotiations.consumer.start(request, limits(request, uses_least=2))
    await reached(fintech, request, State.FINALIZED)
    kept = grant_records.latest(bank.engine.db, LEAF, ALGORITHM)
    assert kept is not None
    assert kept.terms.max_uses == 2
    granted = negotiation_records.granted_request(bank.engine.db, LEAF, ALGORITHM)
    assert (granted.uses, granted.process) == (2, request.process)


async def test_any_other_offer_waits_for_a_person_who_takes_it(
    nodes, pair, running, autojump_clock
) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF, uses=5, pay_amount="7")
    fintech.negotiations.consumer.start(request, limits(request))
    await reached(fintech, request, State.OFFERED)
    offer = seen(fintech, request).newest_offer
    assert offer is not None
    assert (offer.number, offer.uses, offer.price) == (1, 2, str(10**18))
    named = {each.operand for each in seen(fintech, request).failures}
    assert named == {"odrl:count", "odrl:payAmount"}
    fintech.negotiations.consumer.accept(request.process)
    await reached(fintech, request, State.FINALIZED)
    await reached(bank, request, State.FINALIZED)


async def test_a_person_withdraws_and_the_owner_knows_it(
    nodes, pair, running, autojump_clock
) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF, uses=5)
    fintech.negotiations.consumer.start(request, limits(request))
    await reached(fintech, request, State.OFFERED)
    fintech.negotiations.consumer.withdraw(request.process)
    await reached(bank, request, State.TERMINATED)
    assert seen(bank, request).sentence == "fintech-c withdrew: withdrawn here"
    for act in (fintech.negotiations.consumer.withdraw, fintech.negotiations.consumer.accept):
        with pytest.raises(Fault, match="cannot happen"):
            act(request.process)
    with pytest.raises(Fault, match="the other side began"):
        bank.negotiations.consumer.withdraw(request.process)


async def test_an_offer_that_nobody_takes_ends_at_both_sides(
    nodes, pair, running, autojump_clock
) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF, uses=5, expires=int(fintech.engine.clock()) + 86_400)
    fintech.negotiations.consumer.start(request, limits(request))
    for node in pair:
        await reached(node, request, State.TERMINATED, within_s=4000)
    assert "ended" in seen(bank, request).sentence
    assert await fintech.engine.until(lambda: bool(seen(fintech, request).told), 60)


async def test_terms_that_changed_after_the_offer_make_another_offer(
    nodes, pair, running, autojump_clock
) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF, uses=5)
    fintech.negotiations.consumer.start(request, limits(request))
    await reached(fintech, request, State.OFFERED)
    dataset = bank.config.datasets[0]
    dearer = msgspec.structs.replace(dataset, terms={**dataset.terms, "price": 2 * 10**18})
    with bank.engine.transaction() as tx:
        bank.judging.adopt(tx, msgspec.structs.replace(bank.config, datasets=(dearer,)))
    fintech.negotiations.consumer.accept(request.process)

    def second() -> bool:
        return seen(fintech, request).offer == 2

    assert await fintech.engine.until(second, 300)
    await reached(fintech, request, State.OFFERED)
    fintech.negotiations.consumer.accept(request.process)
    await reached(fintech, request, State.FINALIZED)
    kept = grant_records.latest(fintech.engine.db, LEAF, ALGORITHM)
    assert kept is not None
    assert kept.terms.price == str(2 * 10**18)


async def test_a_grant_given_up_before_it_was_held_is_void_and_its_number_is_not_used_again(
    nodes, pair, autojump_clock
) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF)
    answer = await say(fintech, bank, request)
    assert isinstance(answer, ContractAgreement)
    withdrawal = ContractTermination(process=request.process, sentence="no", reasons=())
    for _ in range(2):
        assert isinstance(await say(fintech, bank, withdrawal), ContractReceived)
    assert grant_records.latest(bank.engine.db, LEAF, ALGORITHM) is None
    late = await say(fintech, bank, ContractVerification(process=request.process))
    assert isinstance(late, ContractTermination)
    again = await say(fintech, bank, request_for(nodes, LEAF))
    assert isinstance(again, ContractAgreement)
    assert again.grant.seq == answer.grant.seq + 1


async def test_a_request_that_comes_after_its_own_withdrawal_is_not_granted(
    nodes, pair, autojump_clock
) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF)
    withdrawal = ContractTermination(process=request.process, sentence="", reasons=())
    assert isinstance(await say(fintech, bank, withdrawal), ContractReceived)
    answer = await say(fintech, bank, request)
    assert isinstance(answer, ContractTermination)
    assert "withdrawn" in answer.sentence
    assert grant_records.every(bank.engine.db) == []


async def test_withdrawals_of_nothing_are_bounded(pair, autojump_clock, monkeypatch) -> None:
    bank, fintech = pair
    monkeypatch.setattr(negotiation_bounds, "REQUESTS_PER_HOUR", 3)
    for number in range(6):
        await say(
            fintech,
            bank,
            ContractTermination(process=bytes([number]) * 32, sentence="", reasons=()),
        )
    assert bank.engine.db["withdrawn_requests"].count == 3


async def test_strangers_are_bounded_together_and_forgotten(
    nodes, pair, autojump_clock, monkeypatch
) -> None:
    bank, fintech = pair
    monkeypatch.setattr(negotiation_bounds, "STRANGERS_PER_HOUR", 3)
    monkeypatch.setattr(negotiation_bounds, "_configured", lambda _: "[]")
    known = bank.directory.of_peer(fintech.key.peer_id)
    stranger = replace(known, operator=None, source="gossip")
    monkeypatch.setattr(bank.directory, "of_peer", lambda _: stranger)
    for _ in range(5):
        answer = await say(fintech, bank, request_for(nodes, LEAF, uses=5, attester=bytes(20)))
    assert isinstance(answer, ContractTermination)
    assert "in an hour" in answer.sentence
    assert len(negotiation_records.every(bank.engine.db)) == 3
    await trio.sleep(negotiation_bounds.FORGOTTEN_AFTER_S + 7200)
    for each in negotiation_records.every(bank.engine.db):
        bank.negotiations.provider.expire(each)
    await trio.sleep(negotiation_bounds.FORGOTTEN_AFTER_S + 1)
    with bank.engine.transaction() as tx:
        negotiation_bounds.forget_strangers(tx, bank.directory)
    assert negotiation_records.every(bank.engine.db) == []


async def test_a_run_is_judged_by_the_request_of_the_newest_grant(
    nodes, pair, autojump_clock
) -> None:
    bank, fintech = pair
    first, second = request_for(nodes, LEAF), request_for(nodes, LEAF, uses=2)
    for request in (first, second):
        assert isinstance(await say(fintech, bank, request), ContractAgreement)
        await trio.sleep(1)
    verified = ContractVerification(process=first.process)
    await fintech.host.request(
        bank.key.peer_id, NEGOTIATION_PROTOCOL, codec.encode(verified), timeout_s=1
    )
    assert seen(bank, first).updated_at > seen(bank, second).updated_at
    assert negotiation_records.granted_request(bank.engine.db, LEAF, ALGORITHM) == second


async def test_negotiations_are_listed_by_pages(nodes, pair, autojump_clock) -> None:
    _, fintech = pair
    requests = [request_for(nodes, LEAF) for _ in range(5)]
    for request in requests:
        fintech.negotiations.consumer.start(request)
    house = type("House", (), {"engine": fintech.engine, "directory": fintech.directory})
    methods = ContractMethods(type("Rooms", (), {"house": house}))  # type: ignore[arg-type]
    first = await methods.listed(Listed(limit=3))
    rest = await methods.listed(Listed(after=hexadecimal(first[-1]["id"])))
    found = [each["id"] for each in (*first, *rest)]
    assert found == [request.process for request in reversed(requests)]
    assert await methods.listed(Listed(state=State.OFFERED)) == []
    with pytest.raises(Fault, match="is known here"):
        await methods.listed(Listed(after="0x" + "77" * 32))


async def test_an_answer_that_cannot_be_used_is_told_to_who_looks(
    nodes, pair, autojump_clock, nursery
) -> None:
    bank, fintech = pair
    other = request_for(nodes, LEAF)
    with bank.engine.transaction() as tx:
        small = bank.grants.give(tx, other)
    asked = request_for(nodes, LEAF, uses=2)
    forged = codec.encode(msgspec.structs.replace(small, process=asked.process))

    async def lie(_peer_id: PeerId, _data: bytes) -> bytes:
        return forged

    bank.host.served[NEGOTIATION_PROTOCOL] = lie
    nursery.start_soon(fintech.engine.run)
    fintech.negotiations.consumer.start(asked)
    assert await fintech.engine.until(lambda: bool(seen(fintech, asked).sentence), 60)
    assert seen(fintech, asked).state is State.REQUESTED
    assert "cannot be used: the grant is for fewer uses" in seen(fintech, asked).sentence
    await reached(fintech, asked, State.TERMINATED)
    assert "did not answer well" in seen(fintech, asked).sentence


async def test_a_grant_priced_by_another_unit_is_not_kept(nodes, pair, autojump_clock) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF)
    dataset = bank.config.datasets[0]
    by_row = msgspec.structs.replace(dataset, terms={**dataset.terms, "price_unit": "row"})
    with bank.engine.transaction() as tx:
        bank.judging.adopt(tx, msgspec.structs.replace(bank.config, datasets=(by_row,)))
        dear = bank.grants.give(tx, request)
    with pytest.raises(RemoteProtocolError, match="another unit"):
        fintech.grants.check(request, dear.grant, dear.signature, bank.account)


ANSWERS = (ContractAgreement, ContractOffer, ContractReceived, ContractTermination)


async def say(sender, receiver, message):
    data = await sender.host.request(
        receiver.key.peer_id, NEGOTIATION_PROTOCOL, codec.encode(message), timeout_s=1
    )
    return codec.decode(data, *ANSWERS)


async def test_a_provider_that_agrees_and_then_denies_changes_nothing(
    nodes, pair, autojump_clock, nursery
) -> None:
    bank, fintech = pair
    honest = bank.host.served[NEGOTIATION_PROTOCOL]
    denials = []

    async def deny(peer_id: PeerId, data: bytes) -> bytes:
        message = codec.decode(data, ContractRequest, ContractVerification)
        if isinstance(message, ContractRequest):
            return await honest(peer_id, data)
        denials.append(message)
        no = ContractTermination(process=message.process, sentence="I never agreed", reasons=())
        return codec.encode(no)

    bank.host.served[NEGOTIATION_PROTOCOL] = deny
    nursery.start_soon(fintech.engine.run)
    request = request_for(nodes, LEAF)
    fintech.negotiations.consumer.start(request)
    await reached(fintech, request, State.VERIFIED)
    await trio.sleep(1800)
    assert len(denials) > 3
    assert seen(fintech, request).state is State.VERIFIED
    assert grant_records.latest(fintech.engine.db, LEAF, ALGORITHM) is not None
    await reached(fintech, request, State.TERMINATED, within_s=4000)
    assert seen(fintech, request).sentence == "I never agreed"


async def test_nobody_else_speaks_in_a_negotiation(nodes, pair, autojump_clock) -> None:
    bank, fintech, other = *pair, nodes["bank-a"]
    request = request_for(nodes, LEAF, uses=5)
    fintech.negotiations.consumer.start(request, limits(request))
    offer = await say(fintech, bank, request)
    assert isinstance(offer, ContractOffer)
    process = request.process
    no = ContractTermination(process=process, sentence="", reasons=())
    for victim in pair:
        with pytest.raises(Fault, match="somebody else"):
            await say(other, victim, no)
    with pytest.raises(Fault, match="somebody else"):
        await say(other, bank, ContractAcceptance(process=process, number=1))
    with pytest.raises(Fault, match="never made"):
        await say(fintech, bank, ContractAcceptance(process=process, number=2))
    with pytest.raises(Fault, match="follows"):
        await say(bank, fintech, msgspec.structs.replace(offer, number=2))
    with pytest.raises(Fault, match="not asked"):
        await say(bank, fintech, ContractAcceptance(process=process, number=1))
    for unknown in (offer, ContractVerification(process=process)):
        with pytest.raises(Fault, match="not known"):
            await say(bank, bank, msgspec.structs.replace(unknown, process=bytes(32)))
    assert seen(bank, request).state is State.OFFERED
    assert seen(fintech, request).state is State.REQUESTED


async def test_an_agreement_to_something_else_than_was_accepted_is_not_kept(
    nodes, pair, autojump_clock
) -> None:
    bank, fintech = pair
    request = request_for(nodes, LEAF)
    with bank.engine.transaction() as tx:
        cheap = bank.grants.give(tx, msgspec.structs.replace(request, uses=2))
    asked = request_for(nodes, LEAF, uses=5)
    fintech.negotiations.consumer.start(asked, limits(asked))
    forged = msgspec.structs.replace(cheap, process=asked.process)
    with pytest.raises(Fault, match="fewer uses"):
        await say(bank, fintech, forged)
    assert seen(fintech, asked).state is State.REQUESTED
    assert grant_records.every(fintech.engine.db) == []
    found = seen(fintech, asked)
    with pytest.raises(RemoteProtocolError, match="fewer uses"):
        fintech.negotiations.consumer.hear(found, forged, codec.encode(forged))
