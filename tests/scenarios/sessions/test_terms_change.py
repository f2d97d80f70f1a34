"""An owner changes its terms while a session runs: new requests meet them, grants given stand."""

from pathlib import Path
from typing import Any

import pytest

from node.demo.journey import DEFAULT

NAMES = ("bank-a", "bank-b", "fintech-c", "regulator-d")
OLD, NEW = 'purposes = ["credit-risk-model"]', 'purposes = ["audit"]'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


def change_terms(folder: Path) -> None:
    """The terms of the dataset alone: the first that stand in the file."""
    file = folder / "northbund.toml"
    text = file.read_text("utf-8")
    head, tail = text.split("[datasets.terms]")
    assert OLD in tail
    file.write_text(f"{head}[datasets.terms]{tail.replace(OLD, NEW, 1)}", "utf-8")


def failed(findings: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(each["what"], each["asked"], each["allowed"]) for each in findings
            if not each["passed"]]  # fmt: skip


def test_a_changed_policy_meets_new_requests_at_once_and_second_thoughts_end_a_run(
    staged: Any,
) -> None:
    why = ("purpose", "credit-risk-model", "only audit")
    with staged(epochs=4, batch_rows=16) as scene:
        scene.attested()
        bank, journey = scene.network["bank-b"].folder, scene.journey
        assert [each["would_be_given"] for each in scene.call("bank-b", "grant_review")] == [
            True,
            True,
        ]
        change_terms(bank)
        assert scene.call("bank-b", "terms_reload") == {
            "changed": ["applicants-b"],
            "failing_grants": 1,
            "waits_for_restart": [],
        }
        (failing,) = [e for e in scene.call("bank-b", "grant_review") if not e["would_be_given"]]
        assert failing["child"] == journey.data["bank-b"]
        assert failing["why_not"] == ["purpose: credit-risk-model was asked, only audit is allowed"]

        session = scene.start_session()  # what was granted stands until it is taken back
        scene.reaches("bank-b", session, "RUNNING")

        other = journey._compose("another-model", 2, 0.3, DEFAULT)
        (refused,) = journey._negotiated(other, [journey.data["bank-b"]])
        assert refused["state"] == "TERMINATED"
        for name in ("bank-b", "fintech-c"):
            told = scene.call(name, "terms_explain", request=refused["id"])
            assert failed(told["findings"]) == [why]

        assert scene.show("bank-b", session)["state"] == "RUNNING"
        (taken,) = scene.call("bank-b", "grant_revoke_failing")
        assert (taken["child"], taken["on_chain"]) == (journey.data["bank-b"], True)
        for name in NAMES:
            assert scene.reaches(name, session, "ABORTED", timeout_s=10) == "ABORTED"
            assert "bank-b revoked its grant" in scene.show(name, session)["reason"]
        assert scene.call("bank-b", "grant_revoke_failing") == []
        (kept,) = scene.call("bank-b", "grant_review")
        assert kept["would_be_given"]
