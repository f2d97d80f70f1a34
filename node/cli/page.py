"""The page of all commands and exit codes: `python -m node.cli.page > node/cli/README.md`."""

import sys
from collections.abc import Iterator

import typer

from node.cli.program import app
from node.errors import KINDS

_HEAD = """\
# Commands and exit codes

Every command is thin: it calls one method of the daemon's JSON-RPC and shows what comes back, as
tables or, with `--json`, as JSON. `-d FOLDER` (or `NORTHBUND_DATA_DIR`) says which node is meant.
A wrong input is one sentence on stderr, what can be done about it, and an exit code of its own;
with `--json` the same as an object `{"error": {"kind", "sentence", "remedy", "data"}}` on stderr.

(This page is made by `python -m node.cli.page`.)

| command | what it does |
| --- | --- |
"""

_CODES = """
## Exit codes

0: done. 1: a bug, with its trace. 2: the command line itself is wrong. 130: interrupted. Each of
the others has one kind of failure; the same kind stands in the `data` of a JSON-RPC error.

| exit code | JSON-RPC code | kind | what to do |
| --- | --- | --- | --- |
"""


def commands() -> Iterator[tuple[str, str]]:
    """Every command with the first line of its help."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        if below is None:
            yield name, command.help.splitlines()[0]
        else:
            for inner, each in below.items():
                yield f"{name} {inner}", each.help.splitlines()[0]


def page() -> str:
    """The text of the page."""
    told = "".join(f"| `northbund {name}` | {what} |\n" for name, what in sorted(commands()))
    kinds = sorted(KINDS.items(), key=lambda entry: entry[1].exit_code)
    codes = "".join(
        f"| {kind.exit_code} | {kind.rpc_code} | `{name}` | {kind.remedy} |\n"
        for name, kind in kinds
    )
    return _HEAD + told + _CODES + codes


if __name__ == "__main__":
    sys.stdout.write(page())
