"""Four real daemons and a chain on a part of the demo's data, driven by their JSON-RPC alone."""

import csv
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain.devchain import find_anvil
from node.demo import applicants as data
from node.demo import organisations as making
from node.demo.journey import Journey
from node.demo.network import Network, prepare_folder
from node.demo.processes import Processes, descendants, northbund

NAMES = data.ORGANISATIONS
TAPPED = Path(__file__).parent / "tapped"
PEOPLE = 1_600


class Silence:
    """What the demo shows to a person, here to nobody."""

    def await_(self, _who: tuple[str, ...]) -> None: ...
    def say(self, _who: str, _what: str) -> None: ...
    def train(self, _done: int, _total: int, _losses: list[float]) -> None: ...


class LongJourney(Journey):
    """The demo's journey with as many rounds as a test needs to come in between."""

    epochs, batch_rows = 2, 32

    def _compose(self, name: str, width: int, noise: float, settings: Any) -> str:
        longer = replace(settings, epochs=self.epochs, batch_rows=self.batch_rows)
        return super()._compose(name, width, noise, longer)


class Scene:
    """The network and everything that was started for it."""

    def __init__(self, folder: Path, epochs: int, batch_rows: int) -> None:
        prepare_folder(folder)
        self.folder = folder
        self.processes = Processes(folder / "processes.json", keep=False)
        self.network = Network(folder, self.processes, Silence())
        self.journey = LongJourney(self.network, Silence())
        self.journey.epochs, self.journey.batch_rows = epochs, batch_rows
        self.daemons: dict[str, Any] = {}

    def open(self, environment: Mapping[str, Mapping[str, str]]) -> None:
        """The chain and the daemons run, each daemon with its own `environment`."""
        everybody = data.load()
        some = data.Applicants(
            everybody.ids[:PEOPLE],
            {name: column[:PEOPLE] for name, column in everybody.columns.items()},
            everybody.labels[:PEOPLE],
        )
        self.network.make_folders(some, 1)
        plant(self.network["bank-a"].folder / "applicants.csv")
        making.configure(self.network.organisations, self.network.start_chain())
        for name in self.network.organisations:
            self.start(name, environment.get(name, {}))
        self.journey.meet()

    def start(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """The daemon of `name` runs (again)."""
        folder = self.network[name].folder
        words = ["-d", str(folder), "run", "--password-file", str(self.folder / "password")]
        log = folder / "console.log"
        self.daemons[name] = self.processes.start(name, northbund(*words), log, environment or {})
        self.until(lambda: self.network._answers(name, self.daemons[name]))

    def attested(self) -> None:
        """Everything up to the attested task."""
        journey = self.journey
        journey.publish()
        journey.discover()
        journey.negotiate()
        journey.anchor()

    def call(self, name: str, method: str, **parameters: Any) -> Any:
        return self.network[name].call(method, **parameters)

    def show(self, name: str, session: str) -> dict[str, Any]:
        """How the session stands at `name`; state "" if it knows nothing of it."""
        shown = [s for s in self.call(name, "session_list") if s["session"] == session]
        return shown[0] if shown else {"state": "", "reason": "", "progress": {}}

    def start_session(self) -> str:
        return str(
            self.call("fintech-c", "session_start", task=self.journey.task, seed=1)["session"]
        )

    def until(self, done: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        limit = time.monotonic() + timeout_s
        while not (found := done()):
            assert time.monotonic() < limit, "awaited in vain"
            time.sleep(0.03)
        return found

    def reaches(self, name: str, session: str, *states: str, timeout_s: float = 30.0) -> str:
        return str(
            self.until(lambda: (s := self.show(name, session)["state"]) in states and s, timeout_s)
        )

    def workers(self, name: str) -> list[int]:
        """The processes below the daemon of `name`."""
        pid = self.daemons[name].pid
        return [each for each in descendants(pid) if each != pid]

    def kill(self, name: str) -> None:
        """The daemon is killed at once, without a word to anybody."""
        self.daemons[name].send_signal(signal.SIGKILL)
        self.daemons[name].wait()

    def pass_time(self, seconds: int) -> None:
        """The chain's clock jumps."""
        deployment = json.loads((self.folder / "deployment.json").read_text("utf-8"))
        for method, given in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": given})
            request = urllib.request.Request(  # noqa: S310
                deployment["url"], body.encode(), {"content-type": "application/json"}
            )
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310  the own anvil

    def reserved(self, name: str) -> int:
        """The most numbers that were reserved about one row of a bank."""
        shown = self.call(name, "budget_show", dataset=f"applicants-{name[-1]}")
        return max((each["numbers"] for each in shown["rows"]), default=0)


def plant(path: Path) -> None:
    """Every Seniority and Age of bank A gets ten random decimals, so that it is like no other."""
    random = np.random.default_rng(17)
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    for name in ("Seniority", "Age"):
        place = head.index(name)
        for row in rows:
            row[place] = f"{float(row[place] or 30) + random.random():.10f}"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


@contextmanager
def scene(
    folder: Path,
    environment: Mapping[str, Mapping[str, str]] | None = None,
    *,
    epochs: int = 2,
    batch_rows: int = 32,
) -> Iterator[Scene]:
    """A running scene; afterwards nothing of it runs."""
    found = Scene(folder, epochs, batch_rows)
    try:
        found.open(environment or {})
        yield found
    finally:
        below = {name: found.workers(name) for name in found.daemons}
        found.processes.stop()
        left = [pid for pids in below.values() for pid in pids if Path(f"/proc/{pid}").exists()]
        assert not left, below


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`with staged(...) as scene:` where budgets are wide enough for many sessions."""
    if find_anvil() is None:
        pytest.skip("no anvil on this machine")
    monkeypatch.setattr(making, "NUMBERS_MAX", 400)

    def start(environment: Mapping[str, Mapping[str, str]] | None = None, **options: int) -> Any:
        return scene(tmp_path / "scene", environment, **options)

    return start


@pytest.fixture
def tapped(tmp_path: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    """The folder of the taps, and the environment by which every node's workers write there."""
    folder = tmp_path / "taps"
    folder.mkdir()
    path = os.pathsep.join(filter(None, [str(TAPPED), os.environ.get("PYTHONPATH", "")]))
    each = {"PYTHONPATH": path, "TAP_FOLDER": str(folder)}
    return folder, {name: dict(each) for name in NAMES}
