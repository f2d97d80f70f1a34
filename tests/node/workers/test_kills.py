"""A worker is killed or stopped: every other one says its name, and no process is left."""

import os
import signal

import pytest
import trio

from node.workers import messages as m

KILLED = (
    "bank-a/contributor",
    "bank-b/contributor",
    "bank-a/member",
    "regulator-d/member",
    "fintech-c/recipient",
)


async def struck(harness, plan, victim: str, stage: str, blow: signal.Signals):
    """The session in which `victim` is struck as soon as it reports `stage`, and when it was."""
    async with harness.opened(plan) as session:
        struck_at = []

        def on_report(party, report):
            stages = {m.Aligned: "aligned"}
            reached = stages.get(type(report), getattr(report, "stage", ""))
            watched = victim if stage in ("train", "evaluate") else harness.recipient
            if party == watched and reached == stage and not struck_at:
                os.kill(session.workers[victim].pid, blow)
                struck_at.append(trio.current_time())

        session.on_report = on_report
        told = {}

        async def note_times():
            while len(told) < len(plan.parties) - 1:
                for party, failed in session.failures().items():
                    told.setdefault(party, (trio.current_time(), failed))
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note_times)
            with trio.move_on_after(plan.round_deadline_s + 8):
                await session.run()
            nursery.cancel_scope.cancel()
        assert struck_at, "the stage never came"
        pids = [worker.pid for worker in session.workers.values()]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    delays = {p: at - struck_at[0] for p, (at, _) in told.items() if p != victim}
    return session, {p: f for p, (_, f) in told.items() if p != victim}, delays


@pytest.mark.parametrize("victim", KILLED)
async def test_a_worker_killed_in_training_is_named_by_all_within_a_second(harness, small, victim):
    await killed(harness, small, victim, "train")


@pytest.mark.parametrize(
    ("victim", "stage"), [("regulator-d/member", "align"), ("bank-b/contributor", "aligned")]
)
async def test_a_worker_killed_in_alignment_is_named_by_all(harness, small, victim, stage):
    await killed(harness, small, victim, stage)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["align", "aligned", "train"])
@pytest.mark.parametrize("victim", KILLED)
async def test_the_whole_kill_matrix(harness, small, victim, stage):
    await killed(harness, small, victim, stage)


async def killed(harness, small, victim, stage):
    # Long enough that no machine is through before the blow.
    plan = small.replaced(
        parameters=harness.changed(epochs=100, width=1),
        limits=m.OwnerLimits(cohort_floor=20, numbers_cap=100),
    )
    _, failures, delays = await struck(harness, plan, victim, stage, signal.SIGKILL)
    assert set(failures) == set(plan.parties) - {victim}
    for party, failed in failures.items():
        assert failed.blamed == (victim,), (party, failed)
    assert max(delays.values()) < 1.0, delays


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("bank-b/contributor", marks=pytest.mark.slow),
        "bank-a/member",
        pytest.param("fintech-c/recipient", marks=pytest.mark.slow),
    ],
)
async def test_a_stopped_worker_is_named_when_its_deadline_has_passed(harness, small, victim):
    plan = small.replaced(
        parameters=harness.changed(epochs=100, width=1),
        limits=m.OwnerLimits(cohort_floor=20, numbers_cap=100),
        round_deadline_s=2,
    )
    session, failures, delays = await struck(harness, plan, victim, "train", signal.SIGSTOP)
    waits = [p.awaited for party in plan.parties for p in session.of(party, m.Progress)]
    assert any(victim in awaited for awaited in waits)
    assert set(failures) == set(plan.parties) - {victim}
    for party, failed in failures.items():
        assert failed.blamed == (victim,), (party, failed)
    assert max(delays.values()) < 4.5, delays


async def test_workers_leave_with_their_daemon(harness, small):
    """Closing stdin is all that a vanished daemon still does."""
    async with harness.opened(small) as session:
        for worker in session.workers.values():
            await worker._process.stdin.aclose()
        with trio.fail_after(2):
            for worker in session.workers.values():
                assert await worker.wait() == 4
