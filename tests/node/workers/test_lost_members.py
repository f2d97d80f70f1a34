"""A member is lost in the middle: with enough others left the session goes on without it."""

import os
import signal

import pytest
import trio

from node.workers import messages as m

FOURTH = "house-e/member"


async def struck(harness, plan, victims, blow: signal.Signals):
    """The session in which `victims` are struck when the third round of training is over."""
    async with harness.opened(plan) as session:
        waiting = list(victims)

        def on_report(party, report):
            trained = (
                isinstance(report, m.Progress) and report.stage == "train" and report.done >= 3
            )
            if party == harness.recipient and trained and waiting:
                while waiting:
                    os.kill(session.workers[waiting.pop()].pid, blow)

        session.on_report = on_report
        async with trio.open_nursery() as nursery:

            async def until_the_others_have_ended():
                while len(set(session.ended) - set(victims)) < len(plan.parties) - len(victims):
                    await session.arrived.wait()
                nursery.cancel_scope.cancel()  # a stopped process would never say that it ends

            nursery.start_soon(until_the_others_have_ended)
            await session.run()
        assert not waiting, "the stage never came"
        return session


def planned(harness, small, **changes):
    parameters = harness.changed(
        **{"evaluation_engine": "lane", "epochs": 4, "check_every": 3, "width": 1} | changes
    )
    return small.replaced(parameters=parameters, round_deadline_s=2)


def four(harness, plan):
    parties = (*harness.contributors, *harness.members, FOURTH, harness.recipient)
    return plan.replaced(parties=parties)


def check_finished(session, lost: str) -> None:
    left = set(session.plan.parties) - {lost}
    assert {type(session.end_of(party)) for party in left} == {m.Finished}
    recipient = session.summary(session.plan.parties[-1])
    assert recipient.rows_evaluated == 72
    assert recipient.auc > 0.6


@pytest.mark.parametrize("place", [pytest.param(0, marks=pytest.mark.slow), 3])
async def test_a_committee_of_four_goes_on_without_one_and_still_checks(harness, small, place):
    plan = four(harness, planned(harness, small))
    victim = (*harness.members, FOURTH)[place]
    check_finished(await struck(harness, plan, [victim], signal.SIGKILL), victim)


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_three_go_on_with_two_where_availability_is_preferred(harness, small, blow):
    plan = planned(harness, small, prefer="availability")
    victim = harness.members[2]
    check_finished(await struck(harness, plan, [victim], blow), victim)


async def test_fewer_answers_than_can_be_checked_end_the_session(harness, small):
    plan = four(harness, planned(harness, small))
    victims = harness.members[:2]
    session = await struck(harness, plan, victims, signal.SIGKILL)
    failures = session.failures()
    assert set(failures) == set(plan.parties) - set(victims)
    assert all(set(failed.blamed) <= set(victims) for failed in failures.values())


@pytest.mark.slow
async def test_a_sum_inside_mpyc_needs_every_member(harness, small):
    plan = planned(harness, small, prefer="availability", evaluation_engine="mpyc")
    victim = harness.members[2]
    session = await struck(harness, plan, [victim], signal.SIGKILL)
    failures = session.failures()
    assert set(failures) == set(plan.parties) - {victim}
    assert {failed.blamed for failed in failures.values()} == {(victim,)}
