"""Real daemons for scenarios: a chain for the whole run, node folders, commands, a look inside."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from node.client import Client
from node.demo.processes import descendants

NORTHBUND = [sys.executable, "-P", "-c", "from node.cli import main; main()"]
ENVIRONMENT = os.environ | {"NORTHBUND_PASSWORD": "correct horse"}
PATIENCE_S = 30.0
CORES = os.cpu_count() or 1
END_S = 2.0
"""How long a daemon may take to end, on a machine that does nothing else."""


def until(done: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """What `done` gives as soon as it is true."""
    limit = monotonic() + timeout_s
    while not (found := done()):
        assert monotonic() < limit, "awaited in vain"
        sleep(0.02)
    return found


def ask(url: str, method: str, *params: Any) -> Any:
    """One question to the chain."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return json.load(response)["result"]


@dataclass
class Node:
    """One node's folder, with what a person and a curious test can do to it."""

    folder: Path
    account: str
    peer_id: str
    process: "subprocess.Popen[str] | None" = None

    @property
    def config(self) -> Path:
        return self.folder / "northbund.toml"

    def edit(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def command(self, *words: object, **environment: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of one command."""
        done = subprocess.run(
            [*NORTHBUND, "-d", str(self.folder), *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT | environment,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    def call(self, method: str, **parameters: Any) -> Any:
        return Client(self.folder).call(method, **parameters)

    def launch(self, **options: Any) -> "subprocess.Popen[str]":
        """A daemon that has just been started, with its output in console.log."""
        with (self.folder / "console.log").open("w") as console:
            self.process = subprocess.Popen(
                [*NORTHBUND, "-d", str(self.folder), "run"],
                stderr=console,
                text=True,
                env=ENVIRONMENT,
                **options,
            )
        return self.process

    def ready(self, *, chain: bool = True) -> None:
        """Returns once the daemon is unlocked and (unless told otherwise) sees its chain."""
        process = self.process
        assert process is not None

        def holds() -> bool:
            assert process.poll() is None, self.told
            if not (self.folder / "rpc.cookie").exists() or self.cookie["process"] != process.pid:
                return False
            status = self.call("node_status")
            return bool(status["unlocked"] and (status["chain"]["connected"] or not chain))

        until(holds)

    @contextmanager
    def running(self, *, chain: bool = True, **options: Any) -> Iterator["subprocess.Popen[str]"]:
        """A daemon that is ready; it is killed if the test has not ended it."""
        process = self.launch(**options)
        try:
            self.ready(chain=chain)
            yield process
        finally:
            process.kill()
            process.wait()

    def wait(self, done: Callable[[], Any]) -> Any:
        """What `done` gives as soon as it is true, while the daemon runs."""

        def holds() -> Any:
            assert self.process is not None
            assert self.process.poll() is None, self.told
            return done()

        return until(holds)

    def stop(self) -> None:
        """After SIGTERM the daemon has ended in time, with status 0 and nobody left."""
        process = self.process
        assert process is not None
        family = descendants(process.pid)
        began = monotonic()
        process.send_signal(signal.SIGTERM)
        status = process.wait(10)
        assert monotonic() - began < END_S * max(1.0, os.getloadavg()[0] / CORES)
        assert status == 0, self.told
        assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]

    @property
    def cookie(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "rpc.cookie").read_text())
        return found

    @property
    def told(self) -> str:
        return (self.folder / "console.log").read_text()

    def rows(self, table: str, what: str = "*") -> list[tuple[Any, ...]]:
        """The rows of a table of the node's database."""
        address = f"file:{self.folder / 'node.sqlite3'}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as db:
            return db.execute(f"SELECT {what} FROM {table}").fetchall()  # noqa: S608

    def stored(self) -> dict[str, list[tuple[Any, ...]]]:
        """What the node keeps of anything of its own that it published: nothing is no member."""
        own = f"assets WHERE owner = x'{self.account[2:]}'"
        tables = ("documents", "own_assets", own, "announcements", "chain_outbox", "effects")
        return {table: rows for table in tables if (rows := self.rows(table))}


@dataclass(frozen=True)
class Chain:
    """A development chain with the contracts on it."""

    deployment: Path
    facts: Mapping[str, Any]

    def ask(self, method: str, *params: Any) -> Any:
        return ask(str(self.facts["url"]), method, *params)

    def node(self, folder: Path, name: str) -> Node:
        """A new node's folder; it is configured for this chain."""
        node = Node(folder, "", "")
        words = ["--name", name, "--listen", "/ip4/127.0.0.1/tcp/0", "--light-kdf", "--json"]
        status, out, told = node.command("init", *words, "--deployment", self.deployment)
        assert status == 0, told
        found = json.loads(out)
        node.account, node.peer_id = found["account"], found["peer_id"]
        node.edit("confirmations = 0", "confirmations = 0\npoll_s = 0.1")
        return node

    def give_ether(self, account: str) -> None:
        self.ask("anvil_setBalance", account, hex(10**19))

    def sent_by(self, account: str) -> int:
        """How many transactions of the account are on the chain."""
        return int(self.ask("eth_getTransactionCount", account, "latest"), 16)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain of its own for all scenarios."""
    file = tmp_path_factory.mktemp("chain") / "deployment.json"
    command = [*NORTHBUND, "devchain", "--port", "0", "--deploy", "--deployment", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: file.exists() and file.read_text().endswith("}\n"), 60)
            yield Chain(file, json.loads(file.read_text()))
        finally:
            process.terminate()
            process.wait(10)
