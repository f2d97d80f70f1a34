"""The floors: what a publisher could write to get round them, and what the owner answers."""

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import privacy, terms
from protocol.manifest import Parameters
from protocol.privacy import Committee

GOOD = Committee(
    members=("a", "b", "d"), contributors=("a", "b"), recipient="c", threshold=1, seats=3
)
PARAMETERS = Parameters(
    width=2,
    epochs=2,
    batch_rows=32,
    noise=0.3,
    clip=8.0,
    gradient_clip=0.3,
    learning_rate=4.0,
    holdout=0.3,
    engine="lane",
    evaluation_engine="lane",
    field="m61",
)


def failures(
    committee: Committee = GOOD,
    *,
    numeric: int = 3,
    accepted: bool = False,
    consented: bool = True,
    floor: int = 1000,
    **changes: object,
) -> set[str]:
    found = privacy.floors(
        committee,
        msgspec.structs.replace(PARAMETERS, **changes),
        cohort_floor=floor,
        numeric_columns=numeric,
        labels_consented=consented,
        leakage_accepted=accepted,
    )
    return {each.operand for each in found if not each.passed}


def test_the_scenario_passes_every_floor() -> None:
    assert failures() == set()


@pytest.mark.parametrize(
    "members",
    [
        ("a", "b", "b"),  # two seats of one operator
        ("a", "c", "c"),  # two of the recipient's
        ("a", None, None),  # two unknown accounts: the recipient's, as far as the owner knows
        ("a", "c", None),  # one of the recipient's, one unknown
    ],
)
def test_a_committee_that_few_control_is_refused(members: tuple[str | None, ...]) -> None:
    committee = Committee(
        members=members, contributors=("a", "b"), recipient="c", threshold=1, seats=3
    )
    assert failures(committee) == {terms.OPERATORS}


def test_one_unknown_member_is_within_the_threshold() -> None:
    committee = Committee(members=("a", "b", None), contributors=("a", "b"), recipient="c",
                          threshold=1, seats=3)  # fmt: skip
    assert failures(committee) == set()


def test_a_pool_is_judged_whole_and_its_threshold_by_the_seats() -> None:
    """What holds for all of the pool holds for whoever is drawn of it."""
    pool = Committee(
        members=("a", "b", "d", "e", None),
        contributors=("a", "b"),
        recipient="c",
        threshold=1,
        seats=3,
    )
    assert failures(pool) == set()
    for changed in ({"threshold": 2}, {"members": ("a", "b", "d", "d")}, {"seats": 2}):
        assert failures(dataclasses.replace(pool, **changed))


@pytest.mark.parametrize(
    ("members", "threshold"), [(("a", "b"), 1), (("a", "b", "d"), 0), (("a", "b", "d"), 2)]
)
def test_a_committee_that_cannot_hold_a_secret_is_refused(
    members: tuple[str, ...], threshold: int
) -> None:
    committee = Committee(
        members=members,
        contributors=("a", "b"),
        recipient="c",
        threshold=threshold,
        seats=len(members),
    )
    assert failures(committee) & {terms.COMMITTEE_SIZE, privacy.THRESHOLD}


@pytest.mark.parametrize("contributors", [("a",), ("a", "a"), ("a", "c"), ("a", None)])
def test_an_owner_that_would_be_alone_refuses(contributors: tuple[str | None, ...]) -> None:
    committee = Committee(
        members=("a", "b", "d"), contributors=contributors, recipient="c", threshold=1, seats=3
    )
    assert failures(committee) == {terms.CONTRIBUTORS}


@given(st.floats(0, 0.299), st.integers(1, 8), st.integers(0, 4), st.integers(0, 40))
def test_without_noise_fewer_numbers_than_numeric_source_columns(
    noise: float, width: int, epochs: int, numeric: int
) -> None:
    numbers = width * max(epochs, 1)
    found = failures(numeric=numeric, noise=noise, width=width, epochs=epochs)
    assert (terms.NOISE in found) == (numbers >= numeric)


def test_leakage_is_the_owners_own_to_accept() -> None:
    assert failures(noise=0.0) == {terms.NOISE}
    assert failures(noise=0.0, accepted=True) == set()


def test_gradients_need_the_recipients_consent() -> None:
    assert failures(consented=False) == {terms.LABELS}
    assert failures(consented=False, epochs=0) == set()


def test_a_small_cohort_is_refused() -> None:
    assert failures(floor=99) == {terms.COHORT_SIZE}


@given(
    st.dictionaries(st.binary(min_size=1, max_size=2), st.integers(0, 12), max_size=8),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_no_row_passes_its_cap(spent: dict[bytes, int], numbers: int, cap: int) -> None:
    keys = [*spent, b"never opened"]
    over = privacy.overdrawn(keys, spent, numbers, cap)
    expected = sum(1 for key in keys if spent.get(key, 0) + numbers > cap)
    assert (over.rows if over else 0) == expected


@pytest.mark.parametrize("accepted", [False, True])
def test_a_plan_without_openings_on_paper_is_refused(accepted: bool) -> None:
    """It would reserve nothing in the ledger, whatever rounds were then asked for."""
    assert terms.OPENINGS in failures(epochs=0, holdout=0.0, noise=0.0, accepted=accepted)
    assert terms.OPENINGS not in failures(epochs=0, holdout=0.1)
