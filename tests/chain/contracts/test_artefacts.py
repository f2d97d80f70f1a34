"""The committed artefacts are what the sources say."""

import json

import pytest

from chain.abi import artefact
from chain.compile import CONTRACTS, FOLDER, compile_contract

CODE_LIMIT = 24_576  # EIP-170


@pytest.mark.parametrize("name", CONTRACTS)
def test_recompiling_gives_the_committed_bytes(name):
    assert compile_contract(name) == (FOLDER / f"{name}.json").read_text()


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_code_fits(name):
    assert len(bytes.fromhex(artefact(name)["runtime"][2:])) + 192 <= CODE_LIMIT


@pytest.mark.parametrize("name", CONTRACTS)
def test_nobody_is_administrator(name):
    names = {
        entry.get("name", "") for entry in json.loads((FOLDER / f"{name}.json").read_text())["abi"]
    }
    assert not names & {"owner", "admin", "pause", "upgrade", "set_market", "initialize", "mint"}
