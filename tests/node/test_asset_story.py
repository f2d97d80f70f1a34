"""The story of an asset in plain lines."""

import pytest

from node.asset_story import lines

TOP = {"parent": b"\x0a" * 32, "parent_name": "risk"}
SESSION = {
    "session": b"\x05" * 32, "at": 1_800_000_300.0, "state": "COMPLETED", "reason": "",
    "rows": 3118, "numbers_per_row": 4,
}  # fmt: skip
USE = TOP | {
    "task": b"\x02" * 32, "purpose": "credit-risk", "operation": "shared-features",
    "state": "SETTLED", "owner": "bank-a", "consumer": "fintech-c", "recipient": "fintech-c",
    "attester": "regulator-d", "amount": "5", "block": 12, "at": 1_800_000_000,
    "sessions": [SESSION | {"state": "ABORTED", "reason": "lost", "rows": None}, SESSION],
}  # fmt: skip
GRANT = TOP | {
    "owner": "bank-a", "consumer": "fintech-c", "price": "5", "unit": "edge", "uses": 2,
    "uses_counted": 1, "uses_left": 1, "expires": 1_800_100_000, "revoked": False,
    "given_up": False, "waived": [],
}  # fmt: skip
PRICE = {
    "type": "data", "operation": "shared-features", "unit": "edge", "uses": 3, "least": "5",
    "median": "5", "most": "9", "total": "19",
}  # fmt: skip
TRACE = {
    "cdt": b"\x01" * 32, "name": "facts", "type": "data", "owner": "bank-a",
    "requests": [TOP | {"by": "fintech-c", "state": "FINALIZED", "sentence": "", "failed": []}],
    "grants": [GRANT], "uses": [USE], "prices": [PRICE],
}  # fmt: skip


def test_the_whole_story() -> None:
    assert lines(TRACE) == [
        "facts (data, 0x01010101…) belongs to bank-a",
        "fintech-c asked for it under risk (0x0a0a0a0a…): FINALIZED",
        "bank-a granted it to fintech-c under risk (0x0a0a0a0a…): 5 for each edge, 2 uses until"
        " 2027-01-16 11:46:40, 1 counted here, 1 left on chain",
        "task 0x02020202… of fintech-c, shared-features for credit-risk under risk (0x0a0a0a0a…),"
        " result to fintech-c: vouched for by regulator-d in block 12 at 2027-01-15 08:00:00;"
        " SETTLED, bank-a got 5",
        "  session 0x05050505… at 2027-01-15 08:05:00: ABORTED (lost)",
        "  session 0x05050505… at 2027-01-15 08:05:00: COMPLETED, 4 numbers reserved about each of"
        " 3118 rows",
        "3 settled uses of data by shared-features anywhere, priced by edge: 5 to 9 paid,"
        " 5 in the middle",
    ]


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        ({"uses_left": None}, "not on chain"),
        ({"revoked": True}, "revoked"),
        ({"given_up": True}, "given up by it"),
        ({"waived": ["purpose"]}, "a person waived purpose"),
        ({"expires": 2**39, "parent_name": ""}, "an asset unknown here"),
    ],
)
def test_other_grants(grant, words) -> None:
    assert words in lines(TRACE | {"grants": [GRANT | grant]})[2]


def test_nothing_has_happened_yet() -> None:
    assert lines(TRACE | {"requests": [], "grants": [], "uses": [], "prices": []})[1:] == [
        "no task has used it"
    ]


def test_a_refusal_says_why() -> None:
    no = {"what": "epochs", "asked": "9", "allowed": "at most 2"}
    asked = TOP | {"by": "fintech-c", "state": "TERMINATED", "sentence": "no", "failed": [no]}
    (line,) = [each for each in lines(TRACE | {"requests": [asked]}) if "TERMINATED" in each]
    assert line.endswith("TERMINATED (no; epochs: 9, allowed at most 2)")
