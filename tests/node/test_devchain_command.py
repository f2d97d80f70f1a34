"""`northbund devchain` as a process: a real anvil, the contracts, funded accounts, a clean end."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chain.errors import ChainUnreachable, ContractsMissing, NoAnvil
from node.chain_faults import fault_of
from node.cli.devchain import funding
from node.errors import KINDS, Fault

COMMAND = [sys.executable, "-c", "from node.cli import main; main()", "devchain"]
ACCOUNT = "0x" + "11" * 20


@contextmanager
def devchain(*words: object) -> Iterator[dict[str, Any]]:
    """What a running devchain tells; afterwards it has ended with status 0."""
    command = [*COMMAND, "--json", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            text = ""
            while not text.endswith("}\n"):
                line = process.stdout.readline()
                assert line, "devchain ended before it told anything"
                text += line
            yield json.loads(text)
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(10)
    assert status == 0


def ask(url: str, method: str, *params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return json.load(response)["result"]


def test_it_deploys_funds_keeps_its_state_and_leaves_no_process(tmp_path: Path) -> None:
    file, state = tmp_path / "deployment.json", tmp_path / "state"
    words = ("--port", 0, "--deploy", "--deployment", file, "--state", state)
    with devchain(*words, "--fund", f"{ACCOUNT}:3:100") as told:
        assert json.loads(file.read_text()) == {
            key: value for key, value in told.items() if key != "deployment"
        }
        assert told["deployment"] == str(file)
        assert len(ask(told["url"], "eth_getCode", told["registry"], "latest")) > 1000
        assert int(ask(told["url"], "eth_getBalance", ACCOUNT, "latest"), 16) == 3 * 10**18
        fund = ("--running", "--deployment", told["deployment"], "--fund", f"{ACCOUNT}:2:0")
        subprocess.run([*COMMAND, *map(str, fund)], check=True, capture_output=True)
        assert int(ask(told["url"], "eth_getBalance", ACCOUNT, "latest"), 16) == 5 * 10**18
    assert refused(*fund)[0] == KINDS["chain-unreachable"].exit_code
    with pytest.raises(OSError, match="refused"):
        ask(told["url"], "eth_chainId")
    with devchain(*words) as again:
        assert again["registry"] == told["registry"]
        assert int(ask(again["url"], "eth_getBalance", ACCOUNT, "latest"), 16) == 5 * 10**18


def refused(*words: object, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, told = refused("--port", port)
    assert status == KINDS["port-in-use"].exit_code
    assert str(port) in told


def test_an_anvil_that_is_not_there_or_does_not_start_is_told(tmp_path: Path) -> None:
    assert refused(ANVIL=str(tmp_path / "none"))[0] == KINDS["anvil-missing"].exit_code
    assert refused("--port", 0, ANVIL="/bin/false")[0] == KINDS["anvil-failed"].exit_code


@pytest.mark.parametrize("text", ["", "0x11:1:1", ACCOUNT, f"{ACCOUNT}:1", f"{ACCOUNT}:-1:1"])
def test_a_wrong_funding_is_told(text: str) -> None:
    with pytest.raises(Fault) as caught:
        funding(text)
    assert caught.value.kind == "input-invalid"


def test_tokens_need_contracts_and_a_file_needs_a_folder(tmp_path: Path) -> None:
    assert refused("--fund", f"{ACCOUNT}:1:1")[0] == KINDS["input-invalid"].exit_code
    running = ("--running", "--deployment", tmp_path / "file")
    assert refused(*running)[0] == KINDS["input-invalid"].exit_code
    funding_it = (*running, "--fund", f"{ACCOUNT}:1:1")
    assert refused(*funding_it)[0] == KINDS["deployment-invalid"].exit_code
    words = ("--deploy", "--deployment", tmp_path / "none" / "file")
    assert refused(*words)[0] == KINDS["folder-missing"].exit_code


def test_what_the_chain_raises_keeps_its_sentence() -> None:
    for error, kind in (
        (NoAnvil("no anvil"), "anvil-missing"),
        (ContractsMissing("no contract"), "contracts-missing"),
        (ChainUnreachable("nobody answers"), "chain-unreachable"),
    ):
        fault = fault_of(error)
        assert (fault.kind, fault.sentence) == (kind, str(error))
