"""A daemon killed between a commit and its effect: the next start performs what is owed."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from rich.console import Console

from node.client import Client
from node.demo.applicants import BANK_A, BANK_B, FINTECH_C, ORGANISATIONS, REGULATOR_D, load
from node.demo.in_clear import DEFAULT
from node.demo.journey import Journey
from node.demo.network import Network, prepare_folder, record_of
from node.demo.processes import Processes, descendants, northbund
from node.demo.progress import Progress
from node.errors import Fault

COMMAND = [sys.executable, "-P", "-c", "from node.cli import main; main()"]
COMPUTE = """
[compute]
name = "seat"

[compute.terms]
operations = ["committee-member"]
counterparties = ["bank-a"]
recipients = ["bank-a"]
purposes = ["risk"]
attesters = ["bank-a"]
deciders = ["0xabababababababababababababababababababab"]
valid_for_days = 30
uses = 2
"""


def until(done: Callable[[], Any], timeout_s: float = 30) -> Any:
    limit = monotonic() + timeout_s
    while not (found := done()):
        assert monotonic() < limit, "awaited in vain"
        sleep(0.02)
    return found


# ---------------------------------------------------------------------- the outbox


@pytest.fixture
def node(chain: Any, tmp_path: Path) -> Iterator[Any]:
    """A node with a compute asset, on a chain that mines nothing until it is told to."""
    found = chain.node(tmp_path / "node", "bank-a")
    chain.give_ether(found.account)
    with found.config.open("a") as file:
        file.write(COMPUTE)
    chain.ask("evm_setAutomine", False)
    yield found
    chain.ask("evm_setAutomine", True)
    if found.process is not None and found.process.poll() is None:
        found.process.kill()
        found.process.wait()


@contextmanager
def publishing(node: Any) -> Iterator[None]:
    """A publish that waits for its block, and loses its daemon."""
    command = [*COMMAND, "-d", str(node.folder), "compute", "publish"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as asking:
        node.wait(lambda: node.rows("chain_outbox WHERE state = 'sent'"))
        yield
        assert asking.wait(10) != 0


def own_assets(node: Any, state: str) -> list[dict[str, Any]]:
    return list(node.call("cdt_list", owner=node.account, state=state)["assets"])


def test_a_transaction_that_nobody_has_any_more_is_sent_again_once(node: Any, chain: Any) -> None:
    with node.running() as process, publishing(node):
        process.kill()
        process.wait()
    chain.ask("anvil_dropAllTransactions")
    chain.ask("evm_setAutomine", True)
    assert chain.sent_by(node.account) == 0
    with node.running():
        (asset,) = node.wait(lambda: own_assets(node, "confirmed"))
        assert node.call("compute_publish")["cdt"] == asset["cdt"]
    assert chain.sent_by(node.account) == 1
    assert len(node.rows("own_assets")) == 1


def test_what_was_refused_while_nobody_looked_is_taken_back_at_the_start(
    node: Any, chain: Any
) -> None:
    with node.running() as process, publishing(node):
        process.kill()
        process.wait()
    chain.ask("anvil_dropAllTransactions")
    with closing(sqlite3.connect(node.folder / "node.sqlite3")) as db:
        db.execute("UPDATE chain_outbox SET state = 'refused', reason = 'Paused()'")
        db.commit()
    with node.running():
        node.wait(lambda: not node.stored())


# ---------------------------------------------------------------------- four daemons


class Started(Processes):
    """What was started here alone: under the tests' process there are others' chains too."""

    def note_descendants(self) -> list[int]:
        return []


class Four:
    """The demo's network, whose daemons can be killed and started again."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.folder = folder
        self.processes = processes
        self.network = Network(folder, processes, Progress(Console(quiet=True)))
        self.journey = Journey(self.network, Progress(Console(quiet=True)))
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self) -> None:
        self.network.make_folders(load(), 1)
        self.network.start_daemons(self.network.start_chain())
        for child, started in self.processes._children:
            self.running[started.what] = child
        self.journey.meet()
        self.journey.publish()
        self.journey.discover()

    def kill(self, *names: str) -> None:
        for name in names:
            self.running[name].kill()
            self.running[name].wait()

    def start(self, *names: str) -> None:
        for name in names:
            words = ["-d", str(self.folder / name), "run"]
            words += ["--password-file", str(self.folder / "password")]
            log = self.folder / name / "console.log"
            self.running[name] = self.processes.start(name, northbund(*words), log, {})
        for name in names:
            until(lambda name=name: self.connected(name))

    def connected(self, name: str) -> bool:
        cookie = self.folder / name / "rpc.cookie"
        pid = f'"process": {self.running[name].pid}'
        if not cookie.exists() or pid not in cookie.read_text():
            return False
        status = Client(self.folder / name).call("node_status")
        return bool(status["unlocked"] and status["chain"]["connected"])

    def rows(self, name: str, table: str, what: str = "*") -> list[Any]:
        address = f"file:{self.folder / name / 'node.sqlite3'}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as db:
            return db.execute(f"SELECT {what} FROM {table}").fetchall()  # noqa: S608

    def call(self, who: str, method: str, **parameters: Any) -> Any:
        return self.network[who].call(method, **parameters)

    def workers(self, name: str) -> list[int]:
        return descendants(self.running[name].pid)[1:]

    def state(self, name: str, session: str) -> str:
        known = {each["session"]: each["state"] for each in self.call(name, "session_list")}
        return str(known.get(session))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Four]:
    folder = tmp_path_factory.mktemp("four") / "demo"
    prepare_folder(folder)
    processes = Started(record_of(folder), keep=False)
    found = Four(folder, processes)
    try:
        found.begin()
        yield found
    finally:
        processes.stop()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_documents_announcements_and_negotiations_are_finished_after_kills(four: Four) -> None:
    four.kill(BANK_B)
    composed = four.call(
        FINTECH_C,
        "algorithm_compose",
        name="risk-model",
        purpose="credit-risk-model",
        labels="seen-by-owners",
        pool=list(four.journey.compute.values()),
        children=leaves(four),
    )
    cdt = composed["cdt"]
    # bank-b is asked while it is away, and then the one who asks is killed too
    asked = four.call(FINTECH_C, "negotiation_start", algorithm=cdt)
    open_ = [each["id"] for each in asked if each["counterparty"] == BANK_B]
    assert len(open_) == 2
    four.kill(FINTECH_C)
    owed = {kind for (kind,) in four.rows(FINTECH_C, "effects", "kind")}
    assert {"negotiate", "announce"} <= owed
    # bank-b hears of the algorithm from the chain while nobody can give it the document
    for name in (BANK_A, REGULATOR_D):
        four.running[name].send_signal(signal.SIGSTOP)
    try:
        four.start(BANK_B)
        wanted = f"wanted_documents WHERE cdt = x'{cdt[2:]}'"
        until(lambda: four.rows(BANK_B, wanted))
        four.kill(BANK_B)
        assert four.rows(BANK_B, wanted)
    finally:
        for name in (BANK_A, REGULATOR_D):
            four.running[name].send_signal(signal.SIGCONT)
    four.start(BANK_B, FINTECH_C)
    until(lambda: four.call(BANK_B, "cdt_show", cdt=cdt)["state"] == "confirmed")
    until(lambda: four.rows(BANK_B, f"announcements WHERE cdt = x'{cdt[2:]}'"))

    def finalized() -> bool:
        shown = [four.call(FINTECH_C, "negotiation_show", id=each["id"]) for each in asked]
        assert not [each for each in shown if each["state"] == "TERMINATED"], shown
        return all(each["state"] == "FINALIZED" for each in shown)

    until(finalized, 60)
    granted = {each["state"] for each in four.call(BANK_B, "negotiation_list")}
    assert granted == {"FINALIZED"}
    four.journey.algorithm = cdt
    with pytest.raises(Fault) as caught:
        four.call(FINTECH_C, "task_open", algorithm=cdt, budget=str(10**30))
    assert caught.value.kind == "funds-missing"
    assert not four.rows(FINTECH_C, "chain_outbox WHERE kind IN ('grant', 'approve', 'open')")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_request_waits_for_a_person_while_both_daemons_are_killed(four: Four) -> None:
    config = four.folder / BANK_B / "northbund.toml"
    config.write_text(
        config.read_text().replace("[datasets.terms]\n", '[datasets.terms]\nrefer = ["uses"]\n')
    )
    four.kill(BANK_B)
    four.start(BANK_B)
    cdt = four.call(
        FINTECH_C,
        "algorithm_compose",
        name="often-used",
        purpose="credit-risk-model",
        labels="seen-by-owners",
        pool=list(four.journey.compute.values()),
        children=leaves(four),
    )["cdt"]
    child = four.journey.data[BANK_B]
    asked = four.call(FINTECH_C, "negotiation_start", algorithm=cdt, children=[child], uses=50)[0][
        "id"
    ]
    until(lambda: four.call(BANK_B, "request_list"), 60)
    four.kill(BANK_B, FINTECH_C)
    four.start(BANK_B)
    (waiting,) = four.call(BANK_B, "request_list")
    assert (waiting["id"], waiting["to_decide"]) == (asked, ["number of uses"])
    told = subprocess.run(
        northbund("-d", str(four.folder / BANK_B), "requests", "approve", asked, "--by", "ann"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    four.kill(BANK_B)
    four.start(BANK_B, FINTECH_C)
    until(lambda: four.call(FINTECH_C, "negotiation_show", id=asked)["state"] == "FINALIZED", 60)
    until(lambda: four.call(BANK_B, "negotiation_show", id=asked)["state"] == "FINALIZED")
    given = [each for each in four.call(BANK_B, "grant_list") if each["parent"] == cdt]
    assert [(each["uses"], each["waived"]) for each in given] == [(50, ["odrl:count"])]
    shown = four.call(BANK_B, "request_show", id=asked)
    assert (shown["decision"], shown["decided_by"]) == ("approved", "ann")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ends_in_a_session_leaves_no_worker_anywhere(
    four: Four, how: signal.Signals
) -> None:
    if not four.journey.task:
        if not four.journey.algorithm:
            four.journey.negotiate()
        four.journey.anchor()
    session = four.journey.start_session(1)
    until(lambda: all(four.workers(name) for name in ORGANISATIONS))
    until(lambda: four.state(FINTECH_C, session) == "RUNNING")
    family = four.workers(BANK_A)
    began = monotonic()
    four.running[BANK_A].send_signal(how)
    status = four.running[BANK_A].wait(10)
    assert monotonic() - began < 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert status == (0 if how == signal.SIGTERM else -9)
    until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()], 3)
    others = [name for name in ORGANISATIONS if name != BANK_A]
    for name in others:
        until(lambda name=name: four.state(name, session) == "ABORTED")
        until(lambda name=name: not four.workers(name), 5)
    four.start(BANK_A)
    assert four.state(BANK_A, session) == "ABORTED"
    assert "Traceback" not in (four.folder / BANK_A / "console.log").read_text()
    until(lambda: four.call(BANK_A, "node_status")["peers"] == len(others))


def leaves(four: Four) -> list[dict[str, Any]]:
    """The children of an algorithm over everything that the four have published."""
    engines = {"engine": "lane", "evaluation_engine": "mpyc", "field": "m61"}
    parameters = asdict(DEFAULT) | engines
    data = [
        {"cdt": cdt, "operation": "shared-features", "parameters": parameters}
        for cdt in four.journey.data.values()
    ]
    seats = [{"cdt": cdt, "operation": "committee-member"} for cdt in four.journey.compute.values()]
    return data + seats
