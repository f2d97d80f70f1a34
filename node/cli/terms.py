"""Commands about terms of use: why they say what they say, tried out, and as ODRL."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.assets import DatasetArgument, FileArgument, grants
from node.cli.calls import Json, answer, show, table_from, target
from node.errors import Fault

terms = typer.Typer(help="Terms of use.", no_args_is_help=True)


@terms.command("explain")
def terms_explain(
    context: typer.Context,
    request: Annotated[
        str, typer.Argument(metavar="REQUEST", help="A negotiation's id, or an algorithm's CDT.")
    ],
    child: Annotated[
        str | None, typer.Argument(metavar="CHILD", help="One asset below that algorithm.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell why terms permit or refuse: what was asked and what is allowed, line by line."""
    answer(context, "terms_explain", json, request=request, child=child)


@terms.command("test")
def terms_test(
    context: typer.Context,
    file: FileArgument,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A northbund.toml that is not live yet, to be tried."),
    ] = None,
    json: Json = False,
) -> None:
    """Put your own examples to a policy before it is live; no daemon is needed."""
    from node import example_file, policy_examples  # noqa: PLC0415

    config, own = _policy(context, policy)
    examples = example_file.read(table_from(file), str(file))
    outcomes = policy_examples.judge(examples, config, own, time.time(), str(file))
    show(policy_examples.plain(outcomes, config), as_json=json)
    wrong = [each.example.name for each in outcomes if not each.as_expected]
    if wrong:
        raise Fault(
            "examples-failed",
            f"{len(wrong)} of {len(outcomes)} examples did not end as expected: {'; '.join(wrong)}",
            examples=wrong,
        )


@terms.command("export")
def terms_export(
    context: typer.Context,
    name: DatasetArgument,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the terms from this northbund.toml.")
    ] = None,
) -> None:
    """Print the terms of a dataset, or of the compute asset, as ODRL (JSON-LD)."""
    import json  # noqa: PLC0415

    from node.terms_exchange import exported  # noqa: PLC0415

    config, own = _policy(context, policy)
    typer.echo(json.dumps(exported(config, own, name, time.time()), indent=2))


@terms.command("import")
def terms_import(
    file: FileArgument,
    compute: Annotated[
        bool, typer.Option("--compute", help="For a compute asset, not for a dataset.")
    ] = False,
) -> None:
    """Print an ODRL policy (JSON-LD) as a terms table to copy; nothing is written."""
    from node.terms_exchange import imported  # noqa: PLC0415

    typer.echo(imported(table_from(file), str(file), data=not compute), nl=False)


@terms.command("reload")
def terms_reload(context: typer.Context, json: Json = False) -> None:
    """Take changed terms of northbund.toml into force for new requests, without a restart.

    Whatever else has changed there is named, and waits for the next start.
    """
    answer(context, "terms_reload", json)


@grants.command("review")
def grants_review(context: typer.Context, json: Json = False) -> None:
    """What today's terms would say of each grant that this node has given."""
    answer(context, "grant_review", json)


def _policy(context: typer.Context, file: Path | None) -> tuple[Any, Any]:
    """The configuration and this node's account; any account where no folder tells one."""
    from node import config  # noqa: PLC0415
    from node.signer import own_account  # noqa: PLC0415
    from protocol.ids import Account  # noqa: PLC0415

    folder = target(context).folder
    if file is None:
        configured = config.load(folder)
        return configured.config, own_account(configured)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Fault("input-invalid", f"{file} cannot be read: {why}") from None
    found = config.parse(text, folder, str(file))
    try:
        return found, own_account(config.load(folder))
    except Fault:
        return found, Account(bytes(20))


def add_to(app: typer.Typer) -> None:
    """`app` has these commands."""
    app.add_typer(terms, name="terms")
