"""What a dataset is said to be, and what a check found it to be: the wire types of both.

They travel between the daemon and its worker processes and import nothing that reads rows, so the
daemon can hold them without ever loading a reader. A profile holds counts, never a value.
"""

from typing import Annotated, Literal

import msgspec

from protocol.codec import U53, Name, Text, Wire
from protocol.identifiers import IdentifierRule

ColumnName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
ColumnKind = Literal["number", "category"]
FilePath = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class ColumnSpec(Wire, frozen=True, tag="column-spec"):
    """One source column that may enter a computation."""

    name: ColumnName
    kind: ColumnKind


class DatasetSpec(Wire, frozen=True, tag="dataset-spec"):
    """Where the rows are and what they mean.

    `path` is an absolute path to a CSV file (also .gz or .zst) or a Parquet file. `label` names a
    column that holds only 0 and 1, or is empty where the dataset has no labels.
    """

    name: Name
    path: FilePath
    id_column: ColumnName
    id_rule: IdentifierRule = "exact"
    columns: Annotated[tuple[ColumnSpec, ...], msgspec.Meta(max_length=1024)] = ()
    label: Annotated[str, msgspec.Meta(max_length=256)] = ""


class ColumnProfile(Wire, frozen=True, tag="column-profile"):
    """One column as it was found: `width` after encoding, `missing` rows without a value."""

    name: ColumnName
    kind: ColumnKind
    width: U53
    missing: U53


class DatasetProfile(Wire, frozen=True, tag="dataset-profile"):
    """A dataset that passed its check. `width` is the sum over the columns, after encoding."""

    name: Name
    rows: U53
    columns: tuple[ColumnProfile, ...]
    width: U53
    labelled: bool


class CheckDataset(Wire, frozen=True, tag="check-dataset"):
    """Asks the dataset worker for a check; it answers with one of DATASET_REPORTS and leaves."""

    dataset: DatasetSpec


class DatasetRefused(Wire, frozen=True, tag="dataset-refused"):
    """A Fault as it was told in the worker; `data` is its plain values as JSON text."""

    kind: Text
    sentence: Annotated[str, msgspec.Meta(max_length=16_384)]
    data: Annotated[str, msgspec.Meta(max_length=65_536)]


DATASET_REPORTS = (DatasetProfile, DatasetRefused)
"""What the dataset worker may answer."""
