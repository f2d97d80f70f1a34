"""The demo's network on this machine: a chain and four daemons, each a process of its own."""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any, TypeVar

from node.client import Client
from node.demo import organisations as making
from node.demo.applicants import (
    BANK_A,
    BANK_B,
    FINTECH_C,
    REGULATOR_D,
    Applicants,
    holdings,
    write,
)
from node.demo.organisations import Organisation
from node.demo.processes import Processes, northbund, running_demo
from node.demo.progress import Progress
from node.errors import Fault
from protocol.errors import LocalProtocolError

POLL_S = 0.05
START_S = 30.0
DEPLOYED_S = 60.0  # npm may have to fetch anvil first
ETHER = 10
TOKENS = {BANK_A: 0, BANK_B: 0, FINTECH_C: 100, REGULATOR_D: 10}
"""C pays for the task; D lodges the bond of an attester."""

_SENTENCE = "northbund: "
_MARK = "northbund-demo"
_RECORD = "processes.json"

T = TypeVar("T")


def record_of(folder: Path) -> Path:
    """Where the processes of the demo in `folder` are written down."""
    return folder / _RECORD


def prepare_folder(folder: Path) -> None:
    """Afterwards `folder` is the demo's and holds nothing of an earlier one.

    Fault `demo-running` while an earlier demo runs there, `folder-exists` if it holds something
    that no demo has made: nothing else is ever removed.
    """
    if running_demo(record_of(folder)):
        raise Fault("demo-running", f"a demo or the network that it kept still runs in {folder}")
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise Fault("folder-exists", f"{folder} holds something that is not of a demo")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)
    (folder / _MARK).touch()


class Network:
    """A chain, four node folders and four daemons, started one after another."""

    def __init__(self, folder: Path, processes: Processes, progress: Progress) -> None:
        self.folder = folder
        self.organisations: dict[str, Organisation] = {}
        self._processes = processes
        self._progress = progress
        self._password_file = folder / "password"
        self._deployment = folder / "deployment.json"

    def __getitem__(self, name: str) -> Organisation:
        return self.organisations[name]

    def make_folders(self, applicants: Applicants, seed: int) -> dict[str, int]:
        """The four folders exist, with keys and data; how many rows each holder of data has."""
        self.organisations = making.found(self.folder, self._password_file)
        held = holdings(len(applicants.ids), seed)
        for holder, rows in held.items():
            name = "outcomes.csv" if holder == FINTECH_C else "applicants.csv"
            write(applicants, holder, rows, self[holder].folder / name)
        return {holder: len(rows) for holder, rows in held.items()}

    def start_chain(self) -> dict[str, Any]:
        """The chain runs with the contracts on it and everybody has coins; its addresses."""
        arguments = ["devchain", "--port", "0", "--deploy", "--deployment", str(self._deployment)]
        arguments += ["--dispute-window", "1", "--json"]
        for organisation in self.organisations.values():
            arguments += ["--fund", f"{organisation.account}:{ETHER}:{TOKENS[organisation.name]}"]
        log = self.folder / "devchain.log"
        child = self._processes.start("devchain", northbund(*arguments), log, {})
        self.until("the chain", lambda: self._ready_to_use(child, log), DEPLOYED_S)
        deployment: dict[str, Any] = json.loads(self._deployment.read_text("utf-8"))
        return deployment

    def start_daemons(self, chain: dict[str, Any]) -> float:
        """The four daemons run and see the chain; the seconds until all answered."""
        making.configure(self.organisations, chain)
        started = time.monotonic()
        children = {}
        for organisation in self.organisations.values():
            arguments = ["-d", str(organisation.folder), "run"]
            arguments += ["--password-file", str(self._password_file)]
            log = organisation.folder / "console.log"
            os.close(os.open(log, os.O_CREAT | os.O_WRONLY, 0o600))
            children[organisation.name] = self._processes.start(
                organisation.name, northbund(*arguments), log, {}
            )
        for name, child in children.items():
            self.until(name, lambda name=name, child=child: self._answers(name, child), START_S)  # type: ignore[misc]
        return time.monotonic() - started

    def until(self, who: str, done: Callable[[], T | None], timeout_s: float) -> T:
        """What `done` gives as soon as it gives something; `who` is shown as awaited.

        Fault `demo-failed` names who was not ready in time, or whose process has ended.
        """
        self._progress.await_((who,))
        limit = time.monotonic() + timeout_s
        while not (found := done()):
            if time.monotonic() > limit:
                raise Fault(
                    "demo-failed",
                    f"{timeout_s:g} s were not enough for {who}; see northbund.log in the nodes'"
                    f" folders under {self.folder}",
                )
            time.sleep(POLL_S)
        self._progress.await_(())
        return found

    def _ready_to_use(self, child: "Popen[bytes]", log: Path) -> bool:
        if child.poll() is not None:
            raise _told(log) or Fault("demo-failed", f"the chain did not start; see {log}")
        return b'"registry"' in log.read_bytes()

    def _answers(self, name: str, child: "Popen[bytes]") -> bool:
        folder = self[name].folder
        log = folder / "console.log"
        if child.poll() is not None:
            raise _told(log) or Fault("demo-failed", f"the daemon of {name} ended; see {log}")
        try:
            status = Client(folder).call("node_status")
        except Fault as fault:
            if fault.kind in ("daemon-not-running", "daemon-starting", "daemon-unauthorised"):
                return False
            raise
        return bool(status)


def _told(log: Path) -> Fault | None:
    """The Fault that a command printed before it ended, as JSON or for a person; or None."""
    for line in reversed(log.read_text("utf-8", "replace").splitlines()):
        if line.startswith(_SENTENCE):
            return Fault("demo-failed", f"{line.removeprefix(_SENTENCE)}; see {log}")
        with suppress(ValueError, TypeError, KeyError, LocalProtocolError):
            error = json.loads(line)["error"]
            return Fault(error["kind"], error["sentence"], **error["data"])
    return None
