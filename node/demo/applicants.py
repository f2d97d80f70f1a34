"""The real applicants of the demo, and which organisation holds what of them.

4,454 consumer-credit applicants (see data/README.md). The file names nobody, so applicant n, from 1
in the file's order, is `applicant-00001` and so on. A seed settles which tenth each organisation
lacks, and in which order its rows stand.
"""

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BANK_A, BANK_B, FINTECH_C, REGULATOR_D = "bank-a", "bank-b", "fintech-c", "regulator-d"
ORGANISATIONS = (BANK_A, BANK_B, FINTECH_C, REGULATOR_D)

CATEGORIES = ("Home", "Marital", "Records", "Job")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    BANK_A: ("Seniority", "Home", "Age", "Marital", "Records"),
    BANK_B: ("Job", "Time", "Expenses", "Income", "Assets", "Debt", "Amount", "Price"),
}
LABEL = "Bad"
_LACKED_SHARE = 10
_MISSING = ("", "NA")


@dataclass(frozen=True, slots=True)
class Applicants:
    """Everybody, in the file's order: what nobody in the demo's network ever sees as a whole.

    `columns` are as an owner's encoder takes them; `labels` float64 (n,), 1.0 for a bad outcome.
    """

    ids: tuple[str, ...]
    columns: dict[str, NDArray[Any]]
    labels: NDArray[np.float64]

    def of(self, ids: Sequence[str], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The columns `names` of the applicants `ids`, in that order."""
        rows = self.rows_of(ids)
        return {name: self.columns[name][rows] for name in names}

    def labels_of(self, ids: Sequence[str]) -> NDArray[np.float64]:
        """The outcome of the applicants `ids`, in that order."""
        outcomes: NDArray[np.float64] = self.labels[self.rows_of(ids)]
        return outcomes

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Where the applicants `ids` stand."""
        return np.array([int(identifier.removeprefix("applicant-")) - 1 for identifier in ids])


def load() -> Applicants:
    """The packaged data."""
    packed = files("node.demo").joinpath("data/credit_data.csv.gz").read_bytes()
    rows = list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
    names = [name for held in COLUMNS.values() for name in held]
    return Applicants(
        tuple(f"applicant-{number:05d}" for number in range(1, len(rows) + 1)),
        {name: _column(name, [row[name] for row in rows]) for name in names},
        np.array([row["Status"] == "bad" for row in rows], np.float64),
    )


def holdings(count: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """For each holder of rows the places of its applicants, in the order of its own file.

    Bank A, bank B and the fintech each lack a tenth, disjoint from the others'.
    """
    random = np.random.default_rng(seed)
    drawn, tenth = random.permutation(count), count // _LACKED_SHARE
    held = {}
    for place, holder in enumerate((BANK_A, BANK_B, FINTECH_C)):
        lacked = drawn[place * tenth : (place + 1) * tenth]
        held[holder] = random.permutation(np.setdiff1d(np.arange(count), lacked))
    return held


def write(applicants: Applicants, holder: str, rows: NDArray[np.int64], path: Path) -> None:
    """Afterwards `path` is the CSV file of `holder`: its own columns of its own applicants."""
    columns = {name: applicants.columns[name] for name in COLUMNS.get(holder, ())}
    if holder == FINTECH_C:
        columns[LABEL] = applicants.labels
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["id", *columns])
        for row in rows:
            lines.writerow(
                [applicants.ids[row], *(_cell(column[row]) for column in columns.values())]
            )


def _column(name: str, texts: list[str]) -> NDArray[Any]:
    if name in CATEGORIES:
        column = np.empty(len(texts), object)
        column[:] = [None if text in _MISSING else text for text in texts]
        return column
    return np.array([np.nan if text in _MISSING else float(text) for text in texts])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else f"{value:g}"
