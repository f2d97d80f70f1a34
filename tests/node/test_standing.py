"""Penalties that decay, bans with a reason, and what each author may say."""

from hypothesis import given
from hypothesis import strategies as st

from node.standing import BAN_AT, BAN_S, HALF_LIFE_S, AuthorRate, ByteRate, Standing


def test_penalties_halve_and_are_forgotten() -> None:
    standing = Standing()
    assert standing.penalise("p", 40, "late", 0) is None
    assert standing.penalty("p", HALF_LIFE_S) == 20
    assert standing.penalise("p", 40, "late", HALF_LIFE_S) is None
    assert standing.penalty("p", HALF_LIFE_S) == 60
    assert standing.penalty("other", 0) == 0


def test_a_ban_names_its_reason_and_ends() -> None:
    standing = Standing()
    standing.penalise("p", BAN_AT - 1, "first", 0)
    ban = standing.penalise("p", 2, "second", 0)
    assert ban is not None
    assert ban.reason == "second"
    assert standing.ban("p", BAN_S - 1) == ban
    assert standing.ban("p", BAN_S) is None
    assert standing.penalty("p", BAN_S) == 0


def test_the_tables_are_bounded() -> None:
    standing = Standing()
    rate = AuthorRate(1, 1)
    for number in range(12_000):
        standing.penalise(str(number), 1, "", 0)
        standing.penalise(str(number), BAN_AT, "", 0)
        rate.allows(str(number), 0)
    assert standing.ban("0", 0) is None
    assert standing.ban("11999", 0) is not None
    assert rate.allows("0", 0)
    assert not rate.allows("11999", 0)


@given(st.lists(st.floats(0, 2, allow_nan=False), max_size=200))
def test_no_author_says_more_than_its_rate(pauses: list[float]) -> None:
    rate = AuthorRate(per_second=3, burst=5)
    now = 0.0
    allowed = 0
    for pause in pauses:
        now += pause
        allowed += rate.allows("a", now)
        assert allowed <= 5 + 3 * now + 1e-6
        assert rate.allows(f"other {now} {allowed}", now)


@given(st.lists(st.tuples(st.integers(1, 5_000), st.floats(0, 3)), max_size=60))
def test_no_key_sends_faster_than_its_bytes(pieces: list[tuple[int, float]]) -> None:
    """Whoever waits as told sends at most the rate, and one second's worth at once."""
    rate, now, sent = ByteRate(1_000.0), 100.0, 0
    for size, pause in pieces:
        now += pause
        sent += size
        now += rate.wait_s("x", size, now)
        assert sent <= 1_000.0 * (now - 100.0 + 1.0) + 0.01
    assert rate.wait_s("y", 1_000, now) == 0.0
