"""Commands about tasks and sessions, about what was used, and about the chain."""

from typing import Annotated

import typer

from node.cli.assets import AlgorithmArgument, DatasetArgument
from node.cli.calls import (
    CdtArgument,
    Json,
    SessionArgument,
    TaskArgument,
    answer,
    call,
    show,
    target,
)

task = typer.Typer(help="Tasks: open, attest, settle.", no_args_is_help=True)
session = typer.Typer(help="Sessions: runs of attested tasks.", no_args_is_help=True)
chain = typer.Typer(help="The chain as this node sees it.", no_args_is_help=True)
payments = typer.Typer(help="What tasks paid to this node.", no_args_is_help=True)


@task.command("open")
def task_open(
    context: typer.Context,
    algorithm: AlgorithmArgument,
    budget: Annotated[str, typer.Option(help="Escrow, in the token's smallest unit.")],
    deadline: Annotated[int, typer.Option(metavar="SECONDS", help="From now.")] = 3600,
    json: Json = False,
) -> None:
    """Anchor the grants and open a task over an algorithm, with its escrow."""
    answer(context, "task_open", json, algorithm=algorithm, budget=budget, deadline_s=deadline)


@task.command("attest")
def task_attest(context: typer.Context, task: TaskArgument, json: Json = False) -> None:
    """Check a task's plan and vouch for it."""
    answer(context, "task_attest", json, task=task)


@task.command("list")
def task_list(context: typer.Context, json: Json = False) -> None:
    """All tasks that concern this node."""
    answer(context, "task_list", json)


@task.command("show")
def task_show(context: typer.Context, task: TaskArgument, json: Json = False) -> None:
    """One task: plan, state, attestation, dues."""
    answer(context, "task_show", json, task=task)


@task.command("claim")
def task_claim(context: typer.Context, task: TaskArgument, json: Json = False) -> None:
    """Claim this owner's price by the recipient's receipt, without the recipient."""
    answer(context, "task_claim", json, task=task)


@task.command("settle")
def task_settle(context: typer.Context, task: TaskArgument, json: Json = False) -> None:
    """Pay out a reported task's escrow."""
    answer(context, "task_settle", json, task=task)


@session.command("start")
def session_start(
    context: typer.Context,
    task: TaskArgument,
    seed: Annotated[
        int | None, typer.Option(help="Settles the recipient's split; drawn if left out.")
    ] = None,
    json: Json = False,
) -> None:
    """Propose a session of an attested task to all its parties."""
    answer(context, "session_start", json, task=task, seed=seed)


@session.command("list")
def session_list(context: typer.Context, json: Json = False) -> None:
    """All sessions of this node."""
    answer(context, "session_list", json)


@session.command("show")
def session_show(context: typer.Context, session: SessionArgument, json: Json = False) -> None:
    """One session: its stage, who is awaited, its result or the reason why it ended."""
    answer(context, "session_show", json, session=session)


@session.command("stop")
def session_stop(context: typer.Context, session: SessionArgument, json: Json = False) -> None:
    """End a session at once."""
    answer(context, "session_stop", json, session=session)


def trace(context: typer.Context, cdt: CdtArgument, json: Json = False) -> None:
    """Who used an asset: when, under which terms, vouched for by whom, for how much."""
    told = call(context, "trace_asset", cdt=cdt)
    show(told if json else told["story"], as_json=json)


def prices(context: typer.Context, json: Json = False) -> None:
    """What settled uses were paid, by type of asset and operation."""
    answer(context, "price_list", json)


def budget(context: typer.Context, dataset: DatasetArgument, json: Json = False) -> None:
    """What has been opened of a dataset's rows, and what is left."""
    answer(context, "budget_show", json, dataset=dataset)


def subject(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A row's id, as in the data.")],
    json: Json = False,
) -> None:
    """Every use of one person's row."""
    answer(context, "subject_uses", json, id=identifier)


@chain.command("status")
def chain_status(context: typer.Context, json: Json = False) -> None:
    """Head, lag, contracts, and transactions in the post."""
    answer(context, "chain_status", json)


@chain.command("gas")
def chain_gas(context: typer.Context, json: Json = False) -> None:
    """Gas that this node's transactions took, by kind."""
    answer(context, "chain_gas", json)


@chain.command("resync")
def chain_resync(context: typer.Context, json: Json = False) -> None:
    """Forget the followed chain and read it afresh at the next start (of a stopped daemon)."""
    from node.config import load  # noqa: PLC0415
    from node.resync import resync  # noqa: PLC0415

    forgotten = resync(load(target(context).folder))
    show({"events": forgotten.events, "transactions": forgotten.transactions}, as_json=json)


@payments.command("list")
def payments_list(context: typer.Context, json: Json = False) -> None:
    """What this node may withdraw and has withdrawn."""
    answer(context, "payment_list", json)


@payments.command("withdraw")
def payments_withdraw(context: typer.Context, json: Json = False) -> None:
    """Withdraw what settled tasks owe to this node's account."""
    answer(context, "payment_withdraw", json)


def add_to(app: typer.Typer) -> None:
    """`app` has these commands."""
    app.add_typer(task, name="task")
    app.add_typer(session, name="session")
    for command in (trace, prices, budget, subject):
        app.command()(command)
    app.add_typer(chain, name="chain")
    app.add_typer(payments, name="payments")
