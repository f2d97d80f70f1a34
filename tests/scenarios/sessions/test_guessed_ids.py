"""Guessed ids against real daemons: what was counted is not given back by kill -9 (floor 12)."""

from pathlib import Path

import pytest

from node.demo import organisations as making

CAP = 2_500


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bank A's terms let a counterparty test 2,500 ids: enough for one alignment, not for two."""
    configure = making.configure

    def with_cap(organisations, *given):
        configure(organisations, *given)
        path = Path(organisations["bank-a"].folder) / "northbund.toml"
        before = path.read_text("utf-8")
        after = before.replace("cohort_min", f"tested_ids_max = {CAP}\ncohort_min", 1)
        assert after != before
        path.write_text(after, "utf-8")

    monkeypatch.setattr(making, "configure", with_cap)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_second_list_of_guesses_is_refused_by_name_after_a_kill(capped, staged) -> None:
    with staged(epochs=4, batch_rows=16) as scene:
        scene.attested()
        session = scene.start_session()
        scene.until(lambda: counted(scene), 30)
        scene.kill("bank-a")
        assert scene.reaches("fintech-c", session, "ABORTED") == "ABORTED"
        scene.start("bank-a")
        scene.journey.meet()
        (before,) = [each for each in counted(scene) if each["operator"] == "fintech-c"]
        assert 1_000 < before["ids"] <= CAP
        again = scene.start_session()
        assert scene.reaches("bank-a", again, "ABORTED", "COMPLETED") == "ABORTED"
        reason = scene.show("bank-a", again)["reason"]
        assert f"has tested {before['ids']} ids against these rows in 30 days" in reason
        assert f"at most {CAP} are allowed" in reason
        assert scene.reaches("fintech-c", again, "ABORTED") == "ABORTED"
        assert "bank-a refuses" in scene.show("fintech-c", again)["reason"]
        assert [each for each in counted(scene) if each["operator"] == "fintech-c"] == [before]


def counted(scene) -> list[dict]:
    return scene.call("bank-a", "budget_show", dataset="applicants-a")["tested"]
