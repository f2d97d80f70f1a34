import numpy as np
import pytest

from mpc.reconstruction import Openings, attack

ROWS = 400


def scene(noise: float, width: int = 2, times: int = 2) -> tuple[Openings, dict[str, np.ndarray]]:
    """Rows of two numbers and a category, opened `times` times under a W that drifts."""
    random = np.random.default_rng(5)
    income, age = random.standard_normal((2, ROWS))
    job = random.integers(0, 2, ROWS)
    encoded = np.stack([income, age, job], axis=1)
    start, drift = random.standard_normal((2, 3, width))
    rows, rounds, shared = [], [], []
    for time in range(times):
        for part, batch in enumerate(np.array_split(random.permutation(ROWS), 20)):
            number = 20 * time + part
            opened = encoded[batch] @ (start + drift * number / 40)
            shared.append(opened + noise * random.standard_normal(opened.shape))
            rows.append(batch)
            rounds.append(np.full(len(batch), number))
    columns = {"income": income, "age": age, "job": np.array(["x", "y"], dtype=object)[job]}
    opened = Openings(
        np.concatenate(rounds), np.concatenate(rows).astype(np.uint32), np.concatenate(shared)
    )
    return opened, columns


def test_without_noise_whole_rows_come_out() -> None:
    opened, columns = scene(0.0)
    found = attack(opened, columns, 60, 1)
    assert found.whole_rows > 0.2 * found.rows
    assert found.columns["income"].score > 0.95
    assert found.share() > 0.9
    assert found.columns["job"].score > 0.9


def test_noise_takes_the_rows_back() -> None:
    opened, columns = scene(3.0)
    found = attack(opened, columns, 60, 1)
    assert found.whole_rows < 0.02 * found.rows
    assert found.columns["income"].score < 0.5


def test_only_rows_that_were_opened_most_are_attacked() -> None:
    opened, columns = scene(0.0)
    once = Openings(opened.rounds[:-10], opened.rows[:-10], opened.shared[:-10])
    assert len(once.often_opened()) == ROWS - 10
    assert attack(once, columns, 30, 1).rows == ROWS - 40


def test_an_attack_needs_rows_that_it_does_not_know() -> None:
    opened, columns = scene(0.0)
    with pytest.raises(ValueError, match="known rows"):
        attack(opened, columns, ROWS, 1)


def test_missing_values_neither_stop_nor_feed_the_attack() -> None:
    opened, columns = scene(0.0)
    columns["income"][::5] = np.nan
    columns["job"][::7] = None
    found = attack(opened, columns, 60, 1)
    assert np.isfinite(found.columns["income"].score)
    assert 0 < found.columns["job"].prior < 1
