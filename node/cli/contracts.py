"""Commands about contracts: negotiate, accept, withdraw, and the requests that wait for you."""

from typing import Annotated

import typer

from node.cli.assets import AlgorithmArgument
from node.cli.calls import Json, answer

negotiations = typer.Typer(help="Contract negotiations of this node.", no_args_is_help=True)
requests = typer.Typer(
    help="Others' requests that wait for a person of this node.", no_args_is_help=True
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A negotiation's id, 0x…")]
ByOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who decides [the user of this command].")
]


def negotiate(
    context: typer.Context,
    algorithm: AlgorithmArgument,
    child: Annotated[
        list[str] | None, typer.Option(metavar="CDT", help="Ask for this child only; repeatable.")
    ] = None,
    uses: Annotated[int | None, typer.Option(help="How many uses to ask for.")] = None,
    valid: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="How long the grant is to hold.")
    ] = None,
    pay_most: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Take offers up to this price.")
    ] = None,
    uses_least: Annotated[
        int | None, typer.Option(metavar="N", help="Take offers of at least so many uses.")
    ] = None,
    valid_least: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Take offers that hold at least so long.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask every owner of an algorithm's children for its grant."""
    asked = {"children": child or None, "uses": uses, "valid_s": valid, "pay_most": pay_most}
    limits = {"uses_least": uses_least, "valid_least_s": valid_least}
    answer(context, "negotiation_start", json, algorithm=algorithm, **asked, **limits)


@negotiations.command("list")
def negotiations_list(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only those, for instance OFFERED.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most so many [200].")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on after this one of the last page.")
    ] = None,
    json: Json = False,
) -> None:
    """Negotiations, asked and answered, the latest first."""
    answer(context, "negotiation_list", json, state=state, limit=limit, after=after)


@negotiations.command("show")
def negotiations_show(context: typer.Context, negotiation: IdArgument, json: Json = False) -> None:
    """One negotiation: its state, and the reason for each constraint."""
    answer(context, "negotiation_show", json, id=negotiation)


@negotiations.command("accept")
def negotiations_accept(
    context: typer.Context, negotiation: IdArgument, json: Json = False
) -> None:
    """Take the owner's counter-offer."""
    answer(context, "negotiation_accept", json, id=negotiation)


@negotiations.command("withdraw")
def negotiations_withdraw(
    context: typer.Context, negotiation: IdArgument, json: Json = False
) -> None:
    """Give a negotiation up, before its grant is held."""
    answer(context, "negotiation_withdraw", json, id=negotiation)


@requests.command("list")
def requests_list(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those too that do not wait.")] = False,
    json: Json = False,
) -> None:
    """Requests that the terms refer to a person, the most urgent first."""
    answer(context, "request_list", json, decided=every or None)


@requests.command("show")
def requests_show(context: typer.Context, request: IdArgument, json: Json = False) -> None:
    """One request: who asks for what, and what each constraint says of it."""
    answer(context, "request_show", json, id=request)


@requests.command("approve")
def requests_approve(
    context: typer.Context,
    request: IdArgument,
    by: ByOption = None,
    remark: Annotated[str | None, typer.Option(help="Kept beside the decision.")] = None,
    json: Json = False,
) -> None:
    """Waive what was referred, and sign the grant."""
    answer(context, "request_approve", json, id=request, by=by or _user(), remark=remark)


@requests.command("refuse")
def requests_refuse(
    context: typer.Context,
    request: IdArgument,
    by: ByOption = None,
    remark: Annotated[str | None, typer.Option(help="Told to the other side.")] = None,
    json: Json = False,
) -> None:
    """Refuse a request; the remark is told as the reason."""
    answer(context, "request_refuse", json, id=request, by=by or _user(), remark=remark)


def _user() -> str | None:
    """The user of the operating system who runs this command, as far as it is known."""
    from getpass import getuser  # noqa: PLC0415

    try:
        return getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None


def add_to(app: typer.Typer) -> None:
    """`app` has these commands."""
    app.command()(negotiate)
    app.add_typer(negotiations, name="negotiations")
    app.add_typer(requests, name="requests")
