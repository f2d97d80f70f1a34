"""An administrator's examples against a policy that is not live: the samples, and wrong files."""

import copy
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node import example_file, policy_examples, terms_exchange
from node.cli import program
from node.config import Config, parse
from node.errors import KINDS, Fault
from protocol import odrl
from protocol.ids import Account

SAMPLES = Path(__file__).parents[2] / "configs" / "terms"
POLICY = SAMPLES / "careful-bank.toml"
EXAMPLES = SAMPLES / "examples.toml"
OWN = Account(b"\x07" * 20)
NOW = 1_800_000_000.0

COMPUTE = """
[compute]
name = "compute"
[compute.terms]
operations = ["committee-member"]
counterparties = ["fintech-c"]
recipients = ["fintech-c"]
purposes = ["credit-risk-model"]
attesters = ["regulator-d"]
deciders = []
valid_for_days = 3
uses = 1
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def run_command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["northbund", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            program.run()
        told = capfd.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run_command


def config(text: str | None = None) -> Config:
    return parse(text or POLICY.read_text("utf-8"), Path("/node"), "northbund.toml")


def table() -> dict[str, Any]:
    return tomllib.loads(EXAMPLES.read_text("utf-8"))


def outcomes(found: dict[str, Any], policy: Config | None = None) -> list[policy_examples.Outcome]:
    examples = example_file.read(found, "examples.toml")
    return policy_examples.judge(examples, policy or config(), OWN, NOW, "examples.toml")


def test_the_samples_end_as_their_author_expects() -> None:
    found = outcomes(table())
    assert [each.example.name for each in found if not each.as_expected] == []
    assert {each.judgement.verdict for each in found} == {"permit", "counter", "refer", "refuse"}


def test_the_offer_is_what_would_pass() -> None:
    by_name = {each.example.name: each.judgement for each in outcomes(table())}
    fewer = by_name["more uses than we give: we offer fewer"].counter
    dearer = by_name["half the price"].counter
    assert fewer is not None
    assert dearer is not None
    assert (fewer.uses, fewer.pay_amount) == (3, "1500000")
    assert (dearer.uses, dearer.pay_amount) == (1, "1500000")
    again = table()
    again["examples"] = [
        {"name": "as offered", "expect": "permit", "request": {"price": 1_500_000, "uses": 3}}
    ]
    assert outcomes(again)[0].as_expected


def test_a_changed_policy_changes_what_happens() -> None:
    stricter = config(POLICY.read_text("utf-8").replace("cohort_min = 1000", "cohort_min = 5000"))
    failed = [each.example.name for each in outcomes(table(), stricter) if not each.as_expected]
    assert "what the fintech usually asks for" in failed


def test_a_compute_asset_is_tried_too() -> None:
    text = POLICY.read_text("utf-8") + COMPUTE
    found = table()
    del found["request"]["dataset"], found["request"]["parameters"]
    found["request"] |= {"compute": True, "operation": "committee-member", "days": 1}
    found["examples"] = [{"name": "a seat", "expect": "refuse", "fails": ["deciders"]}]
    assert outcomes(found, config(text))[0].as_expected


def test_the_command_tells_each_example_and_ends_with_a_status(run: Run, tmp_path: Path) -> None:
    status, out, err = run("terms", "test", EXAMPLES, "--policy", POLICY)
    assert (status, err) == (0, "")
    assert "half the price" in out
    status, out, err = run("terms", "test", EXAMPLES, "--policy", POLICY, "--json")
    assert {each["as_expected"] for each in json.loads(out)} == {True}
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(EXAMPLES.read_text("utf-8").replace('expect = "refer"', 'expect = "permit"'))
    status, out, err = run("terms", "test", wrong, "--policy", POLICY)
    assert status == KINDS["examples-failed"].exit_code
    assert "1 of 12 examples did not end as expected: for another purpose" in err
    assert "half the price" in out


def test_the_node_of_the_folder_is_meant_where_no_policy_is_named(run: Run, tmp_path: Path) -> None:
    status, _, err = run("-d", tmp_path / "no", "terms", "test", EXAMPLES)
    assert status == KINDS["config-missing"].exit_code
    assert "init" in err
    status, _, err = run("terms", "test", EXAMPLES, "--policy", tmp_path / "no.toml")
    assert status == KINDS["input-invalid"].exit_code


def change(path: str, value: Any) -> dict[str, Any]:
    found = copy.deepcopy(table())
    *way, last = path.split("/")
    inside: Any = found
    for step in way:
        inside = inside[int(step) if step.isdecimal() else step]
    inside[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("examples", [], "examples"),
        ("exampels", [], "exampels"),
        ("examples/0/expect", "maybe", "maybe"),
        ("examples/0/fails", ["user"], "no terms speak of 'user'"),
        ("request/uses", 0, "uses"),
        ("request/usses", 1, "usses"),
        ("request/price", 2**96, "2^96"),
        ("request/consumer", "fintech-x", "'fintech-x' is neither an organisation"),
        ("request/dataset", "", "a request names a dataset"),
        ("request/compute", True, "a request names a dataset"),
        ("request/parameters", {}, "width"),
        ("request/parameters/noise", -1, "noise"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(path: str, value: Any, says: str) -> None:
    with pytest.raises(Fault) as refused:
        outcomes(change(path, value))
    assert refused.value.kind == "input-invalid"
    assert says in refused.value.sentence
    assert "examples.toml" in refused.value.sentence


def test_a_dataset_that_the_policy_has_not_is_told() -> None:
    with pytest.raises(Fault, match="no dataset 'rows'"):
        outcomes(change("request/dataset", "rows"))


# ---------------------------------------------------------------------- ODRL


def test_the_careful_banks_policy_is_this_odrl() -> None:
    """What other software reads: a change of it is a new profile."""
    golden = json.loads((Path(__file__).parents[1] / "vectors" / "odrl.json").read_text("utf-8"))
    assert terms_exchange.exported(config(), OWN, "applicants", NOW) == golden


def test_what_is_exported_is_imported_as_the_same_terms(run: Run, tmp_path: Path) -> None:
    exported = terms_exchange.exported(config(), OWN, "applicants", NOW)
    shown = terms_exchange.imported(exported, "policy.json", data=True)
    text = POLICY.read_text("utf-8")
    copied = text[: text.index("[datasets.terms]")] + shown
    again = odrl.read(terms_exchange.exported(config(copied), OWN, "applicants", NOW))
    before = odrl.read(exported)
    assert set(again.terms.permission) == set(before.terms.permission)
    assert again.terms.prohibition == before.terms.prohibition
    assert (again.terms.duty, again.price_unit) == (before.terms.duty, before.price_unit)
    status, out, _ = run("terms", "export", "applicants", "--policy", POLICY)
    assert status == 0
    file = tmp_path / "policy.json"
    file.write_text(out)
    status, out, err = run("terms", "import", file)
    assert (status, err) == (0, "")
    assert tomllib.loads(out)["datasets"]["terms"]["uses"] == 3


def test_a_compute_asset_is_exported_and_imported_too(run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "northbund.toml"
    policy.write_text(POLICY.read_text("utf-8") + COMPUTE)
    status, out, _ = run("terms", "export", "compute", "--policy", policy)
    assert status == 0
    (permission,) = json.loads(out)["permission"]
    assert permission["target"].endswith(":compute")
    file = tmp_path / "policy.json"
    file.write_text(out)
    status, out, _ = run("terms", "import", file, "--compute")
    shown = tomllib.loads(out)["compute"]["terms"]
    assert shown["operations"] == ["committee-member"]
    assert (shown["deciders"], shown["uses"]) == ([], 1)


def test_what_odrl_says_beyond_the_subset_is_told(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    exported = terms_exchange.exported(config(), OWN, "applicants", NOW)
    exported["permission"][0]["assignee"] = "https://fintech.example"
    file.write_text(json.dumps(exported))
    status, out, err = run("terms", "import", file)
    assert (status, out) == (KINDS["terms-invalid"].exit_code, "")
    assert f"{file}: permission number 1: 'assignee' is not part of the subset" in err


def test_only_what_the_policy_has_is_exported(run: Run) -> None:
    status, _, err = run("terms", "export", "rows", "--policy", POLICY)
    assert status == KINDS["dataset-unknown"].exit_code
    assert "rows" in err


@pytest.mark.parametrize("text", ["[" * 5000, '{"a":' * 5000, "\ud800".encode("utf-8", "replace")])
def test_a_file_that_is_no_json_is_told(run: Run, tmp_path: Path, text: str | bytes) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, _, err = run("terms", "import", file)
    assert status == KINDS["input-invalid"].exit_code
    assert str(file) in err
