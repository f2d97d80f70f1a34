"""Two nodes and the table between them, with messages lost before and after they acted."""

import random

import msgspec
import pytest
import trio

from node import grant_records, grants, negotiation_records
from node.errors import Fault
from protocol import codec
from protocol.errors import RemoteProtocolError
from protocol.ids import Account
from protocol.messages import ContractAgreement, ContractRequest
from protocol.negotiation import ANSWER_S, NEGOTIATION, State
from protocol.terms import CODE
from tests.node.rooms.contracts import ALGORITHM, DATA, algorithm, everybody_knows, request_for


async def settle(nodes, request: ContractRequest, timeout_s: float = 300.0) -> State:
    c = nodes["fintech-c"]
    c.negotiations.consumer.start(request)

    def over() -> bool:
        found = negotiation_records.find(c.engine.db, request.process)
        return found is not None and NEGOTIATION.is_final(found.state)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(c.engine.run)
        assert await c.engine.until(over, timeout_s)
        nursery.cancel_scope.cancel()
    found = negotiation_records.find(c.engine.db, request.process)
    assert found is not None
    return found.state


async def test_what_the_terms_allow_is_granted_by_a_signature(nodes, autojump_clock) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b, c = nodes["bank-b"], nodes["fintech-c"]
    request = request_for(nodes, DATA["bank-b"])
    assert await settle(nodes, request) is State.FINALIZED
    held = grant_records.latest(c.engine.db, DATA["bank-b"], ALGORITHM)
    given = grant_records.latest(b.engine.db, DATA["bank-b"], ALGORITHM)
    assert held is not None
    assert given is not None
    assert (held.body, held.signature) == (given.body, given.signature)
    provider = negotiation_records.find(b.engine.db, request.process)
    assert provider is not None
    assert provider.state is State.FINALIZED


async def test_what_the_terms_forbid_is_refused_naming_each_constraint(
    nodes, autojump_clock
) -> None:
    everybody_knows(nodes, algorithm(nodes, width=12, noise=0.0))
    b, c = nodes["bank-b"], nodes["fintech-c"]
    request = request_for(nodes, DATA["bank-b"])
    assert await settle(nodes, request) is State.TERMINATED
    found = negotiation_records.find(c.engine.db, request.process)
    assert found is not None
    assert {"cdt:parameter.width", "cdt:noise"} <= {
        each["operand"] for each in msgspec.json.decode(found.findings)
    }
    assert grant_records.every(b.engine.db) == grant_records.every(c.engine.db) == []


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_lost_both_sides_agree_in_the_end(
    nodes, autojump_clock, network, seed: int
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    dice = random.Random(seed)
    network.lose = lambda: dice.choices(["", "before", "after"], [4, 3, 3])[0]
    request = request_for(nodes, DATA["bank-b"])
    assert await settle(nodes, request, 3 * ANSWER_S) is State.FINALIZED
    provider = negotiation_records.find(nodes["bank-b"].engine.db, request.process)
    assert provider is not None
    assert provider.state is State.FINALIZED
    assert len(grant_records.every(nodes["bank-b"].engine.db)) == 1


async def test_a_consumer_that_never_confirms_is_given_up_when_its_grant_expires(
    nodes, autojump_clock
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b, c = nodes["bank-b"], nodes["fintech-c"]
    request = request_for(nodes, DATA["bank-b"])
    await c.host.request(
        b.key.peer_id, "/northbund/negotiation/1", codec.encode(request), timeout_s=1
    )

    def state() -> State:
        found = negotiation_records.find(b.engine.db, request.process)
        assert found is not None
        return found.state

    assert state() is State.AGREED
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.engine.run)
        assert not await b.engine.until(lambda: state() is State.TERMINATED, 3500)
        assert await b.engine.until(lambda: state() is State.TERMINATED, 200)
        nursery.cancel_scope.cancel()


async def test_a_silent_owner_is_named_at_the_deadline(nodes, autojump_clock, network) -> None:
    everybody_knows(nodes, algorithm(nodes))
    network.lose = lambda: "before"
    request = request_for(nodes, DATA["bank-b"])
    assert await settle(nodes, request, 3 * ANSWER_S) is State.TERMINATED
    found = negotiation_records.find(nodes["fintech-c"].engine.db, request.process)
    assert found is not None
    assert found.sentence == "bank-b did not answer before the deadline"


@pytest.mark.parametrize(
    ("changes", "operand"),
    [
        ({"attester": b"\x77" * 20}, "cdt:attester"),
        ({"decider": b"\x77" * 20}, "cdt:decider"),
        ({"pay_amount": str(10**18 - 1)}, "odrl:payAmount"),
        ({"uses": 3}, "odrl:count"),
        ({"expires": 2**40}, "odrl:dateTime"),
    ],
)
async def test_the_request_itself_is_judged(
    nodes, autojump_clock, changes: dict, operand: str
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    findings = nodes["bank-b"].judging.judge(request_for(nodes, DATA["bank-b"], **changes)).findings
    assert [each.operand for each in findings if not each.passed] == [operand]


async def test_other_code_than_the_installed_is_refused(nodes, autojump_clock) -> None:
    parent = algorithm(nodes)
    assert parent.algorithm is not None
    first, *rest = parent.algorithm.workflow
    changed = msgspec.structs.replace(
        parent.algorithm, workflow=(msgspec.structs.replace(first, code="0x" + "9" * 64), *rest)
    )
    everybody_knows(nodes, msgspec.structs.replace(parent, algorithm=changed))
    findings = nodes["bank-a"].judging.judge(request_for(nodes, DATA["bank-a"])).findings
    assert [each.operand for each in findings if not each.passed] == [CODE]


async def test_a_peer_cannot_ask_in_anothers_name(nodes, autojump_clock) -> None:
    everybody_knows(nodes, algorithm(nodes))
    a, b = nodes["bank-a"], nodes["bank-b"]
    request = request_for(nodes, DATA["bank-b"])
    answer = await a.host.request(
        b.key.peer_id, "/northbund/negotiation/1", codec.encode(request), timeout_s=1
    )
    with pytest.raises(RemoteProtocolError):
        codec.decode(answer, ContractAgreement)
    assert grant_records.every(b.engine.db) == []


async def test_another_request_under_a_known_process_is_refused(nodes, autojump_clock) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b, c = nodes["bank-b"], nodes["fintech-c"]
    request = request_for(nodes, DATA["bank-b"])
    assert await settle(nodes, request) is State.FINALIZED
    other = msgspec.structs.replace(request, uses=2)
    with pytest.raises(Fault, match="another request"):
        await c.host.request(
            b.key.peer_id, "/northbund/negotiation/1", codec.encode(other), timeout_s=1
        )


async def test_a_grant_is_used_as_often_as_it_says_by_our_own_count(nodes, autojump_clock) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b = nodes["bank-b"]
    await settle(nodes, request_for(nodes, DATA["bank-b"]))
    with b.engine.transaction() as tx:
        b.grants.count_use(tx, DATA["bank-b"], ALGORITHM)
    with pytest.raises(Fault, match="used up"), b.engine.transaction() as tx:
        b.grants.count_use(tx, DATA["bank-b"], ALGORITHM)


async def test_a_forged_grant_is_not_kept(nodes, autojump_clock) -> None:
    everybody_knows(nodes, algorithm(nodes))
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    request = request_for(nodes, DATA["bank-b"])
    with b.engine.transaction() as tx:
        honest = b.grants.give(tx, request)
    for grant, signature, says in (
        (msgspec.structs.replace(honest.grant, price="0"), honest.signature, "not signed"),
        (honest.grant, a.grants.signer.sign(a.grants.signer.registry, grants.typed(honest.grant)),
         "not signed"),
        (msgspec.structs.replace(honest.grant, child=DATA["bank-a"]), honest.signature, "child"),
    ):  # fmt: skip
        with pytest.raises(RemoteProtocolError, match=says):
            c.grants.check(request, grant, signature, Account(b.account))
    c.grants.check(request, honest.grant, honest.signature, Account(b.account))
