"""A daemon's life as a process: its end at any moment, a full disk, rubbish at every door."""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from node.demo.processes import descendants
from node.errors import Fault

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

[[datasets]]
name = "rows"
path = "rows.csv"
id = "id"
features = [{ name = "age", kind = "number" }]
"""


@pytest.fixture
def node(chain: Any, tmp_path: Path) -> Iterator[Any]:
    """A node with a compute asset and a small dataset."""
    found = chain.node(tmp_path / "node", "bank-a")
    chain.give_ether(found.account)
    (found.folder / "rows.csv").write_text("id,age\n1,30\n2,41\n")
    with found.config.open("a") as file:
        file.write(COMPUTE)
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.kill()
        found.process.wait()


MOMENTS: dict[str, Callable[[Any], bool]] = {
    "the log is open": lambda node: (node.folder / "northbund.log").exists(),
    "the database is there": lambda node: (node.folder / "node.sqlite3").exists(),
    "calls are answered": lambda node: (node.folder / "rpc.cookie").exists(),
    "the account is unlocked": lambda node: (
        (node.folder / "rpc.cookie").exists() and node.call("node_status")["unlocked"]
    ),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_ends_within_two_seconds_at_any_moment_of_its_start(node: Any, moment: str) -> None:
    node.launch()
    node.wait(lambda: MOMENTS[moment](node))
    node.stop()
    assert "Traceback" not in node.told
    assert not {"rpc.cookie", "rpc.sock"} & {file.name for file in node.folder.iterdir()}


@contextmanager
def checking(node: Any) -> Iterator[int]:
    """The worker process that checks a dataset, held in the middle of it."""
    command = [sys.executable, "-P", "-c", "from node.cli import main; main()"]
    with subprocess.Popen(
        [*command, "-d", str(node.folder), "dataset", "check", "rows"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as asking:

        def worker() -> int:
            for pid in descendants(node.process.pid)[1:]:
                with suppress(OSError):
                    if b"node.workers.dataset" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        return pid
            return 0

        pid = node.wait(worker)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            assert asking.wait(10) != 0


def test_it_ends_within_two_seconds_in_the_middle_of_a_check(node: Any) -> None:
    with node.running(), checking(node):
        node.stop()


def test_a_killed_daemon_leaves_no_worker(node: Any) -> None:
    with node.running() as process, checking(node) as worker:
        process.kill()
        process.wait()
        os.kill(worker, signal.SIGCONT)  # a worker that hangs is ended by nobody else either
        limit = monotonic() + 3
        while Path(f"/proc/{worker}").exists():
            assert monotonic() < limit


def test_a_full_disk_is_told_and_nothing_is_lost(node: Any) -> None:
    with node.running() as process:
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, most))
        status, _, told = node.command("compute", "publish")
        assert status == 19, told
        assert told.startswith("northbund: the disk does not take")
        assert node.call("node_status")["unlocked"]
        assert node.stored() == {}
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
        cdt = node.call("compute_publish")["cdt"]
        assert node.call("cdt_show", cdt=cdt)["state"] == "confirmed"
        node.stop()
    assert "Traceback" not in node.told + (node.folder / "northbund.log").read_text()
    assert node.rows("own_assets", "hex(cdt)") == [(cdt[2:].upper(),)]


def test_a_disk_that_is_full_from_the_start_is_told(node: Any) -> None:
    command = [sys.executable, "-P", "-c", "from node.cli import main; main()"]
    done = subprocess.run(
        [*command, "-d", str(node.folder), "run"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NORTHBUND_PASSWORD": "correct horse"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        timeout=60,
    )
    told = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert (done.returncode, len(told)) == (19, 2), done.stderr
    with node.running(chain=False):
        assert node.call("node_status")["name"] == "bank-a"


def rubbish(family: int, address: Any, data: bytes) -> None:
    """Sends the bytes, reads what comes until the other side ends it or a moment has passed."""
    with socket.socket(family, socket.SOCK_STREAM) as client, suppress(OSError):
        client.settimeout(0.5)
        client.connect(address)
        client.sendall(data)
        while client.recv(65536):
            pass


def test_rubbish_at_every_door_disturbs_nobody(node: Any) -> None:
    with node.running():
        status = node.call("node_status")
        url = node.cookie["url"].removeprefix("http://").strip("/")
        rpc_port = int(url.rpartition(":")[2])
        libp2p_port = int(status["addresses"][0].split("/")[4])
        doors = (
            (socket.AF_INET, ("127.0.0.1", rpc_port)),
            (socket.AF_INET, ("127.0.0.1", libp2p_port)),
            (socket.AF_UNIX, str(node.folder / "rpc.sock")),
        )
        bodies = (
            os.urandom(4096),
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"\x00" * 65536,
            b"GET " + b"a" * 200_000,
        )
        for family, address in doors:
            for body in bodies:
                rubbish(family, address, body)
                assert node.call("node_status")["unlocked"]
        node.stop()
    assert "Traceback" not in node.told


def test_faults_keep_their_kind_over_the_socket(node: Any) -> None:
    with node.running(), pytest.raises(Fault) as caught:
        node.call("dataset_publish", name="none")
    assert caught.value.kind == "dataset-unknown"
