"""A node that composes over its own asset: its own terms decide at once."""

import msgspec

from node import grant_records, negotiation_records
from protocol.messages import ContractRequest
from protocol.negotiation import State
from tests.node.rooms.contracts import (
    ALGORITHM,
    DATA,
    algorithm,
    everybody_knows,
    request_for,
    seen,
)


def composed_at_home(nodes) -> ContractRequest:
    """The algorithm belongs to bank-b, which asks itself for its data."""
    everybody_knows(nodes, algorithm(nodes))
    b = nodes["bank-b"]
    b.registered(ALGORITHM, b.account, algorithm(nodes))
    return request_for(nodes, DATA["bank-b"], consumer=b.account)


async def test_own_terms_that_allow_it_grant_at_once(nodes, autojump_clock) -> None:
    request, b = composed_at_home(nodes), nodes["bank-b"]
    (facts,) = b.config.datasets
    terms = {**facts.terms, "counterparties": ["bank-b"]}
    changed = msgspec.structs.replace(facts, terms=terms)
    with b.engine.transaction() as tx:
        b.judging.adopt(tx, msgspec.structs.replace(b.config, datasets=(changed,)))
    b.negotiations.start(request)
    assert seen(b, request).state is State.FINALIZED
    kept = grant_records.latest(b.engine.db, DATA["bank-b"], ALGORITHM)
    assert kept is not None
    assert (kept.terms.owner, kept.terms.consumer) == (b.account, b.account)
    assert b.host.requests == []
    # a session under it is judged by what was asked
    granted = negotiation_records.granted_request(b.engine.db, DATA["bank-b"], ALGORITHM)
    assert granted == request


async def test_own_terms_that_forbid_it_are_told(nodes, autojump_clock) -> None:
    request, b = composed_at_home(nodes), nodes["bank-b"]
    b.negotiations.start(request)
    found = seen(b, request)
    assert found.state is State.TERMINATED
    assert found.sentence == "this node's own terms forbid it"
    assert [each.operand for each in found.failures] == ["odrl:recipient"]
    assert grant_records.latest(b.engine.db, DATA["bank-b"], ALGORITHM) is None
