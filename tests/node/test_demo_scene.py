import csv
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from mpc.reconstruction import Openings
from mpc.top_model import auc, split_rows
from node.config import parse
from node.demo import pictures, report
from node.demo.applicants import (
    BANK_A,
    BANK_B,
    COLUMNS,
    FINTECH_C,
    ORGANISATIONS,
    Applicants,
    holdings,
    load,
    write,
)
from node.demo.disclosure import Scene, attacks
from node.demo.in_clear import DEFAULT, Split, best_in_clear, encoded
from node.demo.organisations import Organisation, configuration

CHAIN = {
    "url": "http://127.0.0.1:1",
    "chain_id": 31337,
    "registry": "0x" + "11" * 20,
    "market": "0x" + "22" * 20,
    "token": "0x" + "33" * 20,
}
PEERS = [
    "12D3KooWGRUfqjaBVnAUKVdKzeUyeYmAkmSh1BjRYP6qXGAaU7ng",
    "12D3KooWNsbvSsuugwFnDAUVRJpQbYqM9KpeiVwFYKPSJjfwCJiE",
    "12D3KooWLnoL5t5gaHpEVPGmXBVqPzwDnzBCCkKWNmCnPVYDNwQp",
    "12D3KooWGRUfqjaBVnAUKVdKzeUyeYmAkmSh1BjRYP6qXGAaU7nh",
]


@pytest.fixture(scope="module")
def applicants() -> Applicants:
    return load()


def scene(applicants: Applicants, seed: int) -> Scene:
    held = holdings(len(applicants.ids), seed)
    common = sorted(set.intersection(*(set(rows.tolist()) for rows in held.values())))
    ids = tuple(applicants.ids[row] for row in common)
    return Scene.of(applicants, Split(ids, *split_rows(len(ids), DEFAULT.holdout, seed)))


def test_the_data_are_the_ones_of_the_note(applicants: Applicants) -> None:
    assert len(applicants.ids) == 4454
    assert applicants.ids[0] == "applicant-00001"
    assert round(float(applicants.labels.mean()), 2) == 0.28
    assert int(np.isnan(applicants.columns["Income"]).sum()) == 381
    assert int(np.isnan(applicants.columns["Assets"]).sum()) == 47


def test_each_holder_lacks_a_tenth_of_its_own() -> None:
    held = holdings(4454, 1)
    lacked = [set(range(4454)) - set(rows.tolist()) for rows in held.values()]
    assert [len(rows) for rows in lacked] == [445, 445, 445]
    assert len(set.union(*lacked)) == 3 * 445
    assert all(list(rows) != sorted(rows) for rows in held.values())
    np.testing.assert_array_equal(held[BANK_A], holdings(4454, 1)[BANK_A])
    assert list(held[BANK_A]) != list(holdings(4454, 2)[BANK_A])


def test_a_file_holds_its_owners_columns_in_its_owners_order(
    applicants: Applicants, tmp_path: Path
) -> None:
    rows = holdings(len(applicants.ids), 1)
    for holder, columns in ((BANK_B, COLUMNS[BANK_B]), (FINTECH_C, ("Bad",))):
        write(applicants, holder, rows[holder], tmp_path / "rows.csv")
        with (tmp_path / "rows.csv").open() as file:
            lines = list(csv.reader(file))
        assert tuple(lines[0]) == ("id", *columns)
        assert [line[0] for line in lines[1:]] == [applicants.ids[row] for row in rows[holder]]


def test_every_configuration_is_one_that_a_node_accepts(tmp_path: Path) -> None:
    organisations = {
        name: Organisation(name, tmp_path / name, "0x" + f"{place + 1:02x}" * 20, peer, 4001)
        for place, (name, peer) in enumerate(zip(ORGANISATIONS, PEERS, strict=True))
    }
    for own in organisations.values():
        text = configuration(own, organisations, CHAIN)
        tomllib.loads(text)
        read = parse(text, own.folder, "the demo's configuration")
        assert read.name == own.name
        assert len(read.organisations) == 3


def mean_aucs(applicants: Applicants, seeds: range) -> dict[str, float]:
    found: dict[str, list[float]] = {"a": [], "b": [], "clear": [], "shared": []}
    every = (*COLUMNS[BANK_A], *COLUMNS[BANK_B])
    for seed in seeds:
        one = scene(applicants, seed)
        for name, names in (("a", COLUMNS[BANK_A]), ("b", COLUMNS[BANK_B]), ("clear", every)):
            table = encoded(applicants, one.split, names)
            found[name].append(best_in_clear(table, one.labels, one.split, seed).auc)
        found["shared"].append(one.replayed(DEFAULT, seed).auc)
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_shared_features_beat_either_bank_and_come_near_the_bound(applicants: Applicants) -> None:
    """The demo's promise over five seeds, replayed in clear with the default parameters."""
    means = mean_aucs(applicants, range(1, 6))
    assert means["shared"] >= 0.78
    assert means["shared"] - max(means["a"], means["b"]) >= 0.02
    assert means["clear"] - means["shared"] <= 0.035


def test_thirty_known_applicants_give_no_whole_row(applicants: Applicants) -> None:
    one = scene(applicants, 1)
    opened: Openings = one.replayed(DEFAULT, 1).opened
    found = attacks(one, opened, DEFAULT, 1)
    assert found["with_noise"]["30"]["whole_rows"] == 0
    helped, silent = found["with_noise_bank_a_helps"], found["without_noise_bank_a_helps"]
    assert helped["300"]["recovered"] < silent["300"]["recovered"]


def test_the_page_stands_alone_and_escapes_what_it_is_told(tmp_path: Path) -> None:
    scores, labels = np.array([0.9, 0.2, 0.6, 0.4]), np.array([1.0, 0.0, 1.0, 0.0])
    drawn = {
        "roc": pictures.roc({"shared": (scores, labels, auc(scores, labels))}),
        "losses": pictures.learning_curve([0.7, 0.6, 0.5] * 5),
        "frontier": pictures.frontier(
            [{"width": 2, "noise": 0.3, "auc": 0.8, "recovered": 0.2}], (2, 0.3)
        ),
        "graph": pictures.composition(
            {
                "a": {"label": "data", "level": 0, "kind": "data"},
                "b": {"label": "model", "level": 1, "kind": "algorithm"},
            },
            [{"child": "a", "parent": "b", "label": "1 use"}],
        ),
    }
    told: dict[str, object] = {
        "seed": 1,
        "auc": {"a": 0.7, "b": 0.7, "shared": 0.8, "clear": 0.8},
        "openings": {
            "numbers_per_row": 4,
            "rows": 10,
            "rows_trained": 7,
            "rows_evaluated": 3,
            "numbers_opened": 34,
            "owners": {
                BANK_A: {"numbers_per_row": 4, "relative_noise": 0.3, "epsilon": None, "delta": 0}
            },
        },
        "refused": [
            {"organisation": BANK_B, "asked": "width 12", "constraints": ["<script>alert(1)"]}
        ],
        "attack": {},
        "assets": [{"name": "x", "type": "data", "owner": BANK_A, "cdt": "0x" + "1" * 64}],
        "gas": {"register": {"transactions": 2, "gas": 100}},
        "payments": {BANK_A: "3.1"},
        "stages": {"publish": 1.0},
        "seconds": 2.0,
        "memory": {"peak_mb": 900.0, "processes": 9},
    }
    report.write_html(told, drawn, tmp_path / "report.html")
    report.write_json(told, tmp_path / "report.json")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert page.count("<svg") == 4
    assert not re.search(r'(src|href)="(?!#)', page)
    assert json.loads((tmp_path / "report.json").read_text()) == told
