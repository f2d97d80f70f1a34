"""`northbund introduce`: what others must know of a node to name it in their northbund.toml."""

from pathlib import Path

from node.client import Client
from node.config import FolderConfig, load
from node.errors import Fault
from node.keys import load_peer_key
from node.signer import own_account

_ANYWHERE = ("/ip4/0.0.0.0/", "/ip6/::/")


def introduction(folder: Path) -> str:
    """An [[organisations]] table in TOML; a daemon that runs tells its addresses itself. Fault."""
    found = load(folder)
    addresses = _addresses(found)
    listed = ", ".join(f'"{each}"' for each in addresses)
    hint = (
        "" if addresses else "# where it listens is known once it runs, or with listen.announce\n"
    )
    return (
        f'\n[[organisations]]\nname = "{found.config.name}"\n'
        f'account = "0x{own_account(found).hex()}"\n'
        f'peer_id = "{load_peer_key(found.folder.peer_key).peer_id}"\n'
        f"{hint}addresses = [{listed}]\n"
    )


def _addresses(found: FolderConfig) -> list[str]:
    try:
        told = Client(found.folder.path, timeout_s=5).call("node_status")["addresses"]
    except Fault:
        listen = found.config.listen
        told = listen.announce or (listen.libp2p,)
    own = f"/p2p/{load_peer_key(found.folder.peer_key).peer_id}"
    return [bare for each in told if _is_useful(bare := each.removesuffix(own))]


def _is_useful(address: str) -> bool:
    return not address.startswith(_ANYWHERE) and not address.endswith("/tcp/0")
