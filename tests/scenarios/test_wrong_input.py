"""Every wrong input, as its user meets it: one sentence, a status of its own, nothing half done."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.errors import KINDS

TERMS = """
[datasets.terms]
operations = ["shared-features"]
counterparties = ["bank-a"]
recipients = ["bank-a"]
attesters = ["bank-a"]
deciders = ["0xabababababababababababababababababababab"]
purposes = ["risk"]
valid_for_days = 30
uses = 2
"""
GOOD = "id,age,home\n1,30,own\n2,41,rent\n3,,own\n"
FEATURES = '[{ name = "age", kind = "number" }, { name = "home", kind = "category" }]'
FILES = {
    "missing": ("dataset-file-missing", None),
    "unreadable": ("dataset-file-unreadable", b"PAR1 this is no Parquet file"),
    "binary": ("dataset-file-unreadable", os.urandom(4096)),
    "no-column": ("dataset-column-missing", b"id,home\n1,own\n"),
    "same-id": ("dataset-id-duplicate", b"id,age,home\n1,30,own\n1,41,rent\n"),
    "no-id": ("dataset-id-empty", b"id,age,home\n1,30,own\n,41,rent\n"),
    "text": ("dataset-not-numeric", b"id,age,home\n1,30,own\n2,elderly,rent\n"),
    "infinite": ("dataset-not-finite", b"id,age,home\n1,30,own\n2,inf,rent\n"),
    "empty": ("dataset-empty", b"id,age,home\n"),
    "folder": ("dataset-file-unreadable", b""),
    "pipe": ("dataset-file-unreadable", b""),
}


def assert_told(kind: str, status: int, out: str, told: str) -> None:
    """One sentence and what to do about it, and the status of this kind alone."""
    assert status == KINDS[kind].exit_code, told
    assert out == ""
    assert told.startswith("northbund: ")
    assert told.endswith(f"\n  {KINDS[kind].remedy}\n")
    assert told.count("\n") == 2
    assert "Traceback" not in told


def test_every_kind_has_a_status_of_its_own() -> None:
    codes = [kind.exit_code for kind in KINDS.values()]
    assert len(set(codes)) == len(codes)


@pytest.fixture(scope="module")
def bank(chain: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node with one dataset for each wrong file, that runs and sees its chain."""
    folder = tmp_path_factory.mktemp("bank") / "node"
    node = chain.node(folder, "bank-a")
    chain.give_ether(node.account)
    with node.config.open("a") as file:
        for name, (_, content) in FILES.items():
            suffix = "parquet" if name == "unreadable" else "csv"
            path = folder / f"{name}.{suffix}"
            if name == "folder":
                path.mkdir()
            elif name == "pipe":
                os.mkfifo(path)
            elif content is not None:
                path.write_bytes(content)
            file.write(
                f'[[datasets]]\nname = "{name}"\npath = "{path.name}"\nid = "id"\n'
                f"features = {FEATURES}\n{TERMS}\n"
            )
    with node.running():
        yield node


@pytest.mark.parametrize("name", FILES)
def test_wrong_rows_are_told_and_publish_nothing(bank: Any, chain: Any, name: str) -> None:
    kind, _ = FILES[name]
    assert_told(kind, *bank.command("dataset", "publish", name))
    assert bank.stored() == {}
    assert chain.sent_by(bank.account) == 0
    log = (bank.folder / "northbund.log").read_text()
    assert "Traceback" not in log
    assert "elderly" not in log + (bank.folder / "dataset.log").read_text()


@pytest.fixture
def node(chain: Any, tmp_path: Path) -> Any:
    """A node with one good dataset."""
    found = chain.node(tmp_path / "node", "bank-a")
    (found.folder / "rows.csv").write_text(GOOD)
    with found.config.open("a") as file:
        file.write(
            f'[[datasets]]\nname = "rows"\npath = "rows.csv"\nid = "id"\n'
            f"features = {FEATURES}\n{TERMS}\n"
        )
    return found


def test_an_account_without_funds_publishes_nothing(node: Any, chain: Any) -> None:
    chain.ask("anvil_setBalance", node.account, "0x0")
    with node.running():
        assert_told("funds-missing", *node.command("dataset", "publish", "rows"))
        assert node.stored() == {}
        chain.give_ether(node.account)
        assert node.command("dataset", "publish", "rows")[0] == 0
        (row,) = node.rows("own_assets", "kind, dataset")
        assert row == ("data", "rows")


def test_the_same_rows_and_terms_are_published_once(node: Any, chain: Any) -> None:
    chain.give_ether(node.account)
    with node.running():
        first = node.call("dataset_publish", name="rows")
        assert node.call("dataset_publish", name="rows") == first
    with node.running():
        assert node.call("dataset_publish", name="rows") == first
    assert chain.sent_by(node.account) == 1


WRONG_CHAINS: dict[str, tuple[str, Callable[[Any], tuple[str, str]]]] = {
    "not there": ("chain-unreachable", lambda facts: (facts["url"], "http://127.0.0.1:9")),
    "no chain": ("chain-unreachable", lambda facts: (facts["url"], "http://no.such.host.invalid")),
    "another chain": ("chain-wrong", lambda _: ("chain_id = 31337", "chain_id = 31338")),
    "no contract": ("contracts-missing", lambda facts: (facts["registry"], "0x" + "5" * 40)),
    "another contract": ("contracts-missing", lambda facts: (facts["registry"], facts["token"])),
}


@pytest.mark.parametrize("what", WRONG_CHAINS)
def test_a_wrong_chain_is_told_and_nothing_is_published(node: Any, chain: Any, what: str) -> None:
    kind, change = WRONG_CHAINS[what]
    node.edit(*change(chain.facts))
    with node.running(chain=False):
        # until it has been tried once, the daemon says that it is being connected
        node.wait(lambda: "being connected" not in node.call("chain_status")["trouble"])
        assert_told(kind, *node.command("dataset", "publish", "rows"))
        assert node.command("status")[0] == 0
        assert node.stored() == {}
        node.stop()


def test_a_wrong_password_ends_the_daemon(node: Any) -> None:
    wrong = node.command("run", NORTHBUND_PASSWORD="wrong horse")
    log = (node.folder / "northbund.log").read_text()
    assert "wrong horse" not in wrong[2] + log
    assert "Traceback" not in wrong[2] + log
    sentence = [line for line in wrong[2].splitlines() if not line.startswith("{")]
    assert sentence[0].startswith("northbund: the password does not open")
    assert wrong[0] == KINDS["password-wrong"].exit_code
    assert not (node.folder / "rpc.cookie").exists()


@pytest.mark.parametrize("line", ['libp2p = "/ip4/127.0.0.1/tcp/0"', "port = 0"])
def test_a_port_in_use_ends_the_daemon_before_it_has_begun(node: Any, line: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node.edit(line, line.replace("tcp/0", f"tcp/{port}").replace("= 0", f"= {port}"))
        assert_told("port-in-use", *node.command("run"))


def test_a_second_daemon_is_refused_and_the_first_goes_on(node: Any) -> None:
    with node.running():
        assert_told("already-running", *node.command("run"))
        assert node.call("node_status")["unlocked"]
        node.stop()


def write(path: Path, count: int, mode: int) -> None:
    path.write_bytes(bytes(count))
    path.chmod(mode)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no folder": ("config-missing", lambda folder: folder.rename(folder.with_name("gone"))),
    "open folder": ("folder-unsafe", lambda folder: folder.chmod(0o755)),
    "no such key": ("config-invalid", lambda f: (f / "northbund.toml").write_text("nmae = 1")),
    "no TOML": ("config-invalid", lambda f: (f / "northbund.toml").write_text("= = =")),
    "no peer key": ("key-missing", lambda folder: (folder / "peer.key").unlink()),
    "short peer key": ("key-damaged", lambda folder: (folder / "peer.key").write_bytes(b"x")),
    "open peer key": ("key-unsafe", lambda folder: (folder / "peer.key").chmod(0o644)),
    "no keystore": ("key-missing", lambda folder: (folder / "keystore.json").unlink()),
    "a keystore of nothing": ("key-damaged", lambda f: (f / "keystore.json").write_text("{}")),
    "a database of nothing": (
        "database-damaged",
        lambda folder: (folder / "node.sqlite3").write_bytes(os.urandom(8192)),
    ),
    "a database that is a folder": (
        "database-damaged",
        lambda folder: (folder / "node.sqlite3").mkdir(),
    ),
    "a short ledger key": ("key-damaged", lambda f: write(f / "ledger.key", 31, 0o600)),
    "an open ledger key": ("key-unsafe", lambda f: write(f / "ledger.key", 32, 0o644)),
    "an address of another machine": (
        "address-invalid",
        lambda f: (f / "northbund.toml").write_text(
            (f / "northbund.toml").read_text().replace("127.0.0.1/tcp", "192.0.2.1/tcp")
        ),
    ),
}


WAITED_FOR = {"no peer key", "open peer key", "a keystore of nothing", "a short ledger key"}
"""Found only once the daemon has begun: seconds each."""


@pytest.mark.parametrize(
    "what",
    [pytest.param(each, marks=pytest.mark.slow if each in WAITED_FOR else ()) for each in DAMAGES],
)
def test_what_is_wrong_in_the_folder_ends_the_daemon(node: Any, what: str) -> None:
    kind, damage = DAMAGES[what]
    damage(node.folder)
    assert_told(kind, *node.command("run"))


def test_an_error_as_json_has_kind_sentence_and_remedy(node: Any) -> None:
    status, _, told = node.command("status", "--json")
    assert status == KINDS["daemon-not-running"].exit_code
    error = json.loads(told)["error"]
    assert error["kind"] == "daemon-not-running"
    assert error["remedy"] == KINDS["daemon-not-running"].remedy
