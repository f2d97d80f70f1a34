"""The samples in configs/: each is right as it stands, and the first explains every key."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from node.api.asset_methods import Composition
from node.config import Config, Section, parse
from protocol.manifest import Parameters
from protocol.terms_table import TermsTable

SAMPLES = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def test_each_role_of_the_scenario_has_one() -> None:
    assert [sample.stem for sample in SAMPLES] == ["bank-a", "bank-b", "fintech-c", "regulator-d"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_is_right_as_it_stands(sample: Path) -> None:
    config = parse(sample.read_text("utf-8"), Path("/node"), sample.name)
    assert config.name == sample.stem
    assert {each.name for each in config.organisations} | {config.name} == {
        each.stem for each in SAMPLES
    }
    (dataset, *_) = config.datasets or [None]
    assert dataset is None or dataset.path.is_absolute()


def test_the_samples_agree_on_who_is_who() -> None:
    known: dict[str, set[tuple[object, ...]]] = {}
    for sample in SAMPLES:
        config = parse(sample.read_text("utf-8"), Path("/node"), sample.name)
        for each in config.organisations:
            known.setdefault(each.name, set()).add((each.account, each.peer_id, each.addresses))
    assert all(len(entries) == 1 for entries in known.values())


def test_the_sample_of_a_composition_is_one() -> None:
    text = (SAMPLES[0].parent / "compose" / "algorithm.toml").read_text("utf-8")
    composition = msgspec.convert(tomllib.loads(text), Composition)
    assert {each.cdt for each in composition.children} > set(composition.pool)
    for child in composition.children:
        given = {**(child.parameters or {}), "type": "shared-features"}
        assert child.cdt in composition.pool or msgspec.convert(given, Parameters)


def keys(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def test_the_samples_show_every_key_there_is() -> None:
    careful = SAMPLES[0].parent / "terms" / "careful-bank.toml"
    text = "\n".join(sample.read_text("utf-8") for sample in (*SAMPLES, careful))
    shown = set(re.findall(r"[\[{,.\s](\w+)\s*=", text)) | set(re.findall(r"[\[.](\w+)\]", text))
    every = {key for section in Section.__subclasses__() for key in keys(section)}
    assert every - shown == set()
    assert keys(TermsTable) - shown == set()
    assert "datasets" in keys(Config)


def test_bank_a_explains_each_of_its_keys_in_words() -> None:
    """In the first sample a comment stands above every key, or above the key before it."""
    lines = (SAMPLES[0].read_text("utf-8")).splitlines()
    tables = tomllib.loads("\n".join(lines))
    assert tables["name"] == "bank-a"
    comments = sum(1 for line in lines if line.startswith("#"))
    assert comments > len(lines) / 3
