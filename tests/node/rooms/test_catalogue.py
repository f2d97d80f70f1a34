"""Announcements are hints: who may say them, how often, and what makes an asset count."""

import msgspec
import pytest
import trio

from node import assets
from node.catalogue import AUTHOR_BURST
from protocol import codec, documents, envelope
from protocol.documents import Column, Metadata, Schema
from protocol.ids import Account
from protocol.messages import Announcement

CDT = b"\x01" * 32


def document(endpoint: str, name: str = "facts") -> Metadata:
    return Metadata(
        type="data",
        name=name,
        description="",
        author="bank-a",
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint=endpoint,
        schema=Schema(columns=(Column(name="Age", kind="number", width=2),), rows_about=1000),
    )


def announcement(node, **changes):
    plain = Announcement(
        cdt=CDT,
        owner=node.account,
        proof=documents.proof_of(documents.canonical(document(node.key.peer_id))),
        kind="data",
        name="facts",
        endpoint=node.key.peer_id,
        addresses=("/ip4/127.0.0.1/tcp/1",),
        seq=1,
        not_after=int(node.engine.clock()) + 3600,
    )
    return msgspec.structs.replace(plain, **changes)


def signed(node, body) -> bytes:
    return codec.encode(envelope.seal(body, node.key.signing_key))


async def test_an_asset_goes_from_announced_to_confirmed(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    a.registered(CDT, a.account, document(a.key.peer_id))
    async with trio.open_nursery() as nursery:
        for node in (a, c):
            nursery.start_soon(node.engine.run)
        with a.engine.transaction() as tx:
            a.rooms.announcing.announce(tx, CDT)
        db = c.engine.db
        proof = assets.find(a.engine.db, CDT).proof
        assert await c.engine.until(lambda: assets.has_document(db, proof), 30)
        assert assets.find(db, CDT).state == "announced"  # nobody's word makes it more
        with c.engine.transaction() as tx:
            assets.registered(tx, CDT, a.account, "data", proof, 0)
            assets.judge(tx, CDT)
        assert assets.find(db, CDT).state == "confirmed"
        nursery.cancel_scope.cancel()


async def test_only_the_owners_own_peer_announces(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    body = announcement(a)
    assert c.catalogue.acceptable("forwarder", signed(a, body))
    assert not c.catalogue.acceptable("forwarder", signed(b, body))
    stranger = msgspec.structs.replace(body, owner=b"\x99" * 20)
    assert not c.catalogue.acceptable("forwarder", signed(a, stranger))


@pytest.mark.parametrize("life_s", [-601, 3 * 24 * 3600])
async def test_past_and_endless_announcements_are_refused(
    nodes, autojump_clock, life_s: int
) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    body = announcement(a, not_after=int(a.engine.clock()) + life_s)
    assert not c.catalogue.acceptable("forwarder", signed(a, body))


async def test_garbage_is_refused_without_an_exception(nodes, autojump_clock) -> None:
    c = nodes["fintech-c"]
    for data in (b"", b"\xff" * 100, bytes(20_000), b"\x91" * 5000):
        assert not c.catalogue.acceptable("forwarder", data)


async def test_an_author_that_floods_is_cut_off_and_no_other(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    told = [
        c.catalogue.acceptable("forwarder", signed(a, announcement(a, seq=number)))
        for number in range(AUTHOR_BURST + 5)
    ]
    assert told == [True] * AUTHOR_BURST + [False] * 5
    assert c.catalogue.acceptable("forwarder", signed(b, announcement(b)))


async def test_an_older_announcement_changes_nothing(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    await c.catalogue.receive("x", signed(a, announcement(a, seq=5, endpoint=a.key.peer_id)))
    await c.catalogue.receive("x", signed(a, announcement(a, seq=4, endpoint=c.key.peer_id)))
    assert assets.find(c.engine.db, CDT).endpoint == a.key.peer_id


async def test_a_wrong_document_is_never_stored(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    other = documents.canonical(document(a.key.peer_id, "another"))

    async def lie(_peer: str, _data: bytes) -> bytes:
        from protocol.messages import DocumentAnswer  # noqa: PLC0415

        return codec.encode(DocumentAnswer(total=len(other), part=other, wait_s=0))

    a.host.served["/northbund/document/1"] = lie
    wanted = documents.proof_of(documents.canonical(document(a.key.peer_id)))
    with pytest.raises(Exception, match="no connected peer has"):
        await c.exchange.obtain(wanted, [a.key.peer_id])
    assert not assets.has_document(c.engine.db, documents.proof_of(other))


async def test_a_document_that_differs_from_the_chain_is_invalid(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    body = documents.canonical(document(a.key.peer_id))
    with c.engine.transaction() as tx:
        proof = assets.keep_document(tx, body)
        assets.registered(tx, CDT, Account(a.account), "compute", proof, 0)
        assets.judge(tx, CDT)
    found = assets.find(c.engine.db, CDT)
    assert (found.state, "registry says compute" in found.reason) == ("invalid", True)


async def test_nobody_moves_anothers_asset(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    c.registered(CDT, a.account, document(a.key.peer_id))
    stolen = announcement(b, cdt=CDT, seq=9)
    assert not c.catalogue.acceptable("forwarder", signed(b, stolen))
    assert assets.find(c.engine.db, CDT).endpoint == a.key.peer_id


async def test_assets_that_no_chain_knows_are_bounded(nodes, autojump_clock, monkeypatch) -> None:
    monkeypatch.setattr("node.catalogue.UNREGISTERED_MOST", 3)
    a, c = nodes["bank-a"], nodes["fintech-c"]
    told = []
    for number in range(5):
        data = signed(a, announcement(a, cdt=number.to_bytes(32)))
        told.append(c.catalogue.acceptable("forwarder", data))
        if told[-1]:
            await c.catalogue.receive("forwarder", data)
    assert told == [True] * 3 + [False] * 2
