"""The newcomer's page runs as it is written: copied, pasted, in an empty folder."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

PAGE = Path(__file__).parents[2] / "configs" / "README.md"
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
PATIENCE_S = 300.0


def grants_of(name: str, folder: Path) -> list[dict[str, object]]:
    """What `northbund grants list` tells at this node."""
    command = ["northbund", "-d", name, "grants", "list", "--json"]
    told = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, check=True, timeout=60
    )
    return json.loads(told.stdout)


def end(group: int) -> None:
    """Afterwards no process of the group lives."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        limit = monotonic() + 20
        while monotonic() < limit:
            os.killpg(group, 0)
            sleep(0.1)
        os.killpg(group, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_three_nodes_of_ones_own_exchange_grants(tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    said = tmp_path / "said.log"
    with said.open("w") as file:
        shell = subprocess.Popen(
            ["/bin/bash", "-e", "-o", "pipefail", "-c", script],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        assert shell.wait(PATIENCE_S) == 0, said.read_text()
        limit = monotonic() + 30
        while len(grants_of("carol", tmp_path)) < 3:
            assert monotonic() < limit, said.read_text()
            sleep(0.5)
        (given,) = grants_of("alice", tmp_path)
        assert (given["owner"], given["consumer"], given["given"]) == ("alice", "carol", True)
    finally:
        end(shell.pid)
