"""Announcements are hints: who may say them, how often, and what makes an asset count."""

from types import SimpleNamespace

import msgspec
import pytest
import trio
from eth_account import Account as Accounts

from node import announcements, assets, waiting_room
from node.announcements import Heard, opened
from node.catalogue import AUTHOR_BURST
from node.keys import PeerKey
from node.waiting_room import WaitingRoom
from protocol import codec, documents, envelope, typed_data
from protocol.binding import Binding, bind_to, sign_as_peer
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
    last = signed(a, announcement(a, cdt=(9).to_bytes(32)))
    taken = await c.catalogue.take([last], [opened(last).entry])
    assert (taken.early, taken.unwanted) == ((opened(last).entry,), ())


async def test_what_is_not_news_is_not_relayed(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    older, newer = signed(a, announcement(a, seq=1)), signed(a, announcement(a, seq=2))
    assert c.catalogue.acceptable("forwarder", newer)
    await c.catalogue.receive("forwarder", newer)
    assert not c.catalogue.acceptable("another forwarder", newer)
    assert not c.catalogue.acceptable("forwarder", older)


async def test_a_high_number_of_one_author_silences_no_other(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    await c.catalogue.receive("x", signed(b, announcement(b, seq=2**53 - 1)))
    await c.catalogue.take(
        [signed(a, announcement(a, seq=1))],
        [opened(signed(a, announcement(a, seq=1))).entry],
    )
    c.registered(CDT, a.account, document(a.key.peer_id))
    assert c.catalogue.acceptable("x", signed(a, announcement(a, seq=2)))
    assert not c.catalogue.acceptable("x", signed(b, announcement(b, seq=3)))


async def test_an_asset_that_two_claim_waits_for_the_chain(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    thief, owner = signed(b, announcement(b)), signed(a, announcement(a))
    assert c.catalogue.acceptable("x", thief)
    await c.catalogue.receive("x", thief)
    assert not c.catalogue.acceptable("x", owner)
    assert await c.catalogue.promote() == 0
    c.registered(CDT, a.account, document(a.key.peer_id))
    assert await c.catalogue.promote() == 1
    assert assets.find(c.engine.db, CDT).endpoint == a.key.peer_id
    await c.catalogue.sweep()
    assert c.rooms.announcements.of(CDT, author(a)) is not None
    assert c.rooms.announcements.of(CDT, author(b)) is None


async def test_a_stranger_is_believed_once_its_binding_is_shown(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    local, key = Accounts.from_key(b"\x55" * 32), PeerKey(b"\x56" * 32)
    account = Account(bytes.fromhex(local.address[2:]))
    stranger = SimpleNamespace(account=account, key=key, engine=a.engine)
    other = msgspec.structs.replace(announcement(stranger), cdt=b"\x02" * 32)
    plain = signed(stranger, other)
    assert not c.catalogue.acceptable("x", plain)  # it waits, and is not relayed
    assert await c.catalogue.promote() == 0
    c.registered(CDT, account, document(key.peer_id))  # an account that paid for an asset
    binding = bound(local, key, account, int(c.engine.clock()) + 9_000)
    with_it = signed(stranger, announcement(stranger, seq=2, binding=binding))
    false = msgspec.structs.replace(binding, account_signature=bytes(65))
    lie = signed(stranger, announcement(stranger, binding=false))
    assert not c.catalogue.acceptable("x", lie)
    taken = await c.catalogue.take([lie], [opened(lie).entry])
    assert taken.unwanted == (opened(lie).entry,)  # who passes it on is not to blame
    assert c.catalogue.acceptable("x", with_it)
    assert await c.catalogue.promote() == 1  # what waited, too
    assert assets.find(c.engine.db, b"\x02" * 32).owner == account


def bound(local, key, account, valid_until: int) -> Binding:
    registry = typed_data.registry_domain(31337, Account(b"\x11" * 20))
    message = bind_to(key.signing_key, account, valid_until, 1)
    signature = local.unsafe_sign_hash(typed_data.digest(registry, message)).signature
    return Binding(
        account=account,
        peer_id=key.peer_id,
        valid_until=valid_until,
        seq=1,
        account_signature=bytes(signature),
        peer_signature=sign_as_peer(key.signing_key, registry, message),
    )


async def test_addresses_are_learned_from_the_peer_itself_alone(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    await c.catalogue.receive("x", signed(a, announcement(a)))
    assert c.host.learned == {a.key.peer_id: ("/ip4/127.0.0.1/tcp/1",)}
    of_another = announcement(b, cdt=b"\x03" * 32, endpoint=nodes["regulator-d"].key.peer_id)
    await c.catalogue.receive("x", signed(b, of_another))
    assert set(c.host.learned) == {a.key.peer_id}


async def test_clocks_may_be_minutes_apart(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    now = int(c.engine.clock())
    for late_s in (-540, 540):
        data = signed(a, announcement(a, seq=now + late_s, not_after=now + late_s))
        assert c.catalogue.acceptable("x", data)
        await c.catalogue.receive("x", data)
        await c.catalogue.sweep()
        assert c.rooms.announcements.of(CDT, author(a)).seq == now + late_s


async def test_when_nobody_is_bound_any_more_a_sweep_removes_only_so_many_at_once(
    nodes, autojump_clock, monkeypatch
) -> None:
    """A hundred thousand at once would keep everybody waiting."""
    monkeypatch.setattr(announcements, "REMOVED_AT_ONCE", 3)
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    for first, node in ((0, a), (4, b)):
        for number in range(first, first + 4):
            said = msgspec.structs.replace(announcement(node), cdt=bytes([number]) * 32)
            data = signed(node, said)
            assert c.catalogue.acceptable("x", data)
            await c.catalogue.receive("x", data)
    held = c.rooms.announcements
    assert [await held.sweep(lambda *_: False) for _ in range(4)] == [3, 3, 2, 0]


async def test_a_clock_that_went_back_and_a_lost_database_do_not_silence(
    nodes, network, autojump_clock
) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    a.registered(CDT, a.account, document(a.key.peer_id))
    ahead = int(a.engine.clock() * 1_000) + 10**9
    earlier = signed(a, announcement(a, seq=ahead))
    await c.catalogue.receive("x", earlier)  # said before the database was lost
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.engine.run)
        nursery.start_soon(a.rooms.run)
        with a.engine.transaction() as tx:
            a.rooms.announcing.announce(tx, CDT)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert c.rooms.announcements.of(CDT, author(a)).seq > ahead


def author(node) -> bytes:
    return bytes(node.key.signing_key.verify_key)


def test_those_who_wait_are_bounded_each_author_and_all_together() -> None:
    room = WaitingRoom()
    few = [waiting(1, number) for number in range(waiting_room.MOST_OF_AUTHOR + 5)]
    for heard in few:
        room.put(heard)
    assert room.everyone() == few[5:]
    for number in range(waiting_room.MOST):
        room.put(waiting(2 + number, 0))
    assert len(room) == waiting_room.MOST
    assert room.everyone()[-1] == waiting(1 + waiting_room.MOST, 0)
    newer = waiting(1 + waiting_room.MOST, 0, seq=2)
    room.put(newer)
    room.put(waiting(1 + waiting_room.MOST, 0))
    assert room.everyone()[-1] == newer
    room.leave(newer)
    assert len(room) == waiting_room.MOST - 1
    for number in range(400):
        room.put(waiting(5_000 + number, 0, size=16_000))
    assert sum(len(heard.data) for heard in room.everyone()) <= waiting_room.MOST_BYTES


def waiting(who: int, what: int, seq: int = 1, size: int = 400) -> Heard:
    said = SimpleNamespace(cdt=what.to_bytes(32), seq=seq)
    return Heard(said, who.to_bytes(32), bytes(size), bytes(32))
