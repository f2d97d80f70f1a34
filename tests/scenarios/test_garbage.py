"""A minute of garbage on every protocol of a live node: it answers its people and its peers."""

import os
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chain.devchain import find_anvil
from node.client import Client
from tests.scenarios.sessions.conftest import scene

SECONDS = 60.0
NEGOTIATED_AFTER_S = 15.0
MEDIAN_S = 0.25
"""Of one RPC while four daemons and the strangers share two cores; the benchmark is stricter."""
GROWN_MB = 60.0
LOGGED_BYTES = 1_500_000
VICTIM = "bank-b"


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def latencies(folder: Path, ended: Callable[[], bool]) -> list[float]:
    """Seconds of each answer until `ended`."""
    taken = []
    while not ended():
        began = time.perf_counter()
        Client(folder).call("node_status")
        taken.append(time.perf_counter() - began)
        time.sleep(0.05)
    return taken


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(find_anvil() is None, reason="no anvil on this machine")
def test_a_node_under_garbage_answers_and_finalizes_a_negotiation(tmp_path: Path) -> None:
    with scene(tmp_path / "scene") as found, ThreadPoolExecutor() as pool:
        found.journey.publish()
        found.journey.discover()
        folder = found.network[VICTIM].folder
        process = found.daemons[VICTIM]
        network = tomllib.loads((folder / "northbund.toml").read_text())["network"]
        address = found.call(VICTIM, "node_status")["addresses"][0]
        log = folder / "northbund.log"
        before, logged = resident_mb(process.pid), log.stat().st_size
        command = [sys.executable, "-m", "tests.fuzz.garbage", address, network, str(SECONDS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as strangers:
            try:
                taken = pool.submit(latencies, folder, lambda: strangers.poll() is not None)
                time.sleep(NEGOTIATED_AFTER_S)
                assert strangers.poll() is None
                found.journey.negotiate()  # raises unless every owner's grant is FINALIZED
                assert strangers.poll() is None, "the negotiation came too late for the garbage"
                told, _ = strangers.communicate(timeout=SECONDS + 30)
            finally:
                strangers.kill()
        assert process.poll() is None
        assert statistics.median(taken.result()) < MEDIAN_S
        assert resident_mb(process.pid) - before < GROWN_MB
        assert log.stat().st_size - logged < LOGGED_BYTES
        assert "Traceback" not in log.read_text()
        assert stored_by_strangers(found) == [], told
        assert found.call(VICTIM, "node_status")["peers"] >= len(found.daemons) - 1


def stored_by_strangers(found: Any) -> list[dict[str, Any]]:
    """What the catalogue holds that nobody of the scene has published."""
    known = {*found.journey.data.values(), *found.journey.compute.values(), found.journey.algorithm}
    listed: list[dict[str, Any]] = found.call(VICTIM, "cdt_list", limit=200)["assets"]
    return [each for each in listed if each["cdt"] not in known]
