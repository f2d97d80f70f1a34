"""Commands about the node itself: make one, run it, look at it, talk to it."""

import json as json_format
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.calls import Json, answer, call, show, table_from, target
from node.errors import Fault

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="Holds the keystore's password; else NORTHBUND_PASSWORD, else a prompt.",
    ),
]
config = typer.Typer(help="Look at northbund.toml.", no_args_is_help=True)


def init(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="The organisation's name.")],
    network: Annotated[str, typer.Option(help="The network's name: a-z, 0-9, -.")] = "northbund",
    listen: Annotated[
        str, typer.Option(help="libp2p address, such as /ip4/127.0.0.1/tcp/4001.")
    ] = "/ip4/127.0.0.1/tcp/4001",
    data_host: Annotated[
        str, typer.Option(help="Where the workers listen for shares.")
    ] = "127.0.0.1",
    rpc_port: Annotated[int, typer.Option(help="JSON-RPC port; 0 takes any.")] = 0,
    deployment: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Written by `northbund devchain --deploy`.")
    ] = None,
    light_kdf: Annotated[
        bool, typer.Option("--light-kdf", help="A weak key derivation, for demonstrations only.")
    ] = False,
    closed: Annotated[
        bool, typer.Option("--closed", help="With a fresh key of a closed network, network.key.")
    ] = False,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Make a node's folder: configuration, peer key and encrypted chain account."""
    from node.cli.initialise import NewNode, initialise  # noqa: PLC0415

    new = NewNode(name, network, listen, data_host, rpc_port, deployment, light_kdf, closed)
    password = _password(password_file, twice=True)
    show(initialise(target(context).folder, new, password), as_json=json)


def run(context: typer.Context, password_file: PasswordFile = None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # while it is loading; then the daemon listens itself
    from node.config import load  # noqa: PLC0415

    folder_config = load(target(context).folder)
    outside = folder_config.config.signer
    password = None if outside else _password(password_file, twice=False)
    from node.daemon import run as run_daemon  # noqa: PLC0415  what is wrong above is told first

    run_daemon(folder_config, password)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def status(context: typer.Context, json: Json = False) -> None:
    """How the node is: peers, chain, assets, sessions."""
    answer(context, "node_status", json)


def peers(context: typer.Context, json: Json = False) -> None:
    """Who this node is connected to."""
    answer(context, "peer_list", json)


def introduce(context: typer.Context) -> None:
    """Print this node as a table that others add to their northbund.toml."""
    from node.cli.introduction import introduction  # noqa: PLC0415

    typer.echo(introduction(target(context).folder), nl=False)


def rpc(
    context: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD")],
    parameters: Annotated[
        str, typer.Argument(metavar="JSON", help="An object or array; `-` reads stdin.")
    ] = "{}",
) -> None:
    """Call any method of the daemon; the result is JSON."""
    if parameters == "-":
        given: Any = table_from(Path("-"))
    else:
        try:
            given = json_format.loads(parameters)
        except ValueError as error:
            raise Fault("input-invalid", f"the parameters are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise Fault("input-invalid", "the parameters must be a JSON object of names and values")
    show(call(context, method, **given), as_json=True)


@config.command("check")
def config_check(context: typer.Context, json: Json = False) -> None:
    """Read the configuration and the key files; say the first thing that is wrong."""
    from node.config import load  # noqa: PLC0415
    from node.keys import load_network_key, load_peer_key  # noqa: PLC0415
    from node.signer import own_account  # noqa: PLC0415

    found = load(target(context).folder)
    result = {
        "file": str(found.folder.config_file),
        "name": found.config.name,
        "account": "0x" + own_account(found).hex(),
        "peer_id": load_peer_key(found.folder.peer_key).peer_id,
        "closed_network": load_network_key(found.config.peers.network_key_file) is not None,
        "datasets": [dataset.name for dataset in found.config.datasets],
        "organisations": [each.name for each in found.config.organisations],
    }
    show(result, as_json=json)


@config.command("show")
def config_show(context: typer.Context, json: Json = False) -> None:
    """The configuration as the daemon would use it, defaults included."""
    from node.config import load  # noqa: PLC0415
    from node.json_values import to_json  # noqa: PLC0415

    show(to_json(load(target(context).folder).config), as_json=json)


def _password(file: Path | None, *, twice: bool) -> Any:
    from node.keys import PASSWORD_VARIABLE, Password, read_password  # noqa: PLC0415

    password = read_password(file, os.environ)
    if password is not None:
        return password
    if not typer.get_text_stream("stdin").isatty():
        raise Fault(
            "password-missing",
            f"no password was given: neither --password-file nor {PASSWORD_VARIABLE}, and no"
            " terminal to ask on",
        )
    return Password(_asked(twice=twice))


def _asked(*, twice: bool) -> str:
    from getpass import getpass  # noqa: PLC0415

    try:
        text = getpass("Keystore password: ")
        if twice and getpass("The same again: ") != text:
            raise Fault("password-missing", "the two passwords differ")
    except EOFError:
        text = ""
    if not text:
        raise Fault("password-missing", "an empty password protects nothing")
    return text


def add_to(app: typer.Typer) -> None:
    """`app` has these commands."""
    for command in (init, introduce, run, status, peers, rpc):
        app.command()(command)
    app.add_typer(config, name="config")
