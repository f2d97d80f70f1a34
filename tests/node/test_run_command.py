"""`northbund run` as a process: ready, asked by commands, refused by name, ended without a rest."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from node.errors import KINDS

NORTHBUND = [sys.executable, "-c", "from node.cli import main; main()"]
ACCOUNTS = {name: "0x" + digit * 40 for name, digit in (("registry", "1"), ("market", "2"))}
ENVIRONMENT = os.environ | {"NORTHBUND_PASSWORD": "correct horse"}


def northbund(folder: Path, *words: object, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*NORTHBUND, "-d", str(folder), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT | environment,
        timeout=30,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node whose chain is not there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    deployment = tmp_path / "deployment.json"
    chain = {"url": f"http://127.0.0.1:{port}", "chain_id": 31337, "token": "0x" + "3" * 40}
    deployment.write_text(json.dumps(chain | ACCOUNTS | {"block": 0}))
    words = ("--name", "bank-a", "--listen", "/ip4/127.0.0.1/tcp/0", "--light-kdf")
    status, _, told = northbund(tmp_path / "node", "init", *words, "--deployment", deployment)
    assert (status, told) == (0, "")
    return tmp_path / "node"


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A daemon that has written its cookie; it is killed if the test has not ended it."""
    command = [*NORTHBUND, "-d", str(folder), "run"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    with process:
        try:
            until = monotonic() + 20
            while not (folder / "rpc.cookie").exists():
                assert process.poll() is None, process.communicate()[1]
                assert monotonic() < until
                sleep(0.01)
            yield process
        finally:
            process.kill()


def status_of(folder: Path) -> Any:
    status, out, told = northbund(folder, "status", "--json")
    assert (status, told) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_ends_with_status_0_leaving_no_socket(folder: Path, number: int) -> None:
    with running(folder) as process:
        assert status_of(folder)["name"] == "bank-a"
        process.send_signal(number)
        assert process.wait(5) == 0
    left = {file.name for file in folder.iterdir()}
    assert not left & {"rpc.cookie", "rpc.sock"}
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 for file in folder.iterdir())
    with running(folder) as again:
        again.send_signal(signal.SIGTERM)
        assert again.wait(5) == 0


def test_a_second_daemon_is_refused_and_harms_nothing(folder: Path) -> None:
    with running(folder) as process:
        status, _, told = northbund(folder, "run")
        assert status == KINDS["already-running"].exit_code
        assert str(process.pid) in told
        assert status_of(folder)["name"] == "bank-a"


def test_a_killed_daemon_is_no_obstacle(folder: Path) -> None:
    with running(folder) as process:
        process.kill()
        process.wait()
    assert northbund(folder, "status")[0] == KINDS["daemon-not-running"].exit_code
    (folder / "rpc.cookie").unlink()
    with running(folder):
        assert status_of(folder)["name"] == "bank-a"


def test_a_wrong_password_ends_it(folder: Path) -> None:
    status, out, told = northbund(folder, "run", NORTHBUND_PASSWORD="wrong horse")
    assert (status, out) == (KINDS["password-wrong"].exit_code, "")
    assert "keystore.json" in told
    assert "wrong horse" not in told + (folder / "northbund.log").read_text()


def test_a_port_in_use_is_told(folder: Path) -> None:
    file = folder / "northbund.toml"
    text = file.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for line, wrong in (("port = 0", f"port = {port}"), ("tcp/0", f"tcp/{port}")):
            file.write_text(text.replace(line, wrong))
            status, _, told = northbund(folder, "run")
            assert status == KINDS["port-in-use"].exit_code, told
            assert str(port) in told


def test_a_chain_that_is_not_there_is_told_to_who_needs_it(folder: Path) -> None:
    with (folder / "northbund.toml").open("a") as file:
        file.write('[compute]\nname = "c"\n')
    with running(folder):
        until = monotonic() + 20
        while (chain := status_of(folder)["chain"])["url"] not in chain["trouble"]:
            assert monotonic() < until, chain
        assert not chain["connected"]
        status, _, told = northbund(folder, "compute", "publish")
        assert status == KINDS["chain-unreachable"].exit_code, told
        assert json.loads(northbund(folder, "cdt", "list", "--json")[1])["assets"] == []


def test_no_secret_is_in_the_log_or_in_the_process_list(folder: Path) -> None:
    with running(folder) as process:
        cookie = json.loads((folder / "rpc.cookie").read_text())
        arguments = Path(f"/proc/{process.pid}/cmdline").read_text()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=5)
    seed = (folder / "peer.key").read_bytes()
    log = (folder / "northbund.log").read_text()
    for secret in (cookie["secret"], seed.hex(), "correct horse"):
        assert secret not in log + told + arguments
