"""A real daemon on a real chain, with its key outside: it publishes, and follows afresh."""

import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
import trio

from chain.deployment import Deployment
from node.errors import KINDS

NORTHBUND = [sys.executable, "-c", "from node.cli import main; main()"]
ENVIRONMENT = {name: text for name, text in os.environ.items() if name != "NORTHBUND_PASSWORD"}
MORE = """
[signer]
url = "{url}"
account = "{account}"

[compute]
name = "seat"

[compute.terms]
operations = ["committee-member"]
counterparties = []
recipients = []
purposes = []
attesters = []
deciders = []
valid_for_days = 30
uses = 2
"""


async def northbund(folder, *words, **environment):
    done = await trio.run_process(
        [*NORTHBUND, "-d", str(folder), *words],
        capture_stdout=True, capture_stderr=True, check=False, env=ENVIRONMENT | environment,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def told(folder, *words):
    status, out, error = await northbund(folder, *words, "--json")
    assert (error, status) == ("", 0)
    return json.loads(out)


@asynccontextmanager
async def running(folder):
    command = [*NORTHBUND, "-d", str(folder), "run"]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    try:
        while (await northbund(folder, "status"))[0] != 0:
            assert process.poll() is None
        while (await told(folder, "chain", "status"))["block"] is None:  # noqa: ASYNC110
            await trio.sleep(0.05)
        yield
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.poll() is None:
            process.kill()


async def confirmed(folder):
    while True:
        found = (await told(folder, "cdt", "list"))["assets"]
        if found:
            return found
        await trio.sleep(0.05)


@pytest.mark.slow
async def test_published_by_an_outside_key_and_found_again_after_a_resync(chain, tmp_path) -> None:
    account = (await chain.provider.ask("eth_accounts"))[3]
    folder, deployment = tmp_path / "node", tmp_path / "deployment.json"
    known: Deployment = chain.deployment
    deployment.write_text(json.dumps({"url": chain.url} | known.to_dict()))
    words = ["--name", "bank-a", "--listen", "/ip4/127.0.0.1/tcp/0", "--light-kdf"]
    words += ["--deployment", str(deployment)]
    assert (await northbund(folder, "init", *words, NORTHBUND_PASSWORD="x"))[0] == 0
    file = folder / "northbund.toml"
    file.write_text(file.read_text() + MORE.format(url=chain.url, account=account))
    assert (await told(folder, "config", "check"))["account"] == account
    with trio.fail_after(60):
        async with running(folder):
            published = await told(folder, "compute", "publish")
            before = await confirmed(folder)
            assert [each["cdt"] for each in before] == [published["cdt"]]
            assert before[0]["account"] == account
            status, _, error = await northbund(folder, "chain", "resync")
            assert (status, "already runs" in error) == (KINDS["already-running"].exit_code, True)
        forgotten = await told(folder, "chain", "resync")
        assert forgotten == {"events": 1, "transactions": 1}
        async with running(folder):
            assert await confirmed(folder) == before
            (figures,) = (await told(folder, "chain", "gas")).values()
            assert figures["count"] == 1
    asked = ["eth_getTransactionCount", account, "latest"]
    assert await chain.provider.ask(*asked) == "0x1"
