"""An owner's columns as rows of the unit ball, by constants that are fitted once and stored.

Numbers are standardised and clipped, categories one-hot, a missing value has an indicator of its
own. The whole row is then divided by the root of the number of source columns and, where it is
still longer than 1, shortened to length 1: the privacy bound of `mpc/privacy_loss.py` rests on
|x| <= 1 for every row that can ever stand there. Constants and categories never leave the owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Column = NDArray[Any]
"""float64 with nan where a number is missing, or objects: str, None where a category is missing."""

NUMBER_CLIP = 3.0
"""In standard deviations of the column."""

MAX_CATEGORIES = 64


class ColumnError(ValueError):
    """A column from which nothing can be learnt; the sentence names it and says why."""


@dataclass(frozen=True, slots=True)
class NumberCode:
    """How one column of numbers is encoded: (value - mean) / deviation, clipped; then `missing`."""

    name: str
    mean: float
    deviation: float
    missing: bool

    @property
    def width(self) -> int:
        """Encoded columns."""
        return 1 + self.missing

    def encode(self, column: Column) -> tuple[Floats, int]:
        """float64 (n, width) before the row is scaled, and how many values were clipped."""
        values = np.asarray(column, np.float64)
        absent = np.isnan(values)
        standard = np.where(absent, 0.0, (values - self.mean) / self.deviation)
        clipped = np.clip(standard, -NUMBER_CLIP, NUMBER_CLIP)
        parts = [clipped, absent.astype(np.float64)] if self.missing else [clipped]
        return np.stack(parts, axis=1), int(np.count_nonzero(clipped != standard))


@dataclass(frozen=True, slots=True)
class CategoryCode:
    """How one column of categories is encoded; what was never seen at fitting is all zeros."""

    name: str
    categories: tuple[str, ...]
    missing: bool

    @property
    def width(self) -> int:
        """Encoded columns."""
        return len(self.categories) + self.missing

    def encode(self, column: Column) -> tuple[Floats, int]:
        """float64 (n, width) of zeros and ones; nothing is ever clipped."""
        known: list[str | None] = [*self.categories, *((None,) if self.missing else ())]
        places = {category: place for place, category in enumerate(known)}
        encoded = np.zeros((len(column), self.width))
        for row, value in enumerate(column):
            place = places.get(value)
            if place is not None:
                encoded[row, place] = 1.0
        return encoded, 0


@dataclass(slots=True)
class Encoder:
    """The constants of all columns, in the order in which they are encoded."""

    codes: tuple[NumberCode | CategoryCode, ...]
    clipped_numbers: int = field(default=0, init=False)
    shortened_rows: int = field(default=0, init=False)

    @classmethod
    def fit(cls, columns: Mapping[str, Column]) -> "Encoder":
        """Constants from an owner's own rows, each column (n,).

        ColumnError if a column is all missing or has one value only, or if it has more than
        MAX_CATEGORIES categories.
        """
        if not columns:
            raise ColumnError("no column is named, so there is nothing to encode")
        return cls(tuple(_fit(name, column) for name, column in columns.items()))

    @property
    def width(self) -> int:
        """Encoded columns in all."""
        return sum(code.width for code in self.codes)

    def transform(self, columns: Mapping[str, Column]) -> Floats:
        """Encoded rows, float64 (n, width), each of Euclidean length at most 1.

        KeyError if a fitted column is not there. `clipped_numbers` and `shortened_rows` count what
        was cut; they stay with the owner.
        """
        parts = []
        for code in self.codes:
            encoded, clipped = code.encode(columns[code.name])
            parts.append(encoded)
            self.clipped_numbers += clipped
        rows = np.concatenate(parts, axis=1) / np.sqrt(len(self.codes))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        self.shortened_rows += int(np.count_nonzero(lengths > 1))
        shortened: Floats = rows / np.maximum(lengths, 1.0)
        return shortened

    def to_plain(self) -> list[dict[str, Any]]:
        """The constants as plain values, for the owner's own checkpoint."""
        return [
            {"name": code.name, "missing": code.missing}
            | (
                {"mean": code.mean, "deviation": code.deviation}
                if isinstance(code, NumberCode)
                else {"categories": list(code.categories)}
            )
            for code in self.codes
        ]

    @classmethod
    def from_plain(cls, plain: list[dict[str, Any]]) -> "Encoder":
        """The encoder whose `to_plain` this is."""
        return cls(
            tuple(
                CategoryCode(entry["name"], tuple(entry["categories"]), entry["missing"])
                if "categories" in entry
                else NumberCode(entry["name"], entry["mean"], entry["deviation"], entry["missing"])
                for entry in plain
            )
        )


def _fit(name: str, column: Column) -> NumberCode | CategoryCode:
    return _fit_category(name, column) if column.dtype == object else _fit_number(name, column)


def _fit_number(name: str, column: Column) -> NumberCode:
    values = np.asarray(column, np.float64)
    present = values[~np.isnan(values)]
    if not present.size:
        raise ColumnError(f"column {name!r} has no value in any row")
    deviation = float(present.std())
    if not deviation > 0:
        raise ColumnError(f"column {name!r} has the same number in every row")
    return NumberCode(name, float(present.mean()), deviation, present.size < values.size)


def _fit_category(name: str, column: Column) -> CategoryCode:
    categories = sorted({value for value in column if value is not None})
    missing = any(value is None for value in column)
    if not categories:
        raise ColumnError(f"column {name!r} has no value in any row")
    if len(categories) == 1 and not missing:
        raise ColumnError(f"column {name!r} has the same category in every row")
    if len(categories) > MAX_CATEGORIES:
        raise ColumnError(
            f"column {name!r} has {len(categories)} categories, more than {MAX_CATEGORIES}"
        )
    return CategoryCode(name, tuple(categories), missing)
