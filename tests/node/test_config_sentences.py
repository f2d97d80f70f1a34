"""What is wrong in northbund.toml or in a call is told with what would be right."""

import os
from pathlib import Path

import pytest

from node.config import parse
from node.errors import Fault
from node.keys import load_network_key

HEAD = 'name = "bank-a"\nnetwork = "test"\n'
PEER = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
OTHER = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"
CHAIN = '[chain]\nurl = "http://x"\nchain_id = 1\n' + "".join(
    f'{each} = "0x{"11" * 20}"\n' for each in ("registry", "market", "token")
)


def organisation(peer_id: str, address: str, account: str = "22") -> str:
    return (
        f'[[organisations]]\nname = "n{account}"\naccount = "0x{account * 20}"\n'
        f'peer_id = "{peer_id}"\naddresses = ["{address}"]\n'
    )


DIRECT = "/ip4/192.0.2.1/tcp/1"
WRONG = {
    '[peers]\nnetwork_key_file = "a\\u0000b"': "peers, network_key_file: expected a path in quotes",
    organisation("QmFoo", DIRECT): "'QmFoo' is no peer id of an Ed25519 key, like 12D3KooW…",
    organisation(PEER, f"{DIRECT}/p2p/{OTHER}"): f"names another peer than {PEER}",
    organisation(PEER, f"{DIRECT}/p2p/{OTHER}/p2p-circuit/p2p/{OTHER}"): "names another peer",
    organisation(PEER, DIRECT) + organisation(OTHER, DIRECT).replace("n22", "m"): (
        f"two entries of [[organisations]] have the account '0x{'22' * 20}'"
    ),
    CHAIN + 'confirmations = "latest"': "'latest' is none of a whole number, finalized",
    '[[compute.terms.permission]]\noperand = "x"\n[compute]\nname = "c"': (
        "expected a left operand in ODRL's words, like odrl:purpose or cdt:cohortSize"
    ),
    '[compute]\nname = "c"\n[compute.terms.parameters]\nwidth = 3': (
        "parameters, a value of it: expected a table, got a whole number"
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_told_with_what_would_be_right(text: str) -> None:
    with pytest.raises(Fault) as told:
        parse(HEAD + text, Path("/node"), "northbund.toml")
    assert told.value.kind == "config-invalid"
    assert WRONG[text] in told.value.sentence


@pytest.mark.parametrize("address", [DIRECT, f"{DIRECT}/p2p/{OTHER}/p2p-circuit"])
def test_addresses_that_name_the_peer_or_nobody_are_right(address: str) -> None:
    for each in (address, f"{address}/p2p/{PEER}"):
        parse(HEAD + organisation(PEER, each), Path("/node"), "northbund.toml")


def test_a_key_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "network.key", 0o600)
    with pytest.raises(Fault, match="is no regular file") as told:
        load_network_key(tmp_path / "network.key")
    assert told.value.kind == "key-missing"
