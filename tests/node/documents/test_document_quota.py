"""What is served to whom: by peer, and to all that nobody here named together."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from node import document_quota
from node.document_quota import BYTES, STRANGERS_BYTES, Allowances, Rate, ServingQuota

NAMED = SimpleNamespace(everybody=(SimpleNamespace(peer_id="bank"),))


@given(
    st.floats(0.1, 100), st.floats(1, 100), st.lists(st.tuples(st.floats(0, 20), st.floats(0, 50)))
)
def test_no_time_span_gives_more_than_its_rate_and_the_burst(per_second, burst, asked) -> None:
    left = Allowances(Rate(per_second, burst))
    now = taken = 0.0
    for pause, amount in asked:
        now += pause
        if not left.wait_s("peer", amount, now):
            left.take("peer", amount, now)
            taken += amount
        elif amount <= burst:
            later = now + left.wait_s("peer", amount, now)
            assert left.wait_s("peer", amount, later) < 1e-6
    assert taken <= burst + per_second * now + 1e-6


def test_strangers_cannot_use_up_what_named_peers_have() -> None:
    quota = ServingQuota(NAMED, lambda: 0.0)
    size = 262_144
    granted = sum(not quota.served(f"stranger {number}", size) for number in range(3_000))
    assert granted == STRANGERS_BYTES.burst // size
    assert quota.served("one more", size) > 0
    granted = sum(not quota.served("bank", size) for _ in range(3_000))
    assert granted == BYTES.burst // size


def test_what_is_remembered_of_peers_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(document_quota, "PEERS_MOST", 10)
    left = Allowances(Rate(1, 1))
    for number in range(50):
        left.take(str(number), 1, 0)
    assert [left.wait_s(str(number), 1, 0) for number in (0, 39, 40, 49)] == [0, 0, 1, 1]
