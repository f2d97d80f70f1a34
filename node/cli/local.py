"""Commands for one machine: a development chain, and the demonstration of four organisations."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from node.cli.calls import Json, show
from node.errors import Fault


def devchain(
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 8545,
    deploy: Annotated[bool, typer.Option("--deploy", help="Put the contracts on it.")] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keeps the chain over restarts.")
    ] = None,
    deployment: Annotated[
        Path, typer.Option(metavar="FILE", help="Where --deploy tells addresses; `init` reads it.")
    ] = Path("deployment.json"),
    fund: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACCOUNT:ETHER:TOKENS",
            help="Give an account ether and test tokens; repeatable.",
        ),
    ] = None,
    dispute_window: Annotated[
        int, typer.Option(metavar="SECONDS", help="Between a task's report and its settlement.")
    ] = 3600,
    grace: Annotated[
        int, typer.Option(metavar="SECONDS", help="Between a task's deadline and its refund.")
    ] = 3600,
    running: Annotated[
        bool,
        typer.Option("--running", help="Only --fund, on the running chain of --deployment; end."),
    ] = False,
    json: Json = False,
) -> None:
    """Run a local EVM chain (anvil) until Ctrl-C."""
    if running and (deploy or state or not fund):
        raise Fault("input-invalid", "--running goes with --fund and --deployment alone")
    if fund and not (deploy or running):
        raise Fault("input-invalid", "--fund gives test tokens, so it needs --deploy or --running")
    file = deployment.expanduser().absolute()
    if not file.parent.is_dir():
        raise Fault("folder-missing", f"{file.parent}, where --deployment points, is no folder")
    from node.cli.devchain import Plan, funding, run  # noqa: PLC0415

    wishes = tuple(funding(each) for each in fund or ())
    plan = Plan(port, deploy, state, file, wishes, dispute_window, grace, running)
    run(plan, lambda told: show(told, as_json=json))


def demo(
    seed: Annotated[int, typer.Option(help="Fixes split and initial networks.")] = 1,
    folder: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Holds the four nodes and the report.")
    ] = Path("demo"),
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the network running and tell how to talk to it.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="End what an earlier demo left behind, and stop.")
    ] = False,
    json: Json = False,
) -> None:
    """Two banks, a fintech and a regulator train one model, on this machine."""
    from node import demo as demonstration  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends its processes as Ctrl-C does
    status = demonstration.run(
        seed=seed, folder=folder.expanduser().absolute(), keep=keep, clean=clean, as_json=json
    )
    raise typer.Exit(status)


def add_to(app: typer.Typer) -> None:
    """`app` has these commands."""
    app.command()(devchain)
    app.command()(demo)
