"""`northbund devchain`: anvil with the contracts on it, until Ctrl-C.

Nothing here is for money: anvil's accounts are known to everybody, the token is a test token.
"""

import json
import re
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
import typer

from chain import devchain as anvil
from chain.deployment import Deployment
from chain.errors import ChainError, ChainUnreachable, ContractsMissing, WrongChain
from chain.provider import TrioProvider
from node.chain_faults import fault_of
from node.errors import Fault
from protocol.errors import RemoteProtocolError
from protocol.ids import Account

if TYPE_CHECKING:  # trio's own name is hidden by the outdated stubs that come with trio-typing
    from trio_typing import TaskStatus


@dataclass(frozen=True, slots=True)
class Funding:
    """What one account is given: whole ether, whole test tokens."""

    account: Account
    ether: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What `devchain` was told; `file` is where it tells the deployment."""

    port: int
    deploy: bool
    state: Path | None
    file: Path
    fund: tuple[Funding, ...]
    dispute_window_s: int
    grace_s: int
    running: bool


def funding(text: str) -> Funding:
    """ACCOUNT:ETHER:TOKENS as the command line gives it; Fault `input-invalid`."""
    found = re.fullmatch(r"0x([0-9a-fA-F]{40}):(\d{1,9}):(\d{1,12})", text)
    if not found:
        raise Fault(
            "input-invalid",
            f"--fund {text!r} is not ACCOUNT:ETHER:TOKENS, as in 0x{'00' * 19}01:10:1000",
        )
    return Funding(Account(bytes.fromhex(found[1])), int(found[2]), int(found[3]))


def run(plan: Plan, tell: Callable[[dict[str, Any]], None]) -> None:
    """Runs the chain until SIGTERM or Ctrl-C; `tell` gets its URL and files once it is ready.

    Fault `anvil-missing`, `anvil-failed`, `port-in-use`, or as the chain refuses.
    """
    try:
        trio.run(_fund_running if plan.running else _run, plan, tell)
    except* ChainError as group:
        raise fault_of(_first(group)) from None


def _first(group: BaseExceptionGroup[ChainError]) -> ChainError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _run(plan: Plan, tell: Callable[[dict[str, Any]], None]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_at_a_signal, nursery.cancel_scope)
        if anvil.find_anvil() is None:
            typer.echo("northbund: there is no anvil here; fetching it by npm …", err=True)
        # Cancelled with its thread left behind: npm may take long, Ctrl-C may not.
        await trio.to_thread.run_sync(anvil.provide_anvil, abandon_on_cancel=True)  # type: ignore[call-arg]
        try:
            async with anvil.devchain(_free_port(plan.port), plan.state) as url:
                tell({"url": url} | await _prepared(url, plan))
                await trio.sleep_forever()
        except ChainUnreachable as error:
            raise Fault("anvil-failed", str(error)) from None


async def _fund_running(plan: Plan, tell: Callable[[dict[str, Any]], None]) -> None:
    """The accounts are funded on the chain that the file names."""
    try:
        url = str(json.loads(plan.file.read_text("utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        url = ""
    deployment = _read(plan.file)
    if deployment is None or not url:
        raise Fault("deployment-invalid", f"{plan.file} describes no chain that is running")
    provider = TrioProvider(url)
    try:
        await deployment.verify(provider)
    finally:
        await provider.aclose()
    for each in plan.fund:
        await anvil.fund(url, deployment, each.account, ether=each.ether, tokens=each.tokens)
    tell({"url": url, "funded": [f"0x{each.account.hex()}" for each in plan.fund]})


async def _cancel_at_a_signal(
    scope: trio.CancelScope, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


async def _prepared(url: str, plan: Plan) -> dict[str, Any]:
    """The contracts stand and the accounts are funded, as the plan says."""
    if not plan.deploy:
        return {}
    deployment = await _deployment(url, plan)
    for each in plan.fund:
        await anvil.fund(url, deployment, each.account, ether=each.ether, tokens=each.tokens)
    return {"deployment": str(plan.file)} | deployment.to_dict()


def _free_port(port: int) -> int:
    """`port`, or any free one for 0. anvil itself would only die without a word."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Fault(
                "port-in-use",
                f"the port {port} cannot be used on 127.0.0.1: {error.strerror}",
                port=port,
            ) from None
        found: int = probe.getsockname()[1]
    return found


async def _deployment(url: str, plan: Plan) -> Deployment:
    """The contracts that the file names, if a kept chain still has them; else new ones."""
    found = await _kept(url, plan) or await anvil.deploy_on(
        url, dispute_window_s=plan.dispute_window_s, grace_s=plan.grace_s
    )
    text = json.dumps({"url": url} | found.to_dict(), indent=1)
    await trio.Path(plan.file).write_text(text + "\n", encoding="utf-8")
    return found


async def _kept(url: str, plan: Plan) -> Deployment | None:
    known = _read(plan.file)
    if plan.state is None or known is None:
        return None
    provider = TrioProvider(url)
    try:
        await known.verify(provider)
    except (ContractsMissing, WrongChain):  # the file is of another chain
        return None
    finally:
        await provider.aclose()
    return known


def _read(file: Path) -> Deployment | None:
    try:
        return Deployment.from_json(file.read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, RemoteProtocolError):
        return None
