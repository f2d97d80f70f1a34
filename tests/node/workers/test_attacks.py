"""What each lie of a party comes to: the session ends, and says by whom as far as can be known."""

import msgspec
import pytest

from mpc.watch import SessionError
from node.workers import contributor
from node.workers import messages as m


async def attacked(harness, plan, party: str, module: str, how: str):
    session = await harness.finished(
        plan.replaced(modules={party: module}, environment={"EVIL": how})
    )
    failures = session.failures()
    assert set(failures) >= set(plan.parties) - {party}, "an honest party did not notice"
    return session, failures


@pytest.mark.parametrize("how", ["zero-gradient", "shifted-rows"])
async def test_an_owner_shown_another_view_ends_the_round(harness, small, how):
    """Else a recipient sends one owner a zero gradient, or other rows, and subtracts."""
    session, failures = await attacked(harness, small, harness.recipient, "evil_recipient", how)
    pair = set(harness.contributors)
    for party in (*harness.members, *harness.contributors):
        assert set(failures[party].blamed) == pair
    reasons = " ".join(f.reason for f in failures.values())
    assert "fintech-c/recipient signed one header of a round for" in reasons
    assert all(m.Finished not in map(type, session.reports[p]) for p in small.parties)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("repeat", "round 2 was opened already"),
        ("small-batch", "a mini-batch of 15 rows, at least 16 are needed"),
        ("far-row", "row 1000000 of 240 is asked for"),
        ("huge-gradient", "a gradient holds a value that is not finite"),
        ("unsigned-rows", "the rows are not those of the signed header"),
    ],
)
async def test_an_owner_refuses_a_round_that_breaks_a_rule(harness, small, how, sentence):
    _, failures = await attacked(harness, small, harness.recipient, "evil_recipient", how)
    for party in (*harness.members, *harness.contributors):
        assert failures[party].blamed == (harness.recipient,)
    assert any(sentence in failures[p].reason for p in harness.contributors)


async def test_an_owner_notices_a_plan_that_ends_early_and_goes_on(harness, small):
    """After the closing round nothing is opened any more; the recipient itself fails."""
    session = await harness.finished(
        small.replaced(
            modules={harness.recipient: "evil_recipient"}, environment={"EVIL": "close-early"}
        )
    )
    for party in (*harness.members, *harness.contributors):
        assert isinstance(session.end_of(party), m.Finished)
    assert session.summary(harness.contributors[0]).rounds == 2


async def test_words_outside_the_field_are_refused_by_name(harness, small):
    cheat = harness.contributors[1]
    _, failures = await attacked(harness, small, cheat, "evil_contributor", "out-of-field")
    assert failures[harness.recipient].blamed == (cheat,)


async def test_a_certificate_that_is_not_the_manifests_is_refused(harness, small):
    cheat = harness.contributors[1]
    session = await harness.finished(
        small.replaced(
            modules={cheat: "evil_contributor"},
            environment={"EVIL": "other-certificate"},
            alignment_deadline_s=3,
        )
    )
    for party in set(small.parties) - {cheat}:
        failed = session.end_of(party)
        assert isinstance(failed, m.Failed)
        assert cheat in failed.blamed, (party, failed)


async def test_too_few_common_rows_release_no_position(harness, small):
    session = await harness.finished(small.replaced(cohort_floor=241))
    for party in small.parties:
        assert isinstance(session.end_of(party), m.Failed)
        assert not session.of(party, m.Aligned)
    assert "240 rows are common to all, at least 241" in session.end_of(small.parties[-2]).reason


async def test_a_list_beyond_the_cap_is_refused_by_name(harness, small):
    session = await harness.finished(small.replaced(size_cap=279))
    assert all("279" in f.reason for f in session.failures().values())
    assert len(session.failures()) == 6


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (m.OwnerLimits(noise_floor=0.5), "noise 0.3 is below this owner's floor 0.5"),
        (m.OwnerLimits(numbers_cap=3), "4 numbers would be opened about a row, at most 3"),
        (m.OwnerLimits(batch_floor=64), "mini-batches of 32 rows, at least 64"),
    ],
)
def test_a_plan_beyond_an_owners_limits_is_refused_before_a_row_is_read(harness, limits, sentence):
    with pytest.raises(SessionError, match=sentence):
        contributor.check_plan(harness.parameters, limits)


async def test_an_owners_limits_hold_whatever_the_roster_says(harness, small):
    session = await harness.finished(small.replaced(limits=m.OwnerLimits(cohort_floor=250)))
    failures = session.failures()
    assert len(failures) == 6
    assert any("240 rows are common" in failures[p].reason for p in harness.contributors)


async def test_an_owners_wrong_file_is_its_own_cause(harness, small):
    datasets = dict(small.datasets)
    datasets["bank-b"] = datasets["bank-a"]
    broken = small.folder / "broken.csv"
    broken.write_text("id,fact0,fact1\n1,inf,2\n2,3,4\n")
    datasets["bank-b"] = msgspec.structs.replace(datasets["bank-a"], path=str(broken))
    session = await harness.finished(small.replaced(datasets=datasets))
    failures = session.failures()
    own = failures["bank-b/contributor"]
    assert (own.kind, own.blamed) == ("dataset-not-finite", ())
    assert "row 1" in own.reason
    others = [failures[p] for p in small.parties if p != "bank-b/contributor"]
    assert all("cannot use its own data" in f.reason for f in others)
    assert not any("broken.csv" in f.reason for f in others)
