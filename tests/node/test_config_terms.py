"""Terms that could never hold are refused when northbund.toml is read, with their place."""

import re
from pathlib import Path

import pytest

from node.config import parse
from node.errors import Fault

POLICY = (Path(__file__).parents[2] / "configs" / "terms" / "careful-bank.toml").read_text("utf-8")
COMPUTE = """
[compute]
name = "compute"
[compute.terms]
operations = ["committee-member"]
counterparties = ["fintech-c"]
recipients = ["careful-bank"]
purposes = ["credit-risk-model"]
attesters = ["regulator-d"]
deciders = []
valid_for_days = 3
uses = 1
"""


def refused(text: str) -> str:
    with pytest.raises(Fault) as fault:
        parse(text, Path("/node"), "northbund.toml")
    assert fault.value.kind == "config-invalid"
    return fault.value.sentence


@pytest.mark.parametrize(
    ("line", "instead", "says"),
    [
        ("width = { max = 2 }", "width = { min = 3, max = 2 }", "terms.parameters.width: no req"),
        ("width = { max = 2 }", "depth = { max = 2 }", "terms.parameters: 'depth' is unknown"),
        ("width = { max = 2 }", 'width = { any_of = ["2"] }', "'2' is not a whole number from 1"),
        ("noise_min = 0.5", "noise_min = 500.0", "terms.noise_min: no request can fulfil this"),
        ("valid_until = 2099-12-31T23:59:59Z", "valid_until = 2099-12-31", "valid_until"),
        ("valid_until = 2099-12-31T23:59:59Z", 'valid_until = "soon"', "'soon' is no moment"),
        ('operand = "cdt:attester"', 'operand = "cdt:colour"', "cdt:colour is not known"),
        ('operator = "eq"', 'operator = "lteq"', "terms.attesters: the operator lteq does not fit"),
        ('value = "fintech-c"', 'value = "fintech-x"', "prohibition number 1 names 'fintech-x'"),
        ('value = "fintech-c"', 'value = "regulator-d"', "terms.attesters: no request can fulfil"),
        ('operand = "odrl:payAmount"', 'operand = "odrl:count"', "duty number 1: the one duty"),
        ('value = "1500000"', 'value = "much"', "terms.price: 'much' is not an amount"),
        ('refer = ["purposes"', 'refer = ["noise_min"', "refer"),
        ('operator = "eq"', 'operatr = "eq"', "unknown key 'operatr'; did you mean 'operator'?"),
    ],
)
def test_a_wrong_constraint_is_told_with_its_place(line: str, instead: str, says: str) -> None:
    assert POLICY.count(line) == 1
    sentence = refused(POLICY.replace(line, instead))
    assert sentence.startswith("northbund.toml")
    assert re.search("datasets.*terms", sentence)
    assert says in sentence


def test_terms_of_compute_are_read_too() -> None:
    parse(POLICY + COMPUTE, Path("/node"), "northbund.toml")
    sentence = refused(POLICY + COMPUTE + "noise_min = 0.5\n")
    assert "compute, terms, terms.noise_min says something of rows" in sentence
