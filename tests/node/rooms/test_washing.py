"""Attempts to wash a grant: of its revocation, its attester, its owner, its count."""

import msgspec
import pytest

from node import grant_records, negotiation_bounds, negotiation_records
from node.errors import Fault
from protocol import codec, typed_data
from protocol.documents import plan_hash
from protocol.messages import (
    NEGOTIATION_PROTOCOL,
    ContractAgreement,
    ContractReceived,
    ContractTermination,
    SessionDeclined,
    SessionPledged,
)
from tests.node.rooms.session_world import (
    ALGORITHM,
    DATA,
    NOW,
    PARAMETERS,
    TASK,
    algorithm_of,
    negotiated,
    request_for,
)

EDGE = {"child": DATA["bank-b"], "parent": ALGORITHM}


async def said(world, message):
    b = world.nodes["bank-b"].key.peer_id
    host = world.nodes["fintech-c"].host
    data = await host.request(b, NEGOTIATION_PROTOCOL, codec.encode(message), timeout_s=1)
    return codec.decode(data, ContractAgreement, ContractReceived, ContractTermination)


async def test_a_revocation_is_not_washed_off_by_giving_the_grant_up(world) -> None:
    """Who was revoked withdraws the old process, which it never verified, and asks anew."""
    request = request_for(world.nodes, DATA["bank-b"])
    old = negotiation_records.every(world.nodes["bank-b"].engine.db)
    (process,) = [each.process for each in old if each.child == DATA["bank-b"]]
    await world.revocations["bank-b"].revoke(**EDGE)
    left = ContractTermination(process=process, sentence="", reasons=())
    assert isinstance(await said(world, left), ContractReceived)
    answer = await negotiated(world.nodes, "bank-b", DATA["bank-b"])
    assert isinstance(answer, ContractTermination), answer
    assert "none after a revocation" in {each.allowed for each in answer.reasons}
    assert request.process != process


async def test_uses_are_not_washed_off_by_giving_the_grant_up(world) -> None:
    b = world.nodes["bank-b"]
    (process,) = [
        each.process
        for each in negotiation_records.every(b.engine.db)
        if each.child == DATA["bank-b"]
    ]
    with b.engine.transaction() as tx:
        b.grants.count_use(tx, *EDGE.values())
    await said(world, ContractTermination(process=process, sentence="", reasons=()))
    answer = await negotiated(world.nodes, "bank-b", DATA["bank-b"], uses=2)
    assert not isinstance(answer, ContractAgreement)


async def test_a_grant_that_its_consumer_gave_up_can_still_be_revoked(world) -> None:
    """Its signature is out: the chain would take it, so the chain has to be told."""
    b = world.nodes["bank-b"]
    (process,) = [
        each.process
        for each in negotiation_records.every(b.engine.db)
        if each.child == DATA["bank-b"]
    ]
    await said(world, ContractTermination(process=process, sentence="", reasons=()))
    await world.revocations["bank-b"].revoke(**EDGE)
    (row,) = b.engine.db.execute(
        "SELECT revoked FROM grants WHERE child = ? AND parent = ?", list(EDGE.values())
    ).fetchall()
    assert row == (1,)


async def test_a_grant_for_one_attester_is_not_used_under_another(world) -> None:
    """The node trusts both; the terms of its rows allow the regulator alone."""
    b, other = world.nodes["bank-b"], world.nodes["bank-a"].grants.signer
    house = world.houses["bank-b"]
    trust = msgspec.structs.replace(
        b.config.trust,
        attesters=(*b.config.trust.attesters, "0x" + other.account.hex()),
    )
    house.attestations._config = msgspec.structs.replace(b.config, trust=trust)
    plan = plan_hash(algorithm_of(world.nodes, PARAMETERS))
    message = typed_data.Attestation(task=TASK, plan_hash=plan, deadline=NOW + 4000)
    b.engine.db.execute("UPDATE chain_tasks SET attester = ?", [other.account])
    forged = msgspec.structs.replace(
        world.attestation(), attester=other.account, signature=other.sign(other.market, message)
    )
    answer = await world.ask("fintech-c", "bank-b", world.proposal(attestation=forged))
    assert isinstance(answer, SessionDeclined), answer
    assert answer.rule == "terms-refused"
    assert "attest" in answer.sentence


async def test_a_grant_ends_when_its_asset_changes_hands_and_stays_ended(world) -> None:
    """Sold and bought back: on chain the old grants are void, and here they are too."""
    b, c = world.nodes["bank-b"], world.nodes["fintech-c"]
    b.grants.require_alive(*EDGE.values())
    b.engine.db.execute("UPDATE assets SET epoch = 2 WHERE cdt = ?", [DATA["bank-b"]])
    with pytest.raises(Fault, match="changed hands"):
        b.grants.require_alive(*EDGE.values())
    answer = await world.ask("fintech-c", "bank-b", world.proposal())
    assert not isinstance(answer, SessionPledged)
    b.engine.db.execute("UPDATE assets SET epoch = 0 WHERE cdt = ?", [DATA["bank-b"]])
    b.engine.db.execute("UPDATE assets SET epoch = 2 WHERE cdt = ?", [ALGORITHM])
    with pytest.raises(Fault, match="changed hands"):
        b.grants.require_alive(*EDGE.values())
    assert grant_records.latest(c.engine.db, *EDGE.values()) is None


async def test_who_names_unknown_algorithms_makes_this_node_ask_others_so_often(
    world, monkeypatch
) -> None:
    """What cannot be fetched leaves no process behind, so the count of processes bounds nothing."""
    b = world.nodes["bank-b"]
    before = len(b.host.requests)
    answer = None
    for number in range(int(negotiation_bounds.FETCHES_AT_ONCE) + 10):
        unknown = number.to_bytes(32, "big")
        request = request_for(world.nodes, DATA["bank-b"], parent=unknown, parent_proof=unknown)
        try:
            answer = await said(world, request)
        except Fault:
            answer = None
    assert isinstance(answer, ContractTermination)
    assert "unknown algorithms" in answer.sentence
    assert len(b.host.requests) - before <= 3 * negotiation_bounds.FETCHES_AT_ONCE
    assert isinstance(await negotiated(world.nodes, "bank-b", DATA["bank-b"]), ContractAgreement)


async def test_a_chain_that_stands_still_keeps_no_grant_alive(world) -> None:
    """An endpoint that holds blocks back: their time is old, this node's clock is not."""
    b = world.nodes["bank-b"]
    b.grants.require_alive(*EDGE.values())
    b.engine.clock = lambda: NOW + 5000.0 + grant_records.BEHIND_MOST_S - 1
    b.grants.require_alive(*EDGE.values())
    b.engine.clock = lambda: NOW + 5000.0 + grant_records.BEHIND_MOST_S
    with pytest.raises(Fault, match="expired"):
        b.grants.require_alive(*EDGE.values())


async def test_thousands_of_grants_of_one_edge_do_not_slow_a_session_down(world) -> None:
    b = world.nodes["bank-b"]
    newest = await negotiated(world.nodes, "bank-b", DATA["bank-b"])
    (row,) = b.engine.db.execute(
        "SELECT * FROM negotiations WHERE process = ?", [newest.process]
    ).fetchall()
    names = [each[1] for each in b.engine.db.execute("PRAGMA table_info(negotiations)")]
    answer = names.index("answer")
    for number in range(5_000):
        other = [number.to_bytes(32, "big"), *row[1:]]
        other[answer] = bytes(row[answer]).replace(newest.signature, bytes(65))
        marks = ", ".join("?" * len(other))
        b.engine.db.execute(f"INSERT INTO negotiations VALUES ({marks})", other)  # noqa: S608
    decoded: list[object] = []
    real = codec.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "decode", lambda *a, **k: (decoded.append(a), real(*a, **k))[1])
        found = negotiation_records.granted_request(b.engine.db, *EDGE.values())
    assert found.process == newest.process
    assert len(decoded) <= 3
