from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config import Config, from_table, load, parse
from node.errors import Fault

HEAD = 'name = "bank-a"\nnetwork = "trial"\n'
DATASET = '[[datasets]]\nname = "x"\npath = "a/b.csv"\nid = "id"\nlabel = "y"\n'
PEER = (
    '[[organisations]]\nname = "d"\naccount = "0x' + "ab" * 20 + '"\n'
    'peer_id = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"\n'
)
CHAIN = '[chain]\nurl = "http://127.0.0.1:8545"\nchain_id = 31337\n' + "".join(
    f'{name} = "0x{number * 40}"\n'
    for name, number in (("registry", "1"), ("market", "2"), ("token", "3"))
)

TERMS = (
    "[datasets.terms]\noperations = ['o']\npurposes = ['p']\nvalid_for_days = 30\nuses = 5\n"
    "counterparties = ['d']\nrecipients = ['d']\nattesters = ['d']\ndeciders = ['d']\n"
    "[datasets.terms.parameters]\nwidth = { max = 4 }\n"
)


def read(text: str) -> Config:
    return parse(HEAD + text, Path("/node"), "northbund.toml")


def refused(text: str) -> str:
    with pytest.raises(Fault) as caught:
        read(text)
    assert caught.value.kind == "config-invalid"
    return caught.value.sentence


def test_the_defaults_listen_on_loopback_and_trust_nobody() -> None:
    config = read("")
    assert config.listen.libp2p.startswith("/ip4/127.0.0.1/")
    assert config.listen.data_host == "127.0.0.1"
    assert config.attesters() == frozenset()
    assert (config.chain, config.compute, config.attester) == (None, None, None)


def test_paths_are_resolved_against_the_nodes_folder_and_accounts_are_bytes() -> None:
    config = read(DATASET + PEER + CHAIN)
    assert config.dataset("x").path == Path("/node/a/b.csv")
    assert config.organisations[0].account == b"\xab" * 20
    assert config.organisations[0].operator == "d"
    assert config.chain is not None
    assert config.chain.market == b"\x22" * 20


def test_attesters_are_organisations_or_accounts() -> None:
    config = read('[trust]\nattesters = ["d", "0x' + "cd" * 20 + '"]\n' + PEER)
    assert config.attesters() == {b"\xab" * 20, b"\xcd" * 20}


def test_terms_are_handed_on_with_the_rule_of_ids() -> None:
    config = read(PEER + DATASET + TERMS)
    assert config.dataset("x").terms["uses"] == 5
    assert config.dataset("x").terms["parameters"] == {
        "width": {"max": 4},
        "id_rule": {"any_of": ["exact"]},
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("naem = 1", "northbund.toml: unknown key 'naem'; did you mean 'name'?"),
        ("[rpc]\npot = 1", "northbund.toml, rpc: unknown key 'pot'; did you mean 'port'?"),
        ("[rpc]\nzzz = 1", "northbund.toml, rpc: unknown key 'zzz'; known are port"),
        (
            "[rpc]\nport = 'x'",
            "northbund.toml: rpc, port: expected a whole number, got text in quotes",
        ),
        ("[rpc]\nport = 70000", "northbund.toml: rpc, port: expected a whole number <= 65535"),
        ("rpc = 3", "northbund.toml: rpc: expected a table, got a whole number"),
        ("[chain]\nurl = 'http://x'", "northbund.toml: chain, the key 'chain_id' is missing"),
        (CHAIN.replace("http:", "ftp:"), "chain, url: expected an address like http://127.0.0.1"),
        ("[listen]\nlibp2p = 'x'", "listen, libp2p: expected an address like /ip4/127.0.0.1/tcp/"),
        (
            DATASET + "features = [{name = 'a', kid = 'x'}]",
            "datasets number 1, features number 1: un",
        ),
        (
            DATASET + "features = [{name = 'a', kind = 'numbr'}]",
            "northbund.toml, datasets number 1, features number 1, kind: 'numbr' is none of number,"
            " category",
        ),
        (DATASET.replace('"a/b.csv"', "3"), "datasets number 1, path: expected a path in quotes"),
        (DATASET.replace('"x"', '"x y"'), "name: expected 1 to 64 printable characters without"),
        (DATASET + DATASET, "two entries of [[datasets]] have the name 'x'"),
        (DATASET.replace('"y"', '"id"'), "dataset 'x' uses the column 'id' twice"),
        (DATASET.replace('"y"', '""'), "dataset 'x' has neither features nor a label"),
        (PEER + PEER, "two entries of [[organisations]] have the name 'd'"),
        (
            PEER.replace("ab", "zz"),
            "is not an account; right would be 0x and 40 hexadecimal digits",
        ),
        (
            "[trust]\nattesters = ['dd']\n" + PEER,
            "'dd' is neither an organisation nor an account; d",
        ),
        (
            PEER + DATASET + TERMS.replace("uses", "use"),
            "northbund.toml, datasets number 1, terms: unknown key 'use'; did you mean 'uses'?",
        ),
        (
            PEER + DATASET + TERMS.replace("max", "maximum"),
            "terms, parameters, width: unknown key 'maximum'; did you mean 'max'?",
        ),
        (
            PEER + DATASET + TERMS.replace("= 30", "= 0"),
            "datasets number 1, terms: valid_for_days: expected a whole number >= 1",
        ),
        (
            PEER + DATASET + TERMS.replace("recipients = ['d']", "recipients = ['dd']"),
            "datasets number 1, terms, recipients: 'dd' is neither an organisation nor an account",
        ),
        (PEER.replace('"d"', '"bank-a"'), "but 'bank-a' is this node's own name"),
        ("[trust]\nattesters = ['bank-a']\n", "write this node's own account in place of 'bank-a'"),
        ("[attester]\nrecipients = ['x']\n", "attester, recipients: 'x' is neither"),
        ("=", "northbund.toml is not TOML: Invalid statement (at line 3, column 1)"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_the_place(text: str, sentence: str) -> None:
    told = refused(text)
    assert sentence in told
    assert "\n" not in told


def test_a_misspelt_digit_is_caught_by_the_accounts_checksum() -> None:
    right = "0x5ce9454909639D2D17A3F753ce7d93fa0b9aB12E"
    text = PEER.replace("0x" + "ab" * 20, right)
    assert read(text).organisations[0].account.hex() == right[2:].lower()
    assert "wrong checksum" in refused(text.replace("0x5ce", "0x6ce"))


def test_load_wants_a_private_folder_with_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    for kind in ("config-missing", "config-missing", "folder-unsafe"):
        with pytest.raises(Fault) as caught:
            load(folder)
        assert caught.value.kind == kind
        if folder.exists():
            (folder / "northbund.toml").write_text(HEAD)
            folder.chmod(0o750)
        else:
            folder.mkdir(mode=0o700)
    folder.chmod(0o700)
    assert load(folder).config.name == "bank-a"
    (folder / "northbund.toml").write_bytes(b"\xff")
    with pytest.raises(Fault, match="cannot be read"):
        load(folder)


TOML_VALUES = st.recursive(
    st.booleans() | st.integers(-9, 99999) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["name", "network", "listen", "rpc", "chain", "organisations", "trust", "datasets", "compute"]
)


@given(st.dictionaries(KEYS, TOML_VALUES, max_size=5))
def test_no_table_makes_anything_but_a_fault(table: dict[str, object]) -> None:
    with suppress(Fault):
        from_table({"name": "n", "network": "n"} | table, Path("/node"), "northbund.toml")


def test_workers_are_told_of_at_the_address_that_others_reach() -> None:
    listen = read(
        '[listen]\ndata_host = "0.0.0.0"\ndata_announce = "192.0.2.7"\ndata_ports = "40000-40099"\n'
    ).listen
    assert listen.worker_ports == (40_000, 40_099)
    assert listen.seat_address(40_003) == "192.0.2.7:40003"
    assert listen.worker_address("192.0.2.7:40003") == ("127.0.0.1", 40_003)
    plain = read('[listen]\ndata_host = "2001:db8::5"\n').listen
    assert plain.worker_ports == (0, 0)
    assert plain.seat_address(5) == "[2001:db8::5]:5"
    assert plain.worker_address("[2001:db8::5]:5") == ("2001:db8::5", 5)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('data_host = "0.0.0.0"', "data_host: no worker can be dialled at '0.0.0.0'; write"),
        ('data_announce = "224.0.0.1"', "data_announce: no worker can be dialled at"),
        ('data_announce = "a.example:40000"', "'a.example:40000' has a port"),
        ('data_announce = "a b"', "data_announce: expected a host like 192.0.2.1 or a.example"),
        ('data_ports = "x"', "data_ports: expected a range of ports like 40000-40099"),
        ('data_ports = "40010-40000"', "no range of ports like 40000-40099"),
        ('data_ports = "65000-70000"', "no range of ports like 40000-40099"),
        ('data_ports = "40000-40005"', "has 6 ports, at least 12 are needed"),
    ],
)
def test_where_no_worker_can_be_reached_is_told_in_a_sentence(line: str, part: str) -> None:
    sentence = refused(f"[listen]\n{line}\n")
    assert part in sentence
    assert "\n" not in sentence
