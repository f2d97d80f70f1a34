"""The budget of each row: over all recipients, sessions and datasets, and never given back."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node import ledger
from node.engine import Engine, Transaction
from node.errors import Fault
from node.ledger import Spending
from node.store import open_store
from protocol.identifiers import row_key
from protocol.ids import Account

KEY = b"k" * 32


def spending(session: int, numbers: int = 4, recipient: int = 1, dataset: str = "v1") -> Spending:
    return Spending(
        session=session.to_bytes(32),
        task=bytes(32),
        dataset=dataset,
        operator=f"operator-{recipient}",
        recipient=Account(bytes([recipient]) * 20),
        purpose="risk",
        numbers=numbers,
        rows=0,
        reserved_at=0.0,
    )


def keys(*names: str) -> bytes:
    return b"".join(row_key(KEY, name) for name in names)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(open_store(tmp_path / "node.sqlite3"), lambda: 1000.0)


def reserve(engine: Engine, what: Spending, rows: bytes, cap: int = 8) -> None:
    with engine.transaction() as tx:
        ledger.reserve(tx, what, rows, cap)


def test_the_same_rows_under_a_second_dataset_and_a_second_recipient(engine: Engine) -> None:
    reserve(engine, spending(1), keys("x", "y"))
    reserve(engine, spending(2, recipient=2, dataset="v2"), keys("y", "z"))
    with pytest.raises(Fault, match="1 of the common rows") as caught:
        reserve(engine, spending(3, recipient=3, dataset="v3"), keys("y", "w"))
    assert caught.value.kind == "budget-exhausted"
    assert ledger.spent(engine.db, ledger.split_keys(keys("w", "x", "y", "z"))) == {
        row_key(KEY, "x"): 4,
        row_key(KEY, "y"): 8,
        row_key(KEY, "z"): 4,
    }


def test_two_spellings_of_an_id_share_one_budget_and_both_spend_of_it(engine: Engine) -> None:
    """Else another rule of ids, or another dataset, would give a person a second budget."""
    reserve(engine, spending(1, numbers=3), keys("Person 007 ", "person 007"))
    assert ledger.spent(engine.db, [row_key(KEY, "PERSON 007")]) == {row_key(KEY, "PERSON 007"): 6}
    with pytest.raises(Fault, match="1 of the common rows"):
        reserve(engine, spending(2, numbers=3), keys("person 007"))
    with pytest.raises(Fault, match="1 of the common rows"):
        reserve(engine, spending(3, numbers=5), keys("000123", "123"))


def test_the_same_session_again_spends_nothing_more(engine: Engine) -> None:
    for _ in range(3):
        reserve(engine, spending(1), keys("x"))
    assert ledger.spent(engine.db, [row_key(KEY, "x")]) == {row_key(KEY, "x"): 4}


def test_nothing_is_given_back_when_what_follows_fails(engine: Engine, tmp_path: Path) -> None:
    reserve(engine, spending(1), keys("x"))
    engine.db.close()  # a crash between spending and sending
    again = Engine(open_store(tmp_path / "node.sqlite3"), lambda: 2000.0)
    assert ledger.spent(again.db, [row_key(KEY, "x")]) == {row_key(KEY, "x"): 4}


def test_a_refused_reservation_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(Fault):
        reserve(engine, spending(1, numbers=9), keys("x", "y"))
    assert ledger.spendings(engine.db, "v1") == []
    assert ledger.spent(engine.db, ledger.split_keys(keys("x", "y"))) == {}


def test_a_persons_uses_are_listed(engine: Engine) -> None:
    reserve(engine, spending(1), keys("x", "y"))
    reserve(engine, spending(2, recipient=2), keys("y"))
    assert [use.operator for use in ledger.uses_of(engine.db, row_key(KEY, "x"))] == ["operator-1"]
    assert len(ledger.uses_of(engine.db, row_key(KEY, "y"))) == 2
    assert ledger.uses_of(engine.db, row_key(KEY, "nobody")) == []
    assert ledger.uses_of(engine.db, row_key(b"another key of 32 bytes, not ours", "x")) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 6), st.sets(st.sampled_from("abcde"))),
        max_size=12,
    )
)
def test_no_order_of_sessions_passes_the_cap(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[int, int, set[str]]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "node.sqlite3"
    engine = Engine(open_store(path), lambda: 1000.0)
    totals: dict[str, int] = dict.fromkeys("abcde", 0)
    known: set[int] = set()
    for session, numbers, rows in asked:
        allowed = all(totals[row] + numbers <= 8 for row in rows)
        try:
            reserve(engine, spending(session, numbers), keys(*sorted(rows)))
        except Fault:
            assert not allowed
            assert session not in known
            continue
        if session not in known:
            assert allowed
            known.add(session)
            for row in rows:
                totals[row] += numbers
    found = ledger.spent(engine.db, ledger.split_keys(keys(*"abcde")))
    assert found == {row_key(KEY, row): total for row, total in totals.items() if total}
    engine.db.close()


def test_a_transaction_that_fails_later_takes_the_reservation_with_it(engine: Engine) -> None:
    def fail(tx: Transaction) -> None:
        ledger.reserve(tx, spending(1), keys("x"), 8)
        raise ValueError("the signature that should follow could not be made")

    with pytest.raises(ValueError, match="signature"), engine.transaction() as tx:
        fail(tx)
    assert ledger.spendings(engine.db, "v1") == []
