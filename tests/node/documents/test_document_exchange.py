"""Obtaining documents from holders that stop, stall, lie and send garbage, and serving them."""

import random

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node import assets, document_quota, document_stock
from node.errors import Fault
from protocol import codec, documents
from protocol.errors import RemoteProtocolError
from protocol.messages import DOCUMENT_PROTOCOL, DocumentAnswer, DocumentRequest

CDT = b"\x01" * 32


async def ask(scene, peer_id, body, offset=0) -> DocumentAnswer:
    request = DocumentRequest(cid=documents.cid_of(documents.proof_of(body)), offset=offset)
    data = await scene.host.served[DOCUMENT_PROTOCOL](peer_id, codec.encode(request))
    return codec.decode(data, DocumentAnswer)


def keep(scene, body) -> None:
    with scene.engine.transaction() as tx:
        document_stock.keep(tx, body)


async def test_a_large_document_comes_in_parts(scene, autojump_clock, gives, make_document) -> None:
    body = make_document("large", 200_000)
    scene.host.holders["bank"] = gives(body)
    await scene.exchange.obtain(documents.proof_of(body), ["bank"])
    assert scene.has(body)
    assert [offset for _, offset in scene.host.asked] == [0, 65_536, 131_072, 196_608]


async def test_a_transfer_that_is_cut_goes_on_with_another_holder(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("large", 200_000)
    scene.host.holders = {"first": gives(body, until=131_072), "second": gives(body)}
    await scene.exchange.obtain(documents.proof_of(body), ["first"])
    assert scene.host.asked[3:] == [("second", 131_072), ("second", 196_608)]
    assert (scene.has(body), scene.host.reported) == (True, [])


async def test_a_transfer_that_failed_goes_on_at_the_next_try(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("large", 200_000)
    proof = documents.proof_of(body)
    scene.host.holders = {"first": gives(body, until=131_072)}
    with pytest.raises(Fault, match="no connected peer has"):
        await scene.exchange.obtain(proof, ["first"])
    scene.host.holders = {"first": gives(body)}
    await scene.exchange.obtain(proof, ["first"])
    assert scene.host.asked[-2:] == [("first", 131_072), ("first", 196_608)]
    assert scene.has(body)


async def test_a_wrong_document_is_never_stored_and_its_sender_reported(
    scene, autojump_clock, gives, make_document
) -> None:
    right, wrong = make_document("right"), make_document("wrong")
    scene.host.holders = {"liar": gives(wrong), "bank": gives(right)}
    await scene.exchange.obtain(documents.proof_of(right), ["liar"])
    assert (scene.has(right), scene.has(wrong), scene.host.reported) == (True, False, ["liar"])


async def test_the_liar_of_a_mixed_transfer_is_reported_and_the_honest_holder_is_not(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("large", 150_000)
    wrong = bytes(len(body))
    scene.host.holders = {"liar": gives(wrong, until=65_536), "bank": gives(body)}
    await scene.exchange.obtain(documents.proof_of(body), ["liar"])
    assert (scene.has(body), scene.host.reported) == (True, ["liar"])


async def test_a_slow_holder_costs_one_deadline(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("facts")
    scene.host.holders = {"slow": gives(body, pause_s=60), "bank": gives(body)}
    started = trio.current_time()
    await scene.exchange.obtain(documents.proof_of(body), ["slow"])
    assert scene.has(body)
    assert trio.current_time() - started < 11


async def test_silent_strangers_hold_up_one_document_and_not_the_next(
    scene, autojump_clock, gives, make_document
) -> None:
    first, second = make_document("first"), make_document("second")
    scene.host.holders = {f"silent-{number}": gives(first, pause_s=60) for number in range(5)}
    with pytest.raises(Fault, match="no connected peer has"):
        await scene.exchange.obtain(documents.proof_of(first), [])
    scene.host.holders["late"] = gives(second)
    started = trio.current_time()
    await scene.exchange.obtain(documents.proof_of(second), [])
    assert (scene.has(second), trio.current_time() - started) == (True, 0)
    await trio.sleep(61)
    scene.host.holders = {"silent-0": gives(first)}
    await scene.exchange.obtain(documents.proof_of(first), [])
    assert scene.has(first)


async def test_organisations_are_asked_before_strangers(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("facts")
    scene.host.holders = {"stranger": gives(body), "bank": gives(body)}
    await scene.exchange.obtain(documents.proof_of(body), [])
    assert [peer_id for peer_id, _ in scene.host.asked] == ["bank"]


async def test_fetches_of_the_same_document_are_one(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("large", 150_000)
    scene.host.holders["bank"] = gives(body, pause_s=1)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(scene.exchange.obtain, documents.proof_of(body), ["bank"])
    assert len(scene.host.asked) == 3


async def test_who_joins_a_fetch_that_fails_asks_nobody_twice(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("facts")
    scene.host.holders["bank"] = gives(body, until=0, pause_s=1)
    failed = 0

    async def obtain() -> None:
        nonlocal failed
        with pytest.raises(Fault):
            await scene.exchange.obtain(documents.proof_of(body), ["bank"])
        failed += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(obtain)
    assert (len(scene.host.asked), failed) == (1, 20)


async def test_who_joined_goes_on_when_the_first_gives_up(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("facts")
    scene.host.holders["bank"] = gives(body, pause_s=3)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            nursery.start_soon(_after, 0.5, scene, body)
            await scene.exchange.obtain(documents.proof_of(body), ["bank"])
    assert scene.has(body)


async def _after(wait_s: float, scene, body) -> None:
    await trio.sleep(wait_s)
    await scene.exchange.obtain(documents.proof_of(body), ["bank"])


async def test_a_document_that_breaks_a_rule_makes_its_asset_invalid(
    scene, autojump_clock, gives
) -> None:
    body = b'{"no":"document"}'
    proof = documents.proof_of(body)
    scene.host.holders["bank"] = gives(body)
    scene.registered(CDT, proof)
    with pytest.raises(Fault, match="breaks a rule"):
        await scene.exchange.obtain(proof, ["bank"])
    assert assets.find(scene.db, CDT).state == "invalid"
    with pytest.raises(Fault, match="breaks a rule"):
        await scene.exchange.obtain(proof, ["bank"])
    other = b"\x02" * 32
    scene.registered(other, proof)
    with scene.engine.transaction() as tx:
        scene.exchange.want(tx, other, proof)
    assert assets.find(scene.db, other).state == "invalid"
    assert len(scene.host.asked) == 1  # it is not fetched again
    assert scene.host.reported == []  # the holder gave what was asked for


# ---------------------------------------------------------------------- what is owed


async def test_what_is_wanted_is_tried_until_somebody_gives_it(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("facts")
    scene.registered(CDT, documents.proof_of(body))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.engine.run)
        with scene.engine.transaction() as tx:
            scene.exchange.want(tx, CDT, documents.proof_of(body))
        await trio.sleep(300)
        scene.host.holders["bank"] = gives(body)
        assert await scene.engine.until(lambda: scene.has(body), 600)
        nursery.cancel_scope.cancel()
    assert assets.find(scene.db, CDT).state == "confirmed"


async def test_what_was_put_off_is_asked_for_when_its_holder_connects(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("facts")
    scene.announced(CDT, documents.proof_of(body), "bank")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.engine.run)
        with scene.engine.transaction() as tx:
            scene.exchange.want(tx, CDT, documents.proof_of(body))
        await trio.sleep(1_500)
        scene.host.holders["bank"] = gives(body)
        (welcome,) = scene.host.welcomes
        await welcome("bank")
        assert await scene.engine.until(lambda: scene.has(body), 2)
        nursery.cancel_scope.cancel()


async def test_wanting_twice_does_not_hurry(scene, autojump_clock, make_document) -> None:
    proof = documents.proof_of(make_document("facts"))
    scene.announced(CDT, proof)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.engine.run)
        for _ in range(50):
            with scene.engine.transaction() as tx:
                scene.exchange.want(tx, CDT, proof)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    (attempts,) = scene.db.execute("SELECT attempts FROM wanted_documents").fetchone()
    assert attempts < 9


async def test_a_holder_that_is_busy_sets_the_pace(
    scene, autojump_clock, gives, make_document
) -> None:
    body = make_document("facts")
    honest = gives(body)
    free_at = trio.current_time() + 2

    async def busy(request) -> DocumentAnswer:
        if trio.current_time() < free_at:
            return DocumentAnswer(total=0, part=b"", wait_s=2)
        return await honest(request)

    scene.host.holders["bank"] = busy
    await scene.exchange.obtain(documents.proof_of(body), ["bank"])
    assert (scene.has(body), len(scene.host.asked)) == (True, 2)


async def test_a_holder_that_is_busy_for_long_is_left_alone(
    scene, autojump_clock, make_document
) -> None:
    async def busy(_request) -> DocumentAnswer:
        return DocumentAnswer(total=0, part=b"", wait_s=600)

    async def never(_request) -> DocumentAnswer:
        return DocumentAnswer(total=0, part=b"", wait_s=1)

    scene.host.holders["bank"] = busy
    for number in range(5):
        with pytest.raises(Fault):
            await scene.exchange.obtain(bytes([number]) * 32, ["bank"])
    assert len(scene.host.asked) == 1
    scene.host.holders = {"never": never}
    started = trio.current_time()
    with pytest.raises(Fault):
        await scene.exchange.obtain(bytes(32), ["never"])
    assert trio.current_time() - started < 4


# ---------------------------------------------------------------------- what is kept


async def test_documents_that_nobody_registered_are_bounded(
    scene, autojump_clock, make_document, monkeypatch
) -> None:
    monkeypatch.setattr(document_stock, "SPARE_MOST", 3)
    chain, own, *others = [make_document(f"facts-{number}") for number in range(8)]
    scene.registered(CDT, documents.proof_of(chain))
    scene.db.execute(
        "INSERT INTO own_assets VALUES (?, 'data', '', ?, '', 0)",
        [b"\x02" * 32, documents.proof_of(own)],
    )
    for body in (chain, own, *others):
        await trio.sleep(1)
        keep(scene, body)
    assert [scene.has(body) for body in (chain, own)] == [True, True]
    assert [scene.has(body) for body in others] == [False, False, False, True, True, True]


async def test_a_spare_document_that_is_registered_later_stays(
    scene, autojump_clock, make_document, monkeypatch
) -> None:
    monkeypatch.setattr(document_stock, "SPARE_BYTES", 0)
    first, *others = [make_document(f"facts-{number}") for number in range(4)]
    keep(scene, first)
    scene.registered(CDT, documents.proof_of(first))
    for body in others:
        keep(scene, body)
    assert [scene.has(body) for body in (first, *others)] == [True, False, False, True]


async def test_without_room_announced_documents_wait_for_the_chain(
    scene, autojump_clock, gives, make_document, monkeypatch
) -> None:
    monkeypatch.setattr(document_stock, "SPARE_MOST", 0)
    body = make_document("facts")
    scene.host.holders["bank"] = gives(body)
    scene.announced(CDT, documents.proof_of(body), "bank")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.engine.run)
        with scene.engine.transaction() as tx:
            scene.exchange.want(tx, CDT, documents.proof_of(body))
        await trio.sleep(100)
        assert scene.host.asked == []
        scene.registered(CDT, documents.proof_of(body))
        with scene.engine.transaction() as tx:
            scene.exchange.want(tx, CDT, documents.proof_of(body))
        assert await scene.engine.until(lambda: scene.has(body), 2)
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------------- serving


async def test_a_document_is_served_in_parts(scene, autojump_clock, make_document) -> None:
    body = make_document("large", 150_000)
    keep(scene, body)
    got = b""
    while len(got) < len(body):
        answer = await ask(scene, "anyone", body, len(got))
        assert (answer.total, answer.wait_s) == (len(body), 0)
        got += answer.part
    assert got == body


async def test_what_is_not_here_or_beyond_the_end_is_empty(
    scene, autojump_clock, make_document
) -> None:
    body = make_document("facts")
    assert (await ask(scene, "anyone", body)).total == 0
    keep(scene, body)
    answer = await ask(scene, "anyone", body, 200_000)
    assert (answer.total, answer.part) == (len(body), b"")


async def test_a_peer_that_asks_too_much_waits_and_no_other_does(
    scene, autojump_clock, make_document
) -> None:
    body = make_document("facts")
    keep(scene, body)
    for _ in range(int(document_quota.REQUESTS.burst)):
        assert (await ask(scene, "bank", body)).total
    answer = await ask(scene, "bank", body)
    assert (answer.total, answer.part, answer.wait_s) == (0, b"", 1)
    assert (await ask(scene, "another", body)).total
    await trio.sleep(1)
    assert (await ask(scene, "bank", body)).total


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300))
def test_garbage_requests_are_the_peers_fault(scene, data: bytes) -> None:
    async def serve() -> None:
        with pytest.raises(RemoteProtocolError):
            await scene.host.served[DOCUMENT_PROTOCOL]("anyone", data)

    trio.run(serve)


async def test_one_document_of_very_many_assets_is_not_judged_for_all_at_once(
    scene, autojump_clock, gives, make_document
) -> None:
    """Whoever registers thousands of one proof and then gives it would hold up everybody."""
    body = make_document("large", 20_000)
    proof = documents.proof_of(body)
    for number in range(30):
        scene.registered(number.to_bytes(32, "big"), proof)

    def confirmed() -> int:
        return sum(each.state == "confirmed" for each in assets.every(scene.db))

    scene.host.holders["bank"] = gives(body)
    await scene.exchange.obtain(proof, ["bank"])
    assert confirmed() == assets.JUDGED_AT_ONCE
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.engine.run)
        assert await scene.engine.until(lambda: confirmed() == 30, 60)
        nursery.cancel_scope.cancel()
    assert scene.db.execute("SELECT count(*) FROM wanted_documents").fetchone() == (0,)


async def test_garbage_answers_change_nothing(scene, autojump_clock, make_document) -> None:
    chaos = random.Random(3)
    body = make_document("facts")
    honest = codec.encode(DocumentAnswer(total=len(body), part=body, wait_s=0))

    async def garbage(_request) -> bytes:
        bent = bytearray(honest)
        match chaos.randrange(4):
            case 0:
                return chaos.randbytes(chaos.choice((0, 1, 40, 70_000)))
            case 1:
                bent[chaos.randrange(len(bent))] ^= chaos.randrange(1, 256)
            case 2:
                del bent[chaos.randrange(len(bent)) :]
            case 3:
                bent += chaos.randbytes(chaos.choice((1, 300_000)))
        return bytes(bent)

    scene.host.holders["liar"] = garbage
    for _ in range(300):
        with pytest.raises(Fault, match="no connected peer has"):
            await scene.exchange.obtain(documents.proof_of(body), ["liar"])
    assert not scene.has(body)
    assert set(scene.host.reported) == {"liar"}
