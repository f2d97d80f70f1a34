"""Requests that wait for a person: approved, refused, forgotten, too many."""

import msgspec
import pytest

from node import grant_records, referrals
from node.api.request_methods import Decision, Listed, OfId, RequestMethods
from node.errors import Fault
from protocol.ids import hexadecimal
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


def adopt(node, **terms: object) -> None:
    dataset = node.config.datasets[0]
    changed = msgspec.structs.replace(dataset, terms={**dataset.terms, **terms})
    with node.engine.transaction() as tx:
        node.judging.adopt(tx, msgspec.structs.replace(node.config, datasets=(changed,)))


@pytest.fixture
def pair(nodes):
    everybody_knows(nodes, algorithm(nodes))
    adopt(nodes["bank-b"], purposes=["marketing"], refer=["purposes"], refer_days=1)
    return nodes["bank-b"], nodes["fintech-c"]


@pytest.fixture
async def running(pair, nursery):
    for node in pair:
        nursery.start_soon(node.engine.run)


async def referred(nodes, pair, **changes: object):
    bank, fintech = pair
    expires = int(fintech.engine.clock()) + 10 * 86_400
    request = request_for(nodes, LEAF, expires=expires, **changes)
    fintech.negotiations.consumer.start(request, limits(request))
    await reached(bank, request, State.REQUESTED)
    assert await bank.engine.until(lambda: bool(referrals.waiting(bank.engine.db)), 60)
    return request


async def test_an_approval_waives_what_was_referred_and_is_kept_with_the_grant(
    nodes, pair, running, autojump_clock
) -> None:
    bank, fintech = pair
    request = await referred(nodes, pair)
    (waiting,) = referrals.waiting(bank.engine.db)
    assert waiting.waivable == {"odrl:purpose"}
    bank.negotiations.provider.approve(request.process, "ann", "for this quarter")
    for node in pair:
        await reached(node, request, State.FINALIZED)
    kept = grant_records.latest(bank.engine.db, LEAF, ALGORITHM)
    assert kept is not None
    assert kept.waived_operands == {"odrl:purpose"}
    assert not bank.judging.judge_given(request, kept).failures
    decided = referrals.find(bank.engine.db, request.process)
    assert decided is not None
    assert (decided.decision, decided.decided_by, decided.remark) == (
        "approved",
        "ann",
        "for this quarter",
    )
    assert decided.decided_at > 0
    with pytest.raises(Fault, match="ann has decided"):
        bank.negotiations.provider.refuse(request.process, "bob", "")
    assert fintech.engine.db["grants"].count == 1


async def test_a_refusal_tells_its_remark(nodes, pair, running, autojump_clock) -> None:
    bank, fintech = pair
    request = await referred(nodes, pair)
    bank.negotiations.provider.refuse(request.process, "ann", "no rivals")
    await reached(fintech, request, State.TERMINATED)
    found = seen(fintech, request)
    assert found.sentence == "refused by a person: no rivals"
    assert [each.operand for each in found.failures] == ["odrl:purpose"]
    assert found.told


async def test_a_request_that_nobody_decides_about_ends_with_a_reason(
    nodes, pair, running, autojump_clock
) -> None:
    bank, fintech = pair
    request = await referred(nodes, pair)
    for node in pair:
        await reached(node, request, State.TERMINATED, within_s=2 * 86_400)
    assert seen(fintech, request).sentence == "nobody decided about the request before its deadline"
    assert referrals.waiting(bank.engine.db) == []
    with pytest.raises(Fault, match="it ended"):
        bank.negotiations.provider.approve(request.process, "ann", "")


async def test_what_fails_since_is_not_waived(nodes, pair, running, autojump_clock) -> None:
    bank, fintech = pair
    request = await referred(nodes, pair)
    adopt(bank, purposes=["marketing"], refer=["purposes"], numbers_per_row_max=1)
    with pytest.raises(Fault, match="numbers opened for each row"):
        bank.negotiations.provider.approve(request.process, "ann", "")
    assert seen(fintech, request).state is State.REQUESTED
    assert len(referrals.waiting(bank.engine.db)) == 1
    adopt(bank, purposes=["marketing"], refer=["purposes"])
    bank.negotiations.provider.approve(request.process, "ann", "")
    await reached(fintech, request, State.FINALIZED)


async def test_an_offer_can_be_taken_and_then_be_referred(
    nodes, pair, running, autojump_clock
) -> None:
    bank, fintech = pair
    expires = int(fintech.engine.clock()) + 86_400
    request = request_for(nodes, LEAF, uses=5, expires=expires)
    fintech.negotiations.consumer.start(request, limits(request, uses_least=1))
    await reached(fintech, request, State.ACCEPTED)
    assert await bank.engine.until(lambda: bool(referrals.waiting(bank.engine.db)), 60)
    bank.negotiations.provider.approve(request.process, "ann", "")
    await reached(fintech, request, State.FINALIZED)


async def test_the_queue_is_bounded_for_each_peer(
    nodes, pair, running, autojump_clock, monkeypatch
) -> None:
    bank, fintech = pair
    monkeypatch.setattr(referrals, "REFERRED_MOST", 2)
    for _ in range(2):
        await referred(nodes, pair)
    request = request_for(nodes, LEAF)
    fintech.negotiations.consumer.start(request, limits(request))
    await reached(fintech, request, State.TERMINATED)
    assert "wait for a person" in seen(fintech, request).sentence
    assert len(referrals.waiting(bank.engine.db)) == 2


async def test_a_person_sees_each_finding(nodes, pair, running, autojump_clock) -> None:
    bank, _ = pair
    request = await referred(nodes, pair)
    house = type("House", (), {"engine": bank.engine, "directory": bank.directory})
    rooms = type("Rooms", (), {"house": house, "negotiations": bank.negotiations})
    methods = RequestMethods(rooms)  # type: ignore[arg-type]
    (line,) = await methods.every(Listed())
    assert (line["counterparty"], line["to_decide"]) == ("fintech-c", ["purpose"])
    shown = await methods.show(OfId(id=hexadecimal(request.process)))
    assert shown["operation"] == "shared-features"
    failed = [each["what"] for each in shown["findings"] if not each["passed"]]
    assert failed == ["purpose"]
    assert len(shown["findings"]) > 10
    told = await methods.approve(Decision(id=hexadecimal(request.process), by="ann"))
    assert told["decided_by"] == "ann"
    assert await methods.every(Listed()) == []
    assert len(await methods.every(Listed(decided=True))) == 1
    with pytest.raises(Fault, match="was referred to you"):
        await methods.show(OfId(id="0x" + "77" * 32))
