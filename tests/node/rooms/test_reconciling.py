"""Nodes in memory bring their announcements to one state, whatever was lost and whoever lies."""

import random
from types import SimpleNamespace

import msgspec
import pytest
import trio
from nacl.signing import SigningKey

from node import assets, reconciling, unwanted
from node.announcements import WITHDRAWN_AFTER_END_S, opened
from node.reconcile_service import REQUESTS_BURST
from protocol import codec, documents, envelope
from protocol.documents import Column, Metadata, Schema
from protocol.errors import RemoteProtocolError
from protocol.messages import Announcement
from protocol.peers import peer_id_of
from protocol.reconcile_messages import (
    FAN_OUT,
    FINGERPRINT_BYTES,
    LEAF_MOST,
    RECONCILE_PROTOCOL,
    AnnouncementsAnswer,
    AnnouncementsGiven,
    AnnouncementsRequest,
    EntriesOffer,
    EntriesWanted,
    RangeEntries,
    RangesAnswer,
    RangeSplit,
    RangesQuestion,
)
from protocol.reconciliation import entry_of

ENDPOINT = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
DOCUMENT = Metadata(
    type="data",
    name="facts",
    description="",
    author="bank-a",
    license="closed",
    created="2026-01-01T00:00:00Z",
    endpoint=ENDPOINT,
    schema=Schema(columns=(Column(name="Age", kind="number", width=2),), rows_about=1000),
)
BODY = documents.canonical(DOCUMENT)


def said(node, number: int, **changes) -> bytes:
    plain = Announcement(
        cdt=number.to_bytes(32),
        owner=node.account,
        proof=documents.proof_of(BODY),
        kind="data",
        name=f"facts {number}",
        endpoint=node.key.peer_id,
        addresses=("/ip4/127.0.0.1/tcp/1",),
        seq=1,
        not_after=int(node.engine.clock()) + 3600,
    )
    body = msgspec.structs.replace(plain, **changes)
    return codec.encode(envelope.seal(body, node.key.signing_key))


async def hold(node, *bodies: bytes) -> None:
    with node.engine.transaction() as tx:  # so that nobody goes looking for it
        assets.keep_document(tx, BODY)
    await node.catalogue.take(bodies, [opened(data).entry for data in bodies])


def held(node) -> set[bytes]:
    rows = node.engine.db.execute("SELECT entry FROM announcements").fetchall()
    entries = {bytes(entry) for (entry,) in rows}
    assert entries == set(node.rooms.announcements.entries().within(""))
    return entries


async def test_two_nodes_hold_the_same_afterwards(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    await hold(b, *(said(a, number) for number in range(100)))
    await hold(c, *(said(a, number) for number in range(40, 240)))
    exchange = await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert held(b) == held(c)
    assert (len(held(b)), exchange.news, exchange.given) == (240, 140, 40)
    assert exchange.finished
    assert exchange.requests <= 8
    again = await c.rooms.reconciling.with_peer(b.key.peer_id)
    assert (again.requests, again.news, again.given) == (1, 0, 0)
    assert not b.host.reported
    assert not c.host.reported


async def test_a_week_away_is_made_up_for_in_a_few_round_trips(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    common = [said(a, number) for number in range(700)]
    await hold(b, *common)
    await hold(c, *common, *(said(a, number) for number in range(700, 760)))
    exchange = await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert held(b) == held(c)
    assert exchange.requests <= 5
    assert exchange.range_bytes <= 16_000 + 60 * 1_500


async def test_the_newer_stays_and_of_equals_the_same_everywhere(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    await hold(b, said(a, 1, seq=5), said(a, 2, seq=1), said(a, 3, name="this"))
    await hold(c, said(a, 1, seq=4), said(a, 2, seq=9), said(a, 3, name="that"))
    await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert held(b) == held(c)
    of = b.rooms.announcements.of
    key = bytes(a.key.signing_key.verify_key)
    assert (of((1).to_bytes(32), key).seq, of((2).to_bytes(32), key).seq) == (5, 9)


async def test_a_withdrawal_spreads_and_outlives_what_it_ends(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    await hold(b, said(a, 1))
    await hold(c, said(a, 1), said(a, 1, seq=2, withdrawn=True))
    await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert held(b) == held(c)
    assert assets.find(b.engine.db, (1).to_bytes(32)).withdrawn
    await hold(b, said(a, 1))
    assert assets.find(b.engine.db, (1).to_bytes(32)).withdrawn
    await hold(c, said(a, 2))
    await trio.sleep(3600 + WITHDRAWN_AFTER_END_S - 1)
    await c.catalogue.sweep()
    assert len(held(c)) == 1
    await trio.sleep(2)
    await c.catalogue.sweep()
    assert not held(c)
    assert assets.find(c.engine.db, (2).to_bytes(32)) is None


async def test_with_a_third_of_the_gossip_lost_all_hold_all(nodes, autojump_clock, network) -> None:
    chance = random.Random(3)
    network.lose_gossip = lambda: chance.random() < 0.3
    everybody = list(nodes.values())
    for node in everybody:
        await hold(node)
    async with trio.open_nursery() as nursery:
        for node in everybody:
            nursery.start_soon(node.engine.run)
            nursery.start_soon(node.rooms.run)
        for number in range(80):
            source = everybody[number % 4]
            await hold(source, said(source, number))
            await source.host.publish(said(source, number))
        missing = [80 - len(held(node)) for node in everybody]
        assert sum(missing) > 20
        source.rooms.schedule.soon()
        await trio.sleep(1_000)
        assert [len(held(node)) for node in everybody] == [80] * 4
        nursery.cancel_scope.cancel()


async def test_an_own_asset_is_known_to_all_at_once_and_said_again_rarely(
    nodes, autojump_clock, network
) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    network.lose_gossip = lambda: True
    cdt = own_asset(a)
    await hold(b)
    await hold(c)
    async with trio.open_nursery() as nursery:
        for node in (a, b, c):
            nursery.start_soon(node.engine.run)
            nursery.start_soon(node.rooms.run)
        await trio.sleep(1)
        with a.engine.transaction() as tx:
            a.rooms.announcing.announce(tx, cdt)
        await trio.sleep(10)
        assert len(held(b)) == len(held(c)) == 1
        await trio.sleep(6 * 3600)
        assert len(a.host.published) == 1
        await trio.sleep(20 * 3600)
        assert 2 <= len(a.host.published) <= 4
        assert len(held(b)) == len(held(c)) == 1
        with a.engine.transaction() as tx:
            a.rooms.announcing.withdraw(tx, cdt)
        await trio.sleep(10)
        assert assets.find(c.engine.db, cdt).withdrawn
        with a.engine.transaction() as tx:  # as after a restart, or a reorganisation
            a.rooms.announcing.announce(tx, cdt)
        await trio.sleep(10)
        assert assets.find(a.engine.db, cdt).withdrawn
        assert assets.find(c.engine.db, cdt).withdrawn
        a.host.addresses = ("/ip4/127.0.0.1/tcp/2",)
        await trio.sleep(60)
        assert c.host.learned[a.key.peer_id] == a.host.addresses
        nursery.cancel_scope.cancel()


def own_asset(node) -> bytes:
    cdt = b"\x01" * 32
    node.registered(cdt, node.account, DOCUMENT)
    return cdt


async def test_what_is_unwanted_is_fetched_once_and_waits_for_its_binding(
    nodes, autojump_clock, monkeypatch
) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    stranger = unknown(1)
    monkeypatch.setattr(type(c.directory), "bound", lambda *_: True)
    await hold(c, said(stranger, 1), said(a, 2))
    monkeypatch.undo()
    assert len(held(c)) == 2
    first = await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert (first.news, len(held(b))) == (1, 1)
    second = await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert second.body_bytes == 0
    assert not b.host.reported
    monkeypatch.setattr(type(c.directory), "bound", lambda *_: True)
    assert await b.catalogue.promote() == 1
    assert held(b) == held(c)
    monkeypatch.undo()
    await b.catalogue.sweep()  # and when the binding ends, what it let in goes
    assert len(held(b)) == 1


def unknown(number: int):
    """Somebody whom no node knows."""
    key = SigningKey(bytes([number]) * 31 + b"\xee")
    clock = SimpleNamespace(clock=lambda: 1_800_000_000.0)
    peer = SimpleNamespace(signing_key=key, peer_id=peer_id_of(bytes(key.verify_key)))
    return SimpleNamespace(account=bytes([number]) * 20, key=peer, engine=clock)


async def test_a_peer_that_brings_only_strangers_is_soon_not_asked_any_more(
    nodes, autojump_clock, monkeypatch
) -> None:
    b, c = nodes["bank-b"], nodes["fintech-c"]
    monkeypatch.setattr(unwanted, "BURST", 50)
    monkeypatch.setattr("node.unwanted.Unwanted.has_credit", lambda *_: True)
    monkeypatch.setattr(type(c.directory), "bound", lambda *_: True)
    await hold(c, *(said(unknown(1), number) for number in range(60)))
    monkeypatch.undo()
    for number in range(600):
        b.rooms.service._unwanted.note(c.key.peer_id, [number.to_bytes(32)])
    exchange = await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert (exchange.body_bytes, exchange.finished) == (0, False)
    offer = EntriesOffer(entries=b"".join(held_sorted(c)))
    answer = codec.decode(await asked(b, c, offer), EntriesWanted)
    assert answer.entries == b""


def held_sorted(node) -> list[bytes]:
    return sorted(held(node))


async def asked(node, peer, message) -> bytes:
    return await node.host.served[RECONCILE_PROTOCOL](peer.key.peer_id, codec.encode(message))


async def test_an_endless_descent_is_broken_off_and_told(
    nodes, autojump_clock, monkeypatch
) -> None:
    b, c = nodes["bank-b"], nodes["fintech-c"]
    monkeypatch.setattr(reconciling, "RANGE_BYTES_MOST", 200_000)
    chance = random.Random(1)

    async def lie(_peer, data: bytes) -> bytes:
        question = codec.decode(data, RangesQuestion)
        lies = tuple(
            RangeSplit(fingerprints=chance.randbytes(FAN_OUT * FINGERPRINT_BYTES))
            for _ in question.prefixes
        )
        return codec.encode(RangesAnswer(ranges=lies))

    c.host.served[RECONCILE_PROTOCOL] = lie
    exchange = await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert (exchange.capped, exchange.finished) == (True, False)
    assert "brought nothing" in b.host.reported[0][1]


async def test_a_silent_peer_costs_a_bounded_time(nodes, autojump_clock) -> None:
    b, c = nodes["bank-b"], nodes["fintech-c"]

    async def silence(_peer, _data: bytes) -> bytes:
        await trio.sleep_forever()

    c.host.served[RECONCILE_PROTOCOL] = silence
    began = trio.current_time()
    exchange = await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert exchange.capped
    assert trio.current_time() - began <= reconciling.EXCHANGE_S + 1


@pytest.mark.parametrize(
    "bodies",
    ["garbage", "not asked for", "not signed"],
)
async def test_a_wrong_answer_is_told_and_changes_nothing(
    nodes, autojump_clock, bodies: str
) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    right = said(a, 1)
    wrong = {
        "garbage": b"\xff" * 100,
        "not asked for": said(a, 2),
        "not signed": right[:-80] + bytes([right[-80] ^ 1]) + right[-79:],
    }[bodies]
    entry = entry_of((1).to_bytes(32), bytes(a.key.signing_key.verify_key), right)

    async def lie(_peer, data: bytes) -> bytes:
        message = codec.decode(data, RangesQuestion, AnnouncementsRequest)
        if isinstance(message, RangesQuestion):
            return codec.encode(RangesAnswer(ranges=(RangeEntries(entries=entry),)))
        return codec.encode(AnnouncementsAnswer(bodies=(wrong,), reached=1))

    c.host.served[RECONCILE_PROTOCOL] = lie
    exchange = await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert (exchange.finished, len(b.host.reported), held(b)) == (False, 1, set())


async def test_what_is_named_and_not_given_is_not_asked_for_again(nodes, autojump_clock) -> None:
    b, c = nodes["bank-b"], nodes["fintech-c"]
    asked_for = []

    async def lie(_peer, data: bytes) -> bytes:
        message = codec.decode(data, RangesQuestion, AnnouncementsRequest)
        if isinstance(message, RangesQuestion):
            return codec.encode(RangesAnswer(ranges=(RangeEntries(entries=b"\x01" * 32),)))
        asked_for.append(message.entries)
        return codec.encode(AnnouncementsAnswer(bodies=(), reached=1))

    c.host.served[RECONCILE_PROTOCOL] = lie
    for _ in range(3):
        await b.rooms.reconciling.with_peer(c.key.peer_id)
    assert asked_for == [b"\x01" * 32]


async def test_announcements_that_were_not_wanted_are_refused(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    await asked(b, c, AnnouncementsGiven(bodies=(b"not even read",)))
    assert not held(b)
    entry = entry_of((1).to_bytes(32), bytes(a.key.signing_key.verify_key), said(a, 1))
    await asked(b, c, EntriesOffer(entries=entry))
    await asked(b, c, AnnouncementsGiven(bodies=(said(a, 1),)))
    assert held(b) == {entry}
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        await asked(b, c, AnnouncementsGiven(bodies=(said(a, 1),)))


async def test_whoever_asks_without_end_loses_its_standing(nodes, autojump_clock) -> None:
    b, c = nodes["bank-b"], nodes["fintech-c"]
    question = RangesQuestion(prefixes=("",))
    for _ in range(REQUESTS_BURST):
        await asked(b, c, question)
    with pytest.raises(RemoteProtocolError, match="too often"):
        await asked(b, c, question)


async def test_garbage_is_only_ever_a_remote_protocol_error(nodes, autojump_clock) -> None:
    b, c = nodes["bank-b"], nodes["fintech-c"]
    unsorted = AnnouncementsRequest(entries=b"\x02" * 32 + b"\x01" * 32)
    for data in (b"", b"\xff" * 50, b"\x91" * 5_000, codec.encode(unsorted)):
        with pytest.raises(RemoteProtocolError):
            await b.host.served[RECONCILE_PROTOCOL](c.key.peer_id, data)


async def test_a_write_that_is_not_committed_is_not_in_the_set(nodes, autojump_clock) -> None:
    a, b = nodes["bank-a"], nodes["bank-b"]
    await hold(b, said(a, 1))
    assert len(held(b)) == 1
    with pytest.raises(ValueError, match="in the middle"), b.engine.transaction() as tx:  # noqa: PT012
        b.rooms.announcements.keep(tx, opened(said(a, 2)))
        raise ValueError("in the middle")
    assert len(held(b)) == 1
    await hold(b, said(a, 3), said(a, 1, seq=2))
    assert len(held(b)) == 2


async def test_an_answer_fits_a_frame_whatever_is_asked_for(nodes, autojump_clock) -> None:
    a, b, c = nodes["bank-a"], nodes["bank-b"], nodes["fintech-c"]
    big = tuple("/ip4/127.0.0.1/tcp/" + "1" * 1_000 for _ in range(8))
    await hold(b, *(said(a, number, addresses=big) for number in range(100)))
    exchange = await c.rooms.reconciling.with_peer(b.key.peer_id)
    assert held(b) == held(c)
    assert exchange.body_bytes > 800_000
    assert all(answer <= codec.MAX_MESSAGE_BYTES for _, _, answer in c.host.requests)
    assert LEAF_MOST * 3 < 100
