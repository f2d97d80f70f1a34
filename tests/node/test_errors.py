import pickle
import re
from pathlib import Path

import pytest

from node.cli.page import page
from node.errors import APPLICATION_CODE_BASE, KINDS, Fault, nearest
from protocol.errors import LocalProtocolError

ROOT = Path(__file__).parents[2]


def test_every_kind_has_its_own_exit_code_and_rpc_code() -> None:
    exits = [kind.exit_code for kind in KINDS.values()]
    codes = [kind.rpc_code for kind in KINDS.values()]
    assert len(set(exits)) == len(exits)
    assert len(set(codes)) == len(codes)
    assert all(2 < code < 126 for code in exits)  # 126 and above belong to the shell


def test_application_codes_stay_outside_the_range_that_json_rpc_reserves() -> None:
    standard = {-32700, -32600, -32601, -32602, -32603}
    for kind in KINDS.values():
        assert kind.rpc_code in standard or kind.rpc_code == APPLICATION_CODE_BASE + kind.exit_code


def test_every_remedy_is_one_sentence() -> None:
    for kind in KINDS.values():
        assert re.fullmatch(r"[A-Z][^\n]*\.", kind.remedy), kind.remedy


def test_a_fault_of_no_kind_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError, match="no-such-kind"):
        Fault("no-such-kind", "a sentence")


def test_a_fault_survives_a_pickle_with_its_data() -> None:
    fault = pickle.loads(pickle.dumps(Fault("port-in-use", "port 1 is taken", port=1)))  # noqa: S301
    assert (fault.kind, str(fault), fault.data) == ("port-in-use", "port 1 is taken", {"port": 1})


def test_nearest_finds_a_slip_and_invents_nothing() -> None:
    assert nearest("confirmatons", ["confirmations", "url"]) == "confirmations"
    assert nearest("zzz", ["confirmations", "url"]) is None


def test_the_code_raises_every_kind_and_no_other() -> None:
    files = [file for floor in ("node", "mpc", "chain") for file in (ROOT / floor).rglob("*.py")]
    text = "".join(each.read_text("utf-8") for each in files if each != ROOT / "node" / "errors.py")
    assert set(re.findall(r'\bFault\(\s*"([^"]+)"', text)) <= set(KINDS)
    assert {kind for kind in KINDS if f'"{kind}"' not in text} == set()


def test_the_page_of_commands_and_exit_codes_is_the_code() -> None:
    text = (ROOT / "node" / "cli" / "README.md").read_text("utf-8")
    assert text == page(), "make it anew: python -m node.cli.page > node/cli/README.md"
    rows = re.findall(r"^\| (\d+) \| (-?\d+) \| `([a-z-]+)` \| (.+) \|$", text, re.MULTILINE)
    told = {kind: (int(exit_code), int(code), remedy) for exit_code, code, kind, remedy in rows}
    assert told == {
        kind: (entry.exit_code, entry.rpc_code, entry.remedy) for kind, entry in KINDS.items()
    }
