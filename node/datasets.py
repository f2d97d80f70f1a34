"""Rows from CSV and Parquet files through DuckDB, typed as the administrator said.

Runs in worker processes alone: rows stay there. Every wrong input is one sentence that names the
file, the column and the row number, and never a value, because sentences reach logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpc.encoder import Column, ColumnError, Encoder
from node.dataset_spec import ColumnProfile, DatasetProfile, DatasetSpec
from node.errors import Fault
from protocol.identifiers import normalise

if TYPE_CHECKING:
    import duckdb

MISSING_WORDS = ("", "na", "nan", "null")
"""Text that stands for a missing value, in any case and with any space around it."""

_CSV = "all_varchar = true, header = true, skip = 0, quote = '\"', escape = '\"', comment = ''"
"""Everything is said, because DuckDB otherwise guesses and may skip lines that it finds odd."""

_READERS = {
    ".parquet": "read_parquet($path)",
    ".csv": f"read_csv($path, delim = ',', {_CSV})",
    ".tsv": f"read_csv($path, delim = '\t', {_CSV})",
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of one dataset, in the file's order.

    `ids` are normalised and unique. A column of numbers is float64 (n,) with nan where missing, one
    of categories an object array of str and None. `labels` are 0.0 and 1.0, or None.
    """

    ids: list[str]
    columns: dict[str, Column]
    labels: NDArray[np.float64] | None

    def at(self, rows: NDArray[np.uint32]) -> "Dataset":
        """The same columns with only `rows`, in that order."""
        return Dataset(
            [self.ids[row] for row in rows],
            {name: column[rows] for name, column in self.columns.items()},
            None if self.labels is None else self.labels[rows],
        )


def load(spec: DatasetSpec) -> Dataset:
    """All rows of the dataset.

    Fault `dataset-file-missing`, `dataset-file-unreadable`, `dataset-empty`,
    `dataset-column-missing`, `dataset-id-empty`, `dataset-id-duplicate`, `dataset-not-numeric`,
    `dataset-not-finite` or `dataset-label-invalid`.
    """
    raw = _read(spec)
    if not len(raw[_ID]):
        raise Fault("dataset-empty", f"{spec.path} has no row", dataset=spec.name)
    ids = _identifiers(spec, raw[_ID])
    columns: dict[str, Column] = {
        column.name: _numbers(spec, column.name, raw)
        if column.kind == "number"
        else raw[_text(column.name)]
        for column in spec.columns
    }
    return Dataset(ids, columns, _labels(spec, raw) if spec.label else None)


def profile(spec: DatasetSpec) -> DatasetProfile:
    """What a check of the dataset found; raises what `load` raises.

    Fault `dataset-empty` too where a column tells nothing because it never varies.
    """
    dataset = load(spec)
    kinds = {column.name: column.kind for column in spec.columns}
    columns: tuple[ColumnProfile, ...] = ()
    if spec.columns:
        try:
            encoder = Encoder.fit(dataset.columns)
        except ColumnError as error:
            raise Fault("dataset-empty", f"{spec.path}: {error}", dataset=spec.name) from error
        columns = tuple(
            ColumnProfile(
                name=code.name,
                kind=kinds[code.name],
                width=code.width,
                missing=_missing(dataset.columns[code.name]),
            )
            for code in encoder.codes
        )
    return DatasetProfile(
        name=spec.name,
        rows=len(dataset.ids),
        columns=columns,
        width=sum(column.width for column in columns),
        labelled=bool(spec.label),
    )


_ID = "id"


def _text(name: str) -> str:
    return f"text {name}"


def _number(name: str) -> str:
    return f"number {name}"


def _read(spec: DatasetSpec) -> dict[str, NDArray[Any]]:
    """The needed columns: texts as objects (None where missing), numbers as float64 with nan."""
    # Imported late: only a worker process that reads rows pays for it.
    import duckdb  # noqa: PLC0415

    reader = _reader(spec)
    with duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "threads": 1,
        }
    ) as connection:
        try:
            found = _header(connection, reader, spec.path)
            _check_columns(spec, found)
            selected = connection.execute(_selection(spec, reader), {"path": spec.path})
            return {name: _plain(column) for name, column in selected.fetchnumpy().items()}
        except duckdb.Error as error:
            # DuckDB's own words quote the line that it could not read, and so a person's values.
            raise Fault(
                "dataset-file-unreadable",
                f"{spec.path} is not a table that can be read ({type(error).__name__})",
                dataset=spec.name,
            ) from error


def _reader(spec: DatasetSpec) -> str:
    path = Path(spec.path)
    if not path.exists():
        raise Fault("dataset-file-missing", f"there is no file {path}", dataset=spec.name)
    # DuckDB would take these for a pattern of several files.
    if not path.is_file() or any(sign in spec.path for sign in "*?["):
        raise Fault("dataset-file-unreadable", f"{path} is no plain file", dataset=spec.name)
    ends = [suffix for suffix in path.suffixes[-2:] if suffix not in (".gz", ".zst")]
    reader = _READERS.get(ends[-1].lower() if ends else "")
    if reader is None:
        raise Fault(
            "dataset-file-unreadable",
            f"{path} ends in none of {', '.join(_READERS)} (.gz and .zst may follow)",
            dataset=spec.name,
        )
    return reader


def _header(connection: "duckdb.DuckDBPyConnection", reader: str, path: str) -> list[str]:
    # The reader is one of three constants; the path is a parameter.
    rows = connection.execute(f"DESCRIBE SELECT * FROM {reader}", {"path": path})  # noqa: S608
    return [str(row[0]) for row in rows.fetchall()]


def _check_columns(spec: DatasetSpec, found: list[str]) -> None:
    wanted = [spec.id_column, *(column.name for column in spec.columns), spec.label]
    for name in wanted:
        if name and name not in found:
            raise Fault(
                "dataset-column-missing",
                f"{spec.path} has no column {name!r}",
                dataset=spec.name,
                column=name,
                columns=len(found),  # a file without a header has a person's row in its place
            )


def _selection(spec: DatasetSpec, reader: str) -> str:
    words = ", ".join(f"'{word}'" for word in MISSING_WORDS)

    def text(name: str) -> str:
        return f"CAST({_quoted(name)} AS VARCHAR)"

    def present(name: str) -> str:
        return f"CASE WHEN lower(trim({text(name)})) IN ({words}) THEN NULL ELSE {text(name)} END"

    parts = [f"{text(spec.id_column)} AS {_quoted(_ID)}"]
    numbers = [column.name for column in spec.columns if column.kind == "number"]
    for name in dict.fromkeys([*(column.name for column in spec.columns), spec.label]):
        if name:
            parts.append(f"{present(name)} AS {_quoted(_text(name))}")
        if name in numbers or name == spec.label != "":
            parts.append(f"TRY_CAST({present(name)} AS DOUBLE) AS {_quoted(_number(name))}")
    return f"SELECT {', '.join(parts)} FROM {reader}"  # noqa: S608  names are quoted identifiers


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype == np.float64:
        return np.asarray(np.ma.filled(column, np.nan))
    texts = np.empty(len(column), object)
    texts[:] = [None if value is np.ma.masked else value for value in column]
    return texts


def _identifiers(spec: DatasetSpec, raw: NDArray[Any]) -> list[str]:
    seen: dict[str, int] = {}
    for row, value in enumerate(raw, start=1):
        identifier = normalise("" if value is None else value, spec.id_rule)
        if not identifier.strip():
            raise Fault(
                "dataset-id-empty",
                f"row {row} of {spec.path} has no id",
                dataset=spec.name,
                row=row,
            )
        if identifier in seen:
            raise Fault(
                "dataset-id-duplicate",
                f"rows {seen[identifier]} and {row} of {spec.path} have the same id",
                dataset=spec.name,
                rows=[seen[identifier], row],
            )
        seen[identifier] = row
    return list(seen)


def _numbers(spec: DatasetSpec, name: str, raw: Mapping[str, NDArray[Any]]) -> Column:
    numbers, texts = raw[_number(name)], raw[_text(name)]
    given = np.array([text is not None for text in texts])
    for wrong, kind, what in (
        (given & np.isnan(numbers), "dataset-not-numeric", "text where a number is said"),
        (np.isinf(numbers), "dataset-not-finite", "an infinite value"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong)) + 1
            raise Fault(
                kind,
                f"row {row} of {spec.path} has {what} in column {name!r}",
                dataset=spec.name,
                column=name,
                row=row,
            )
    return numbers


def _labels(spec: DatasetSpec, raw: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    labels: NDArray[np.float64] = raw[_number(spec.label)]
    wrong = ~((labels == 0) | (labels == 1))
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        raise Fault(
            "dataset-label-invalid",
            f"row {row} of {spec.path} has neither 0 nor 1 in label column {spec.label!r}",
            dataset=spec.name,
            column=spec.label,
            row=row,
        )
    return labels


def _missing(column: Column) -> int:
    if column.dtype == object:
        return sum(value is None for value in column)
    return int(np.count_nonzero(np.isnan(column)))
