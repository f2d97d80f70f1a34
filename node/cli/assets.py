"""Commands about assets: publish, look, compose, revoke."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.calls import Json, answer, table_from
from node.errors import Fault

dataset = typer.Typer(help="This node's own datasets.", no_args_is_help=True)
compute = typer.Typer(help="This node's compute asset.", no_args_is_help=True)
grants = typer.Typer(help="Grants given and received.", no_args_is_help=True)

DatasetArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A dataset's name in northbund.toml.")
]
AlgorithmArgument = Annotated[
    str, typer.Argument(metavar="ALGORITHM", help="An algorithm's CDT, 0x…")
]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="TOML (.toml) or JSON; `-` reads JSON from stdin.")
]


@dataset.command("check")
def dataset_check(context: typer.Context, name: DatasetArgument, json: Json = False) -> None:
    """Read the rows and tell types, missing values and ranges; nothing is written."""
    answer(context, "dataset_check", json, name=name)


@dataset.command("publish")
def dataset_publish(context: typer.Context, name: DatasetArgument, json: Json = False) -> None:
    """Check the rows, register the dataset on chain and announce it."""
    answer(context, "dataset_publish", json, name=name)


@compute.command("publish")
def compute_publish(context: typer.Context, json: Json = False) -> None:
    """Register this node's compute asset and announce it."""
    answer(context, "compute_publish", json)


def compose(
    context: typer.Context,
    file: FileArgument,
    check: Annotated[
        bool, typer.Option("--check", help="Only tell what the children's terms would refuse.")
    ] = False,
    json: Json = False,
) -> None:
    """Compose an algorithm from the children, operations and pool that FILE names.

    The source's configs/compose/algorithm.toml explains what stands in FILE.
    """
    asked = table_from(file) | ({"check_only": True} if check else {})
    answer(context, "algorithm_compose", json, **asked)


@grants.command("list")
def grants_list(context: typer.Context, json: Json = False) -> None:
    """Grants, with their uses, price and expiry."""
    answer(context, "grant_list", json)


@grants.command("revoke")
def grants_revoke(
    context: typer.Context,
    child: Annotated[
        str | None, typer.Argument(metavar="CHILD", help="The asset that was granted.")
    ] = None,
    parent: Annotated[
        str | None, typer.Argument(metavar="PARENT", help="What it was granted to.")
    ] = None,
    failing: Annotated[
        bool, typer.Option("--failing", help="All grants that today's terms would not give.")
    ] = False,
    json: Json = False,
) -> None:
    """Take a grant back, or all that fail: sessions under it stop, the chain follows."""
    if failing and child is None:
        answer(context, "grant_revoke_failing", json)
    elif failing or child is None or parent is None:
        raise Fault("input-invalid", "name CHILD and PARENT of one grant, or say --failing alone")
    else:
        answer(context, "grant_revoke", json, child=child, parent=parent)


def add_to(app: typer.Typer) -> None:
    """`app` has these commands."""
    app.add_typer(dataset, name="dataset")
    app.add_typer(compute, name="compute")
    app.command()(compose)
    app.add_typer(grants, name="grants")
