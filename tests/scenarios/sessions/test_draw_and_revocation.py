"""A pool with a dead node in it, a grant taken back and a grant that expires, on real daemons."""

import time
from typing import Any

import pytest

from node.demo import journey, network
from node.demo import organisations as making

HOUSE = "house-e"
NAMES = ("bank-a", "bank-b", "fintech-c", "regulator-d")
OVER = ("ABORTED", "COMPLETED")
WEEK_S = 7 * 86_400

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture
def five(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth organisation lends a node to the pool, which has one more then than seats."""
    everybody = (*NAMES, HOUSE)
    monkeypatch.setattr(making, "ORGANISATIONS", everybody)
    monkeypatch.setattr(journey, "ORGANISATIONS", everybody)
    monkeypatch.setattr(journey, "COMPUTERS", (*journey.COMPUTERS, HOUSE))
    monkeypatch.setitem(network.TOKENS, HOUSE, 0)


def decisions(scene, name: str, session: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = scene.call(name, "session_show", session=session)["decisions"]
    return found


def stopped_everywhere(scene, session: str, word: str, within_s: float = 8.0) -> None:
    began = time.monotonic()
    for name in NAMES:
        assert scene.reaches(name, session, *OVER, timeout_s=within_s) == "ABORTED"
        assert word in scene.show(name, session)["reason"]
    assert time.monotonic() - began < within_s
    for name in NAMES:
        scene.until(lambda name=name: not scene.workers(name), 5)


@pytest.mark.usefixtures("five")
def test_one_dead_node_of_a_pool_of_four_kills_no_task(staged) -> None:
    with staged() as scene:
        scene.attested()
        scene.kill(HOUSE)
        session = scene.start_session()
        for name in NAMES:
            assert scene.reaches(name, session, *OVER, timeout_s=60) == "COMPLETED", scene.show(
                name, session
            )
        told = decisions(scene, "fintech-c", session)
        yes = {(each["by"], each["part"]) for each in told if each["answer"] == "yes"}
        for name in ("bank-a", "bank-b", "regulator-d"):
            assert (name, "draw") in yes
        (drawn,) = [e for e in told if (e.get("by"), e.get("part")) == ("bank-a", "draw")]
        assert any("3 of 4 in the pool are alive" in each for each in drawn["why"])
        own = decisions(scene, "bank-a", session)
        assert any(f"{HOUSE}'s compute is not counted alive" in str(each) for each in own)
        scene.start(HOUSE)  # it comes back and was not part of it
        assert scene.show(HOUSE, session)["state"] == ""


def test_a_revocation_ends_a_running_session_and_the_owner_is_paid(staged) -> None:
    with staged(epochs=4, batch_rows=16) as scene:
        scene.attested()
        session = scene.start_session()
        scene.reaches("bank-b", session, "RUNNING")
        data, algorithm = scene.journey.data["bank-b"], scene.journey.algorithm
        answer = scene.call("bank-b", "grant_revoke", child=data, parent=algorithm)
        assert answer == {"revoked": True, "on_chain": True}
        stopped_everywhere(scene, session, "bank-b revoked its grant")
        held = scene.call("fintech-c", "grant_list")
        assert [each["revoked"] for each in held if each["child"] == data] == [True]
        assert scene.reserved("bank-b") == 8  # what was opened stays counted
        claimed = scene.call("bank-b", "task_claim", task=scene.journey.task)
        assert claimed["state"] == "CLAIMED"  # and is paid
        again = scene.start_session()
        scene.reaches("fintech-c", again, "ABORTED")
        assert "bank-b says no (grant-unusable)" in scene.show("fintech-c", again)["reason"]
        no = [each for each in decisions(scene, "bank-b", again) if each["answer"] == "no"]
        assert no[0]["rule"] == "grant-unusable"


def test_a_running_session_stops_when_the_blocks_time_passes_the_expiry(staged) -> None:
    with staged(epochs=4, batch_rows=16) as scene:
        scene.attested()
        session = scene.start_session()
        scene.reaches("bank-b", session, "RUNNING")
        scene.pass_time(WEEK_S + 60)
        stopped_everywhere(scene, session, "has expired")
        assert scene.reserved("bank-a") == 8
