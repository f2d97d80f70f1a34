"""What the commands share that talk to the daemon: which node, the call, the answer shown."""

import json as json_format
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from node.client import Client
from node.errors import Fault

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
CdtArgument = Annotated[str, typer.Argument(metavar="CDT", help="An asset's id, 0x…")]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A task's id, 0x…")]
SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="A session's id, 0x…")]


STARTING_S = 15.0
"""How long a command waits for a daemon that has just been started."""


@dataclass(frozen=True, slots=True)
class Target:
    """The node that a command is about, and how long to wait for its daemon."""

    folder: Path
    timeout_s: float


def target(context: typer.Context) -> Target:
    """The node that the root options name."""
    found = context.find_object(Target)
    if found is None:
        raise RuntimeError("the root command always leaves a Target")
    return found


def call(context: typer.Context, method: str, /, **parameters: Any) -> Any:
    """The daemon's result of `method`; parameters that are None are left out. Fault.

    One that is starting still has done nothing, so it is asked again for a while.
    """
    where = target(context)
    given = {name: value for name, value in parameters.items() if value is not None}
    client = Client(where.folder, timeout_s=where.timeout_s)
    until = time.monotonic() + min(STARTING_S, where.timeout_s)
    told = bool(context.params.get("json"))  # stderr is then for programs
    while True:
        try:
            return client.call(method, **given)
        except Fault as fault:
            if fault.kind != "daemon-starting" or time.monotonic() > until:
                raise
            if not told:
                typer.echo(f"northbund: {fault.sentence}; waiting for it …", err=True)
            told = True
            time.sleep(0.2)


def answer(context: typer.Context, method: str, as_json: bool, /, **parameters: Any) -> None:
    """Calls `method` and prints what comes back."""
    show(call(context, method, **parameters), as_json=as_json)


def show(result: Any, *, as_json: bool) -> None:
    """`result` on stdout: JSON, or tables for a person."""
    if as_json:
        typer.echo(json_format.dumps(result, indent=2, ensure_ascii=False))
        return
    from node.cli.output import print_value  # noqa: PLC0415  rich: only where a person reads

    print_value(result)


def table_from(file: Path) -> dict[str, Any]:
    """The table that a TOML or JSON file holds; `-` reads JSON from stdin. Fault."""
    import tomllib  # noqa: PLC0415

    try:
        text = (
            typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
        )
        table = tomllib.loads(text) if file.suffix == ".toml" else json_format.loads(text)
    except OSError as error:
        raise Fault("input-invalid", f"{file} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise Fault("input-invalid", f"{file} nests tables too deep") from None
    except ValueError as error:  # of JSON, of TOML, of UTF-8
        raise Fault("input-invalid", f"{file} is neither TOML nor JSON: {error}") from None
    if not isinstance(table, dict):
        raise Fault("input-invalid", f"{file} holds no table of names and values")
    return table
