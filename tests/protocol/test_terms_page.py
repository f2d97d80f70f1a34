"""The page of terms tells exactly the members and operands that there are."""

import re
from pathlib import Path

from protocol import operands, terms, terms_policy
from protocol.terms_table import TermsTable

PAGE = (Path(__file__).parents[2] / "protocol" / "README.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("## Terms of use") : PAGE.index("## The floors")]
ROWS = re.findall(r"^\| (`.+`) \| (.*`.+`.*) \| (.+) \|$", SECTION, re.MULTILINE)


def test_every_operand_stands_there_with_its_kind_and_whether_it_must_be_said() -> None:
    told = {}
    for _, operand, kind in ROWS:
        name = re.findall(r"`([^`]+)`", operand)[0]
        told[name] = (kind, "must be said" in operand)
    parameters = told.pop("cdt:parameter.NAME")
    assert parameters == ("as the operation says", False)
    kinds = {"hash": "SHA-256"}
    assert told == {
        name: (kinds.get(each.kind, each.kind), name in terms.REQUIRED)
        for name, each in operands.OPERANDS.items()
    }


def test_every_member_stands_beside_its_operand() -> None:
    for members, operand, _ in ROWS:
        name = re.findall(r"`([^`]+)`", operand)[0]
        for member in re.findall(r"`([^`]+)`", members):
            if member != "parameters.NAME":
                assert member in TermsTable.__struct_fields__
                assert terms_policy.operand_of(member) == name
