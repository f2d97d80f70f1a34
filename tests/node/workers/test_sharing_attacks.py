"""Shares of no polynomial, changed words and lies in a check: who is named, in real processes."""

import pytest

from node.workers import messages as m

FOURTH, FIFTH = "house-e/member", "house-f/member"


async def failures_of(harness, plan, party: str, how: str) -> dict[str, m.Failed]:
    module = f"evil_{party.split('/')[1]}"
    session = await harness.finished(
        plan.replaced(modules={party: module}, environment={"EVIL": how})
    )
    failures = session.failures()
    assert set(failures) >= set(plan.parties) - {party}, "an honest party did not notice"
    return {other: failed for other, failed in failures.items() if other != party}


def four(harness, plan):
    parties = (*harness.contributors, *harness.members, FOURTH, harness.recipient)
    return plan.replaced(parties=parties)


def five(harness, plan):
    parties = (*harness.contributors, *harness.members, FOURTH, FIFTH, harness.recipient)
    return plan.replaced(parties=parties, threshold=2)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("frank", "dealt shares of no polynomial of degree 1"),
        ("not-a-polynomial", "opened other sums of a stream than"),
        ("later-not-a-polynomial", "the check of round 3 shows that bank-b/contributor opened"),
        ("other-streams", "bank-b/member and regulator-d/member was sent other shares"),
        ("replayed", "committed to another round than the one that is checked"),
    ],
)
async def test_a_contributor_that_cheats_is_named_alone_among_three(harness, small, how, sentence):
    cheat = harness.contributors[1]
    failures = await failures_of(harness, small, cheat, how)
    assert {failed.blamed for failed in failures.values()} == {(cheat,)}
    assert sentence in failures[harness.recipient].reason


async def test_a_contributor_cannot_have_a_member_of_four_accused(harness, small):
    """Its wrong shares go to one member, whose answer the opening would leave out by name."""
    cheat = harness.contributors[1]
    failures = await failures_of(harness, four(harness, small), cheat, "later-not-a-polynomial")
    assert {failed.blamed for failed in failures.values()} == {(cheat,)}


async def test_who_says_what_only_two_have_seen_is_one_of_the_two(harness, small):
    cheat, liar = harness.contributors[1], harness.members[2]
    failures = await failures_of(harness, small, cheat, "other-stream")
    assert {frozenset(f.blamed) for f in failures.values()} == {frozenset({cheat, liar})}
    failures = await failures_of(harness, small, liar, "false-complaint")
    pair = frozenset({harness.contributors[0], liar})
    assert {frozenset(f.blamed) for f in failures.values()} == {pair}


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("other-nonce", "revealed another nonce than it had committed to"),
        ("wrong-sums", "opened wrong sums of the stream that bank-a/contributor dealt it"),
    ],
)
async def test_a_member_that_lies_in_a_check_is_named_alone(harness, small, how, sentence, place):
    liar = harness.members[place]
    failures = await failures_of(harness, small, liar, how)
    assert {failed.blamed for failed in failures.values()} == {(liar,)}
    assert sentence in failures[harness.recipient].reason


async def test_a_member_that_changes_one_word_is_noticed(harness, small):
    """Three answers cannot name it, but the check clears every contributor."""
    failures = await failures_of(harness, small, harness.members[1], "")
    for party in (*harness.contributors, harness.recipient):
        assert set(failures[party].blamed) == set(harness.members)
        assert "the contributors' sharings are sound, so it is a member" in failures[party].reason


@pytest.mark.slow
async def test_two_keyed_members_of_five_and_a_cheat(harness, small):
    cheat = harness.contributors[1]
    failures = await failures_of(harness, five(harness, small), cheat, "later-not-a-polynomial")
    assert {failed.blamed for failed in failures.values()} == {(cheat,)}


@pytest.mark.parametrize("enlarged", [four, pytest.param(five, marks=pytest.mark.slow)])
async def test_a_larger_committee_names_the_liar_and_goes_on(harness, small, enlarged):
    liar = harness.members[1]
    session = await harness.finished(
        enlarged(harness, small).replaced(modules={liar: "evil_member"})
    )
    recipient = session.summary(harness.recipient)
    assert recipient.corrected == (liar,)
    assert recipient.auc > 0.6


async def test_no_member_shows_a_stream_of_an_honest_contributor(harness, small):
    failures = await failures_of(harness, small, harness.recipient, "curious")
    assert {failed.blamed for failed in failures.values()} == {(harness.recipient,)}
    assert "without a reason" in failures[harness.members[1]].reason
