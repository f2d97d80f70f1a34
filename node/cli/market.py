"""Commands about the market: assets of everybody, and the organisations behind them."""

from typing import Annotated, Any

import typer

from node.cli.calls import CdtArgument, Json, answer, call, show

cdt = typer.Typer(
    help="Assets of all organisations, as this node knows them.", no_args_is_help=True
)

TypeOption = Annotated[
    str | None, typer.Option("--type", help="Only data, compute or algorithm.", show_default=False)
]
OwnerOption = Annotated[
    str | None, typer.Option("--owner", help="Only of this organisation or account.")
]
StateOption = Annotated[
    str | None,
    typer.Option(
        "--state",
        help="announced, registered, confirmed (if left out), withdrawn, invalid, or all.",
    ),
]
MeetableOption = Annotated[
    bool, typer.Option("--meetable", help="Only with terms that this node could meet.")
]
PurposeOption = Annotated[
    str | None, typer.Option("--purpose", help="With --meetable: for this purpose.")
]
AfterOption = Annotated[
    str | None, typer.Option("--after", metavar="CURSOR", help="Go on where a page ended.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="How many at once, up to 200.")]


@cdt.command("list")
def cdt_list(
    context: typer.Context,
    type_: TypeOption = None,
    owner: OwnerOption = None,
    state: StateOption = None,
    meetable: MeetableOption = False,
    purpose: PurposeOption = None,
    after: AfterOption = None,
    limit: LimitOption = None,
    json: Json = False,
) -> None:
    """The catalogue, those heard of last first."""
    filters = _filters(type_, owner, state, meetable, purpose, after, limit)
    _show_page(call(context, "cdt_list", **filters), json)


@cdt.command("search")
def cdt_search(
    context: typer.Context,
    text: Annotated[
        list[str],
        typer.Argument(metavar="WORDS", help="In name, description, purpose, owner's name or id."),
    ],
    type_: TypeOption = None,
    owner: OwnerOption = None,
    state: StateOption = None,
    meetable: MeetableOption = False,
    purpose: PurposeOption = None,
    after: AfterOption = None,
    limit: LimitOption = None,
    json: Json = False,
) -> None:
    """Assets in which all the words stand, the best first."""
    filters = _filters(type_, owner, state, meetable, purpose, after, limit)
    _show_page(call(context, "cdt_search", text=" ".join(text), **filters), json)


@cdt.command("show")
def cdt_show(context: typer.Context, cdt: CdtArgument, json: Json = False) -> None:
    """One asset: its document, owner and standing, and what its terms say to this node."""
    answer(context, "cdt_show", json, cdt=cdt)


@cdt.command("tree")
def cdt_tree(context: typer.Context, cdt: CdtArgument, json: Json = False) -> None:
    """What an asset is composed of, down to the leaves."""
    result = call(context, "cdt_tree", cdt=cdt)
    if json or not isinstance(result, dict):
        show(result, as_json=json)
        return
    from node.cli.output import print_tree  # noqa: PLC0415

    print_tree(result)


@cdt.command("withdraw")
def cdt_withdraw(context: typer.Context, cdt: CdtArgument, json: Json = False) -> None:
    """Offer one of this node's assets no more; what was granted of it goes on."""
    answer(context, "cdt_withdraw", json, cdt=cdt)


@cdt.command("offer")
def cdt_offer(context: typer.Context, cdt: CdtArgument, json: Json = False) -> None:
    """Offer an asset again that was withdrawn."""
    answer(context, "cdt_offer", json, cdt=cdt)


def organisations(
    context: typer.Context,
    after: AfterOption = None,
    limit: LimitOption = None,
    json: Json = False,
) -> None:
    """Who is who: accounts, peers, and by what right each is known."""
    _show_page(call(context, "organisation_list", after=after, limit=limit), json)


def bind(
    context: typer.Context,
    valid_days: Annotated[
        int | None, typer.Option(help="For how many days the binding is to hold (365).")
    ] = None,
    description: Annotated[
        str | None, typer.Option(help="What the organisation says of itself.")
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(help="Where others find this node; repeatable. Else where it listens."),
    ] = None,
    end: Annotated[
        bool, typer.Option("--end", help="End the binding: no peer speaks for the account.")
    ] = False,
    json: Json = False,
) -> None:
    """Tell the chain which peer speaks for this account, and publish the organisation's record."""
    if end:
        answer(context, "organisation_end", json)
        return
    said = {"valid_days": valid_days, "description": description, "addresses": address or None}
    answer(context, "organisation_publish", json, **said)


def _filters(
    type_: str | None,
    owner: str | None,
    state: str | None,
    meetable: bool,
    purpose: str | None,
    after: str | None,
    limit: int | None,
) -> dict[str, Any]:
    given = {"type": type_, "owner": owner, "state": state, "purpose": purpose}
    return given | {"meetable": meetable or None, "after": after, "limit": limit}


def _show_page(page: Any, as_json: bool) -> None:
    names = {"assets", "organisations"} & set(page)
    if as_json or not names:
        show(page, as_json=as_json)
        return
    show(page[names.pop()], as_json=False)
    if page.get("after"):
        typer.echo(f"there are more: add --after {page['after']}")


def add_to(app: typer.Typer) -> None:
    """`app` has these commands."""
    app.add_typer(cdt, name="cdt")
    app.command()(organisations)
    app.command()(bind)
