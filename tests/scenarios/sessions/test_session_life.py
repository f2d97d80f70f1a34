"""Sessions of real daemons: the whole way, and every way to die in the middle of it."""

import os
import signal
import time
from pathlib import Path

import pytest

from node.errors import Fault

NAMES = ("bank-a", "bank-b", "fintech-c", "regulator-d")
OVER = ("ABORTED", "COMPLETED")


def others(name: str) -> list[str]:
    return [each for each in NAMES if each != name]


def everybody_knows(scene, session: str, names, word: str, within_s: float) -> None:
    """All of `names` have the session aborted, say `word` in the reason, and keep no worker."""
    began = time.monotonic()
    for name in names:
        state = scene.reaches(name, session, *OVER, timeout_s=within_s)
        shown = scene.show(name, session)
        assert state == "ABORTED", (name, shown)
        assert word in shown["reason"] + " ".join(shown["blamed"]), (name, shown["reason"])
    assert time.monotonic() - began < within_s
    for name in names:
        scene.until(lambda name=name: not scene.workers(name), 5)


@pytest.mark.timeout(120)
def test_the_whole_way_with_real_daemons(staged) -> None:
    with staged() as scene:
        scene.attested()
        session = scene.start_session()
        for name in NAMES:
            assert scene.reaches(name, session, *OVER, timeout_s=60) == "COMPLETED"
        assert scene.reserved("bank-a") == scene.reserved("bank-b") == 4
        scene.journey.settle()
        assert float(scene.journey.withdrawn["bank-a"]) > 0
        (use,) = scene.call("bank-a", "trace_asset", cdt=scene.journey.data["bank-a"])["uses"]
        assert use["state"] == "SETTLED"
        person = Path(scene.network["bank-a"].folder / "applicants.csv").read_text().split("\n")[1]
        told = scene.call("bank-a", "subject_uses", id=person.partition(",")[0])["uses"]
        assert all(each["numbers_per_row"] == 4 for each in told)
        assert scene.call("bank-a", "subject_uses", id="nobody")["uses"] == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_death_in_the_middle_is_told_by_name_and_the_task_runs_again(staged) -> None:
    with staged(epochs=4, batch_rows=16) as scene:
        scene.attested()
        spent = 0
        for victim in ("regulator-d", "bank-b", "fintech-c"):
            for state in ("PROPOSED", "ROSTER_SIGNED", "RUNNING"):
                spent = die(scene, victim, state, spent)
        spent = one_worker_dies(scene, spent)
        spent = one_owner_stops(scene, spent)
        session = scene.start_session()
        for name in NAMES:
            assert scene.reaches(name, session, *OVER, timeout_s=90) == "COMPLETED"
        assert scene.reserved("bank-a") == spent + 8
        refused_after_completion(scene)


def die(scene, victim: str, state: str, spent: int) -> int:
    """kill -9 of a daemon in one state: the others know within seconds; nothing is given back."""
    session = scene.start_session()
    watcher = "bank-a" if victim != "bank-a" else "bank-b"
    # A state may be passed before it is seen: then the death comes a little later.
    scene.until(lambda: reached(scene.show(watcher, session)["state"], state), 30)
    family = [scene.daemons[victim].pid, *scene.workers(victim)]
    scene.kill(victim)
    left = [name for name in others(victim) if scene.show(name, session)["state"]]
    everybody_knows(scene, session, left, victim, 12)
    scene.until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()], 5)
    scene.start(victim)
    scene.journey.meet()
    assert scene.show(victim, session)["state"] in ("ABORTED", "")
    now = scene.reserved("bank-a")
    assert now >= spent
    return now


ORDER = ("", "PROPOSED", "ROSTER_SIGNED", "ALIGNED", "ROWS_SIGNED", "RUNNING", *OVER)


def reached(now: str, state: str) -> bool:
    assert now not in OVER
    return ORDER.index(now) >= ORDER.index(state)


def one_worker_dies(scene, spent: int) -> int:
    session = scene.start_session()
    scene.reaches("bank-a", session, "RUNNING")
    os.kill(scene.workers("regulator-d")[0], signal.SIGKILL)
    everybody_knows(scene, session, NAMES, "regulator-d", 8)
    assert scene.reserved("bank-a") == spent + 8
    return spent + 8


def one_owner_stops(scene, spent: int) -> int:
    session = scene.start_session()
    scene.reaches("bank-b", session, "RUNNING")
    scene.call("bank-b", "session_stop", session=session)
    everybody_knows(scene, session, NAMES, "bank-b stopped it", 8)
    assert scene.reserved("bank-a") == spent + 8
    return spent + 8


def refused_after_completion(scene) -> None:
    from node.errors import Fault  # noqa: PLC0415

    with pytest.raises(Fault, match="completed in session"):
        scene.start_session()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_silent_peer_is_named(staged) -> None:
    with staged(epochs=4, batch_rows=16) as scene:
        scene.attested()
        scene.daemons["bank-b"].send_signal(signal.SIGSTOP)
        try:
            session = scene.start_session()
            everybody_knows(scene, session, ["fintech-c", "bank-a"], "bank-b", 30)
            assert scene.show("regulator-d", session)["state"] == ""  # nobody was drawn
        finally:
            scene.daemons["bank-b"].send_signal(signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_an_owner_is_paid_although_the_recipient_falls_silent(staged) -> None:
    with staged() as scene:
        scene.attested()
        session = scene.start_session()
        for name in ("bank-a", "bank-b"):
            assert scene.reaches(name, session, *OVER, timeout_s=60) == "COMPLETED"
        scene.kill("fintech-c")
        task = scene.journey.task
        assert scene.call("bank-a", "task_claim", task=task)["state"] == "CLAIMED"
        scene.until(lambda: scene.call("bank-b", "task_show", task=task)["state"] == "CLAIMED")
        assert scene.call("bank-b", "task_claim", task=task)["state"] == "CLAIMED"
        with pytest.raises(Fault, match="refuses"):
            scene.call("bank-b", "task_settle", task=task)  # the dispute window is still open
        scene.pass_time(100_000)
        paid = scene.call("bank-b", "task_settle", task=task)["paid"]
        assert {each["owner"] for each in paid} == {"bank-a", "bank-b", "regulator-d"}
        for name in ("bank-a", "bank-b"):
            assert int(scene.call(name, "payment_withdraw")["withdrawn"]) > 0
