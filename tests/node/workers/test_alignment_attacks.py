"""Every lie in an alignment ends it before a share flows, by name as far as can be known."""

import pytest

from node.workers import messages as m

LIAR, NEXT = "bank-a/contributor", "bank-b/contributor"
HELPER = "regulator-d/member"


async def aligned_with(harness, plan, party: str, module: str, how: str):
    """The failures of the honest parties; nobody has gone beyond the alignment."""
    session = await harness.finished(
        plan.replaced(modules={party: module}, environment={"EVIL": how})
    )
    failures = session.failures()
    assert set(failures) >= set(plan.parties) - {party}, "an honest party did not notice"
    assert not any(session.of(p, m.Finished) for p in plan.parties)
    return session, failures


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("longer", "a frame of 8960 bytes, at most 8640 are allowed"),
        ("empty", "bank-a/contributor brings 0 rows to the alignment, 20 to 100000 may be"),
        ("off-group", "the list of bank-a/contributor: entry 0 is not a point of ristretto255"),
        pytest.param("identity", "entry 0 is not a point", marks=pytest.mark.slow),
        ("half-a-point", "the list of bank-a/contributor goes on with 8959 bytes"),
        pytest.param("nothing", "goes on with 0 bytes", marks=pytest.mark.slow),
        pytest.param("no-size", "it sent no size", marks=pytest.mark.slow),
    ],
)
async def test_a_list_that_is_not_what_was_said_is_refused_by_name(harness, small, how, sentence):
    session, failures = await aligned_with(harness, small, LIAR, "evil_aligner", how)
    for party in set(small.parties) - {LIAR}:
        assert failures[party].blamed == (LIAR,), (party, failures[party])
        assert not session.of(party, m.Aligned)
    assert sentence in failures[NEXT].reason


async def test_an_id_that_stands_twice_is_noticed_by_the_helper(harness, small):
    _, failures = await aligned_with(harness, small, LIAR, "evil_aligner", "duplicate")
    assert f"the list of {LIAR} holds a point twice" in failures[HELPER].reason


@pytest.mark.slow
@pytest.mark.parametrize("how", ["late", "shorter"])
async def test_a_list_that_does_not_come_is_named_when_its_deadline_passes(harness, small, how):
    hurried = small.replaced(alignment_deadline_s=4)
    _, failures = await aligned_with(harness, hurried, LIAR, "evil_aligner", how)
    assert failures[NEXT].blamed == (LIAR,)
    assert f"let the deadline for the list of {LIAR} pass" in failures[NEXT].reason


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("other-rows", "the row set is not that of this roster and these rows"),
        ("far", f"{HELPER} broke the protocol: the helper names position 280 of 280 rows"),
        pytest.param("twice", "the helper names a row twice", marks=pytest.mark.slow),
        pytest.param("too-many", "at most 1120 are allowed", marks=pytest.mark.slow),
    ],
)
async def test_a_helper_that_names_wrong_positions_gets_no_further(harness, small, how, sentence):
    _, failures = await aligned_with(harness, small, HELPER, "evil_helper", how)
    assert sentence in failures[LIAR].reason
    if how != "other-rows":
        assert failures[LIAR].blamed == (HELPER,)


async def test_nothing_is_masked_before_the_daemon_has_counted_the_tests(harness, small):
    """Two daemons say yes and one is killed before it answers: nobody learns a row."""
    async with harness.opened(small) as session:

        def counts(party: str) -> bool:
            if party == NEXT:
                session.workers[NEXT]._process.kill()
            return party != NEXT

        session.counts = counts
        await session.run()
    assert {each.ids for each in session.of(LIAR, m.Sized)[0].brought} == {280}
    for party in (LIAR, harness.recipient):
        assert not session.of(party, m.Aligned)
        assert session.failures()[party].blamed == (NEXT,)
    assert not [p for p in session.of(LIAR, m.Progress) if p.stage == "align" and p.done == p.total]
