"""Real daemons whose workers' addresses lead nowhere: their session goes through the nodes."""

import pytest

from node.demo import organisations

NAMES = ("bank-a", "bank-b", "fintech-c", "regulator-d")
OVER = ("ABORTED", "COMPLETED")


@pytest.fixture
def unreachable(monkeypatch) -> None:
    """Every node tells others an address at which nobody listens."""
    written = organisations.configuration

    def configuration(*given) -> str:
        listen = 'data_host = "127.0.0.1"'
        text = written(*given)
        assert listen in text
        return text.replace(listen, f'{listen}\ndata_announce = "127.0.0.2"')

    monkeypatch.setattr(organisations, "configuration", configuration)


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.usefixtures("unreachable")
def test_sessions_through_the_nodes_complete_or_end_by_name(staged) -> None:
    with staged(epochs=4, batch_rows=16) as scene:
        scene.attested()
        session = scene.start_session()
        scene.until(lambda: scene.show("bank-a", session)["state"] == "RUNNING", 30)
        scene.kill("regulator-d")
        for name in set(NAMES) - {"regulator-d"}:
            assert scene.reaches(name, session, *OVER, timeout_s=12) == "ABORTED"
            shown = scene.show(name, session)
            assert "regulator-d" in shown["reason"] + " ".join(shown["blamed"])
            scene.until(lambda name=name: not scene.workers(name), 5)
        scene.start("regulator-d")
        session = scene.start_session()
        for name in NAMES:
            assert scene.reaches(name, session, *OVER, timeout_s=60) == "COMPLETED"
