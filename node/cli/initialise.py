"""`northbund init`: a new node's folder, whole or not at all."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.config import parse
from node.errors import Fault
from node.folder import create_folder, write_private
from node.keys import Password, create_keystore, create_peer_key

_TEMPLATE = """\
# A Northbund node. Every key is explained in the samples that come with the source (configs/).
name = "{name}"
network = "{network}"

[listen]
# Others dial this. Use an address that they can reach; 0.0.0.0 listens everywhere.
libp2p = "{listen}"
# The worker processes of a session listen here, on ports of their own.
data_host = "{data_host}"

[rpc]
# On 127.0.0.1 only. 0 takes any free port; rpc.cookie tells which.
port = {rpc_port}
"""

_CLOSED = """
[peers]
# Only holders of this key can speak to each other. Give every member a copy of the file (mode
# 0600); whoever joins a network that has one puts that copy in place of the file made here.
network_key_file = "network.key"
"""

_CHAIN = """
[chain]
url = "{url}"
chain_id = {chain_id}
registry = "{registry}"
market = "{market}"
token = "{token}"
block = {block}
# 0: anvil makes a block for each transaction and none after it; a live chain needs more.
confirmations = 0
"""

_CHAIN_TO_FILL = """
# [chain]
# url = "http://127.0.0.1:8545"
# chain_id = 31337
# registry = "0x…"
# market = "0x…"
# token = "0x…"
"""


@dataclass(frozen=True, slots=True)
class NewNode:
    """What `init` was told; `deployment` is a file that `northbund devchain --deploy` wrote.

    `closed`: with a fresh key of a closed network.
    """

    name: str
    network: str
    listen: str
    data_host: str
    rpc_port: int
    deployment: Path | None
    light_kdf: bool
    closed: bool


def initialise(path: Path, new: NewNode, password: Password) -> dict[str, Any]:
    """The folder `path` holds a node: northbund.toml, peer.key, keystore.json, also network.key.

    Returns folder, name, account and peer id. Fault; then nothing of it is there.
    """
    text = configuration(new)
    parse(text, path, "the configuration of these options")
    existed = path.exists()
    folder = create_folder(path)
    try:
        key = create_peer_key(folder.peer_key)
        account = create_keystore(folder.keystore, password, light=new.light_kdf)
        if new.closed:
            write_private(folder.network_key, secrets.token_hex(32).encode("ascii") + b"\n")
        write_private(folder.config_file, text.encode("utf-8"))
    except BaseException:  # also Ctrl-C: half a node would refuse the next init
        for file in (folder.peer_key, folder.keystore, folder.network_key, folder.config_file):
            file.unlink(missing_ok=True)
        if not existed:
            folder.path.rmdir()
        raise
    return {
        "folder": str(folder.path),
        "name": new.name,
        "account": "0x" + account.hex(),
        "peer_id": key.peer_id,
    }


def configuration(new: NewNode) -> str:
    """The text of a northbund.toml for `new`."""
    for value in (new.name, new.network, new.listen, new.data_host):
        if '"' in value or "\\" in value or not value.isprintable():
            raise Fault("input-invalid", f"{value!r} may hold no quotes, backslashes or line ends")
    head = _TEMPLATE.format(
        name=new.name,
        network=new.network,
        listen=new.listen,
        data_host=new.data_host,
        rpc_port=new.rpc_port,
    ) + (_CLOSED if new.closed else "")
    if new.deployment is None:
        return head + _CHAIN_TO_FILL
    return head + _CHAIN.format(**_deployment(new.deployment))


def _deployment(file: Path) -> dict[str, Any]:
    import json  # noqa: PLC0415

    try:
        found = json.loads(file.read_text("utf-8"))
        return {
            key: found[key] for key in ("url", "chain_id", "registry", "market", "token", "block")
        }
    except OSError as error:
        raise Fault("deployment-invalid", f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Fault("deployment-invalid", f"{file} describes no deployment: {error!r}") from None
