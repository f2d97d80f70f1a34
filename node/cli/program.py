"""All commands under one name, and the boundary where a Fault becomes a sentence and a status.

Help stays plain: typer's boxes would load rich, which costs as much again as everything else here.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from node.cli import assets, contracts, local, market, nodes, tasks, terms
from node.cli.calls import Target
from node.errors import INTERRUPTED, Fault

FOLDER_VARIABLE = "NORTHBUND_DATA_DIR"

app = typer.Typer(
    name="northbund",
    help="A node with which organisations compute together on data that never leaves home.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def root(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", "-d", metavar="FOLDER", help=f"The node's folder [{FOLDER_VARIABLE}]."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for the daemon.")
    ] = 60.0,
) -> None:
    """A node with which organisations compute together on data that never leaves home."""
    folder = data_dir or Path(os.environ.get(FOLDER_VARIABLE) or "~/.northbund")
    context.obj = Target(folder.expanduser().absolute(), timeout)


for family in (nodes, assets, market, contracts, terms, tasks, local):
    family.add_to(app)


def run() -> None:
    """Runs one command; the process ends with 0, the Fault's exit code, 1, 2 or 130."""
    command = typer.main.get_command(app)
    try:
        command.main(prog_name="northbund")
    except Fault as fault:
        sys.exit(tell(fault))
    except BaseExceptionGroup as group:
        sys.exit(_status_of_group(group))


def tell(fault: Fault) -> int:
    """One sentence on stderr, as JSON where JSON was asked for; the exit code."""
    if "--json" in sys.argv[1:]:
        import json  # noqa: PLC0415

        error = {"kind": fault.kind, "sentence": fault.sentence, "remedy": fault.remedy}
        print(json.dumps({"error": error | {"data": fault.data}}), file=sys.stderr)  # noqa: T201
    else:
        print(f"northbund: {fault.sentence}\n  {fault.remedy}", file=sys.stderr)  # noqa: T201
    return fault.exit_code


def _status_of_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Nurseries wrap what their tasks raise: a lone kind of leaf is told as it would be alone."""
    leaves = list(_leaves(group))
    faults = [leaf for leaf in leaves if isinstance(leaf, Fault)]
    if faults and len(faults) == len(leaves):
        return tell(faults[0])
    if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return INTERRUPTED
    traceback.print_exception(group)
    return 1


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
