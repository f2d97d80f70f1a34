"""Announcements made to harm whoever keeps them: what ended a node, or could have."""

import msgspec

from node import assets
from protocol import codec, documents, envelope
from protocol.binding import CLOCK_TOLERANCE_S, Binding
from protocol.messages import Announcement
from tests.fuzz.wire_targets import PEER_ID, SEED

STRANGER = b"\x55" * 20


def announced(node, **binding: object) -> bytes:
    """An announcement by a stranger's key, with a binding that nobody signed."""
    now = int(node.engine.clock())
    said = Binding(
        account=STRANGER,
        peer_id=PEER_ID,
        valid_until=now + 3600,
        seq=1,
        account_signature=bytes(65),
        peer_signature=bytes(64),
    )
    body = Announcement(
        cdt=b"\x77" * 32,
        owner=STRANGER,
        proof=documents.proof_of(b""),
        kind="data",
        name="facts",
        endpoint=PEER_ID,
        addresses=(),
        seq=1,
        not_after=now + 3600,
        withdrawn=False,
        binding=msgspec.structs.replace(said, **binding),
    )
    return codec.encode(envelope.seal(body, SEED))


async def test_a_binding_that_ends_while_it_waits_harms_nobody(nodes, autojump_clock) -> None:
    node = nodes["bank-a"]
    now = int(node.engine.clock())
    data = announced(node, valid_until=now - CLOCK_TOLERANCE_S + 5)
    assert not node.catalogue.acceptable("stranger", data)
    assert len(node.catalogue._waiting) == 1
    node.engine.clock = lambda: now + 60.0
    assert await node.catalogue.promote() == 0
    assert len(node.catalogue._waiting) == 0


async def test_a_forged_binding_of_somebody_who_registers_later_harms_nobody(
    nodes, autojump_clock
) -> None:
    node = nodes["bank-a"]
    assert not node.catalogue.acceptable("stranger", announced(node))
    with node.engine.transaction() as tx:
        assets.registered(tx, b"\x66" * 32, STRANGER, "data", bytes(32), 0)
    assert await node.catalogue.promote() == 0
    assert len(node.catalogue._waiting) == 0


async def test_a_binding_of_somebody_who_owns_nothing_costs_no_transaction(
    nodes, autojump_clock, monkeypatch
) -> None:
    """Keys are free to make: each such announcement would wake whoever waits for the state."""
    node = nodes["bank-a"]
    begun: list[None] = []
    transaction = node.engine.transaction
    monkeypatch.setattr(node.engine, "transaction", lambda: (begun.append(None), transaction())[1])
    assert not node.catalogue.acceptable("stranger", announced(node))
    assert await node.catalogue.promote() == 0
    assert begun == []
    assert len(node.catalogue._waiting) == 1
