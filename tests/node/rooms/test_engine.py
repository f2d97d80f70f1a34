"""Commit, then act: nothing half done, nothing owed is lost, nothing is done before its time."""

from itertools import pairwise
from pathlib import Path

import pytest
import trio

from node.engine import Again, Engine, Owed
from node.errors import Fault
from node.store import open_store


def clock() -> float:
    return 1000.0 + trio.current_time()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.sqlite3"


def owed_rows(engine: Engine) -> list[tuple[str, bytes]]:
    return list(engine.db.execute("SELECT kind, key FROM effects ORDER BY key").fetchall())


async def test_a_transaction_that_raises_leaves_no_trace(path: Path) -> None:
    engine = Engine(open_store(path), clock)
    with pytest.raises(ValueError, match="in the middle"), engine.transaction() as tx:  # noqa: PT012
        tx.owe("announce", b"1")
        tx.note("grant", b"1", "given")
        raise ValueError("in the middle")
    assert owed_rows(engine) == []
    assert engine.db.execute("SELECT count(*) FROM decisions").fetchone() == (0,)


async def test_what_is_owed_survives_a_crash_and_is_performed(
    path: Path, autojump_clock: object
) -> None:
    before = Engine(open_store(path), clock)
    with before.transaction() as tx:
        tx.owe("announce", b"1", b"body", after_s=5)
    before.db.close()  # the crash: nobody performed it

    after, done = Engine(open_store(path), clock), []

    async def perform(owed: Owed) -> None:
        done.append((owed.body, trio.current_time()))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        after.perform("announce", perform)
        nursery.start_soon(after.run)
        assert await after.until(lambda: not owed_rows(after), 60)
        nursery.cancel_scope.cancel()
    assert [body for body, _ in done] == [b"body"]
    assert done[0][1] - began >= 5


async def test_a_failing_effect_is_retried_with_growing_pauses(
    path: Path, autojump_clock: object
) -> None:
    engine, times = Engine(open_store(path), clock), []

    async def perform(owed: Owed) -> None:
        times.append(trio.current_time())
        if len(times) < 5:
            raise Fault("peer-timeout", "nobody is there")

    async with trio.open_nursery() as nursery:
        engine.perform("ask", perform)
        nursery.start_soon(engine.run)
        with engine.transaction() as tx:
            tx.owe("ask", b"1")
        assert await engine.until(lambda: len(times) == 5 and not owed_rows(engine), 60)
        nursery.cancel_scope.cancel()
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0]


async def test_a_bug_in_one_effect_ends_neither_the_daemon_nor_the_others(
    path: Path, autojump_clock: object
) -> None:
    engine, done = Engine(open_store(path), clock), []

    async def perform(owed: Owed) -> None:
        if owed.key == b"1" and len(done) < 1:
            raise ValueError("what a peer sent met an error of our own")
        done.append(owed.key)

    async with trio.open_nursery() as nursery:
        engine.perform("ask", perform)
        nursery.start_soon(engine.run)
        with engine.transaction() as tx:
            tx.owe("ask", b"1")
            tx.owe("ask", b"2", after_s=1.0)
        assert await engine.until(lambda: not owed_rows(engine), 60)
        nursery.cancel_scope.cancel()
    assert sorted(done) == [b"1", b"2"]


async def test_an_effect_past_its_time_is_dropped(path: Path, autojump_clock: object) -> None:
    engine, tries = Engine(open_store(path), clock), []

    async def perform(owed: Owed) -> Again:
        tries.append(owed.attempts)
        return Again(1.0)

    async with trio.open_nursery() as nursery:
        engine.perform("ask", perform)
        nursery.start_soon(engine.run)
        with engine.transaction() as tx:
            tx.owe("ask", b"1", not_after=tx.now + 3.5)
        assert await engine.until(lambda: not owed_rows(engine), 60)
        nursery.cancel_scope.cancel()
    assert tries == [0, 1, 2, 3, 4]


async def test_a_newer_effect_of_the_same_key_is_not_settled_by_the_older(
    path: Path, autojump_clock: object
) -> None:
    engine, done = Engine(open_store(path), clock), []

    async def perform(owed: Owed) -> None:
        done.append(owed.body)
        if owed.body == b"old":
            with engine.transaction() as tx:
                tx.owe("announce", owed.key, b"new")

    async with trio.open_nursery() as nursery:
        engine.perform("announce", perform)
        nursery.start_soon(engine.run)
        with engine.transaction() as tx:
            tx.owe("announce", b"1", b"old")
        assert await engine.until(lambda: not owed_rows(engine), 60)
        nursery.cancel_scope.cancel()
    assert done == [b"old", b"new"]


async def test_until_gives_up_in_time(path: Path, autojump_clock: object) -> None:
    engine = Engine(open_store(path), clock)
    assert not await engine.until(lambda: False, 5.0)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(b"this is not a database, but long enough to be read as one" * 40)
    with pytest.raises(Fault, match="not a database") as caught:
        open_store(path)
    assert caught.value.kind == "database-damaged"


def test_a_database_of_a_later_release_is_left_alone(path: Path) -> None:
    db = open_store(path)
    db.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "VALUES ('node', '9999-of-tomorrow', '2030-01-01')"
    )
    db.close()
    with pytest.raises(Fault, match="9999-of-tomorrow") as caught:
        open_store(path)
    assert caught.value.kind == "database-newer"
