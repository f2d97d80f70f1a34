"""The budget of tested ids: each operator's, over all sessions, and never given back (floor 12)."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import tested_ids
from node.engine import Engine
from node.errors import Fault
from node.store import open_store
from node.tested_ids import Brought
from node.workers.messages import Mask
from protocol import privacy
from protocol.task import SessionState
from tests.node.rooms.session_world import gathered

DAY_S = 86_400.0
BRINGERS = ("bank-a", "bank-b", "fintech-c")


class Clock:
    """Says what the test sets."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path, clock: Clock) -> Engine:
    return Engine(open_store(tmp_path / "node.sqlite3"), clock)


def count(engine: Engine, session: int, cap: int, role: str = "contributor", **ids: int) -> None:
    brought = [Brought(operator, number) for operator, number in ids.items()]
    with engine.transaction() as tx:
        tested_ids.count(tx, session.to_bytes(32), role, brought, cap)


def counted(engine: Engine) -> dict[str, int]:
    return {each.operator: each.ids for each in tested_ids.within(engine.db, engine.clock())}


def test_guesses_add_up_over_sessions_until_there_are_no_more(engine: Engine) -> None:
    for session in range(3):
        count(engine, session, 1000, eve=300, bob=100)
    with pytest.raises(
        Fault, match=r"eve has tested 900 ids .* brings 101 more: at most 1000"
    ) as no:
        count(engine, 3, 1000, eve=101, bob=1)
    assert (no.value.kind, no.value.data["more"], no.value.data["cap"]) == (
        "budget-exhausted",
        101,
        1000,
    )
    assert counted(engine) == {"eve": 900, "bob": 300}  # nothing was masked, so nothing was tested
    count(engine, 4, 1000, eve=100)


def test_a_crash_after_counting_gives_nothing_back(engine: Engine, tmp_path: Path, clock) -> None:
    count(engine, 1, 1000, eve=900)
    engine.db.close()
    again = Engine(open_store(tmp_path / "node.sqlite3"), clock)
    with pytest.raises(Fault, match="eve has tested 900 ids"):
        count(again, 2, 1000, eve=900)


def test_what_is_older_than_the_window_counts_no_more(engine: Engine, clock: Clock) -> None:
    count(engine, 1, 1000, eve=600)
    clock.now += 20 * DAY_S
    count(engine, 2, 1000, eve=400)
    clock.now += 9 * DAY_S
    with pytest.raises(Fault):
        count(engine, 3, 1000, eve=1)
    clock.now += 1 * DAY_S
    count(engine, 4, 1000, eve=600)
    assert counted(engine) == {"eve": 1000}


def test_two_organisations_of_one_operator_and_two_own_workers_are_counted_together(engine) -> None:
    with engine.transaction() as tx:
        brought = [Brought("eve", 300), Brought("eve", 200)]
        tested_ids.count(tx, bytes(32), "contributor", brought, 1000)
        tested_ids.count(tx, bytes(32), "recipient", brought, 1000)
    assert counted(engine) == {"eve": 1000}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 500)), max_size=20))
def test_no_order_of_sessions_tests_more_than_the_cap(tries: list[tuple[str, int]]) -> None:
    allowed = {"a": 0, "b": 0}
    with TemporaryDirectory() as folder:
        engine = Engine(open_store(Path(folder) / "node.sqlite3"), Clock())
        for session, (operator, ids) in enumerate(tries):
            try:
                count(engine, session, 1000, **{operator: ids})
            except Fault:
                assert allowed[operator] + ids > 1000
            else:
                allowed[operator] += ids
        assert counted(engine) == {name: ids for name, ids in allowed.items() if ids}
        engine.db.close()


def test_silent_terms_let_a_list_as_long_as_the_owners_be_aligned_daily() -> None:
    assert privacy.tested_cap(float("inf"), 100_000) >= 30 * 100_000
    assert privacy.tested_cap(float("inf"), 10) == privacy.TESTED_LEAST
    assert privacy.tested_cap(500.0, 100_000) == 500


# ---------------------------------------------------------------------- in sessions


async def test_a_session_counts_what_the_others_bring_before_a_worker_may_mask(world) -> None:
    world.brings = dict.fromkeys(BRINGERS, 3_000)
    session = await world.start()
    assert set((await world.ended(session)).values()) == {SessionState.COMPLETED}
    for name in BRINGERS:
        assert counted(world.nodes[name].engine) == dict.fromkeys({*BRINGERS} - {name}, 3_000)
    assert counted(world.nodes["regulator-d"].engine) == {}  # it has no rows


async def test_guesses_beyond_the_budget_are_refused_and_nothing_is_masked(world) -> None:
    """Aborted sessions count: who ends each one after the alignment has tested all the same."""
    world.finish = False
    world.brings = {"bank-a": 100, "bank-b": 100, "fintech-c": 9_000}
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    await world.sessions["fintech-c"].stop(session)
    await world.ended(session)
    again = await world.start()
    assert set((await world.ended(again)).values()) == {SessionState.ABORTED}
    for bank in ("bank-a", "bank-b"):
        assert not [m for m in world.worker(bank, "contributor").told if isinstance(m, Mask)]
        assert counted(world.nodes[bank].engine)["fintech-c"] == 9_000
    told = world.state("bank-a", again).reason + world.state("bank-b", again).reason
    assert "fintech-c has tested 9000 ids against these rows in 30 days" in told
    assert "brings 9000 more: at most 10000 are allowed" in told


async def test_a_worker_that_tells_sizes_of_others_ends_its_session(world) -> None:
    world.brings = {"bank-a": 100, "bank-b": 100, "fintech-c": 100, "eve": 100}
    session = await world.start()
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}
    assert "sizes of others than those who align" in world.state("bank-a", session).reason
