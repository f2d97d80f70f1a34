import gzip
from pathlib import Path

import duckdb
import numpy as np
import pytest

from node.dataset_spec import ColumnSpec, DatasetSpec
from node.datasets import load, profile
from node.errors import Fault

ROWS = "id,income,job,bad\n 1,2,a,0\n2,,b,1\n3,NA,,1\n4,3e2,b,0\n"


def spec(path: Path, label: str = "bad", **changed: str) -> DatasetSpec:
    return DatasetSpec(
        name="applicants",
        path=str(path),
        id_column=changed.get("id_column", "id"),
        id_rule="trimmed",
        columns=(
            ColumnSpec(name=changed.get("number", "income"), kind="number"),
            ColumnSpec(name="job", kind="category"),
        ),
        label=label,
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def test_rows_are_typed_and_keep_the_order_of_the_file(table: Path) -> None:
    dataset = load(spec(table))
    assert dataset.ids == ["1", "2", "3", "4"]
    np.testing.assert_array_equal(dataset.columns["income"], [2, np.nan, np.nan, 300])
    assert list(dataset.columns["job"]) == ["a", "b", None, "b"]
    assert dataset.labels is not None
    assert list(dataset.labels) == [0, 1, 1, 0]
    some = dataset.at(np.array([3, 0], np.uint32))
    assert some.ids == ["4", "1"]
    assert list(some.columns["job"]) == ["b", "a"]


def test_a_profile_counts_and_tells_no_value(table: Path) -> None:
    found = profile(spec(table))
    assert (found.rows, found.width, found.labelled) == (4, 5, True)
    assert [(column.width, column.missing) for column in found.columns] == [(2, 2), (3, 1)]
    assert "300" not in repr(found)


def test_parquet_and_gzip_read_like_csv(table: Path, tmp_path: Path) -> None:
    packed, parquet = tmp_path / "rows.csv.gz", tmp_path / "rows.parquet"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    duckdb.read_csv(str(table)).write_parquet(str(parquet))
    plain = load(spec(table))
    for other in (packed, parquet):
        again = load(spec(other))
        assert again.ids == plain.ids
        np.testing.assert_array_equal(again.columns["income"], plain.columns["income"])


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("id,income,job,bad\n", "dataset-empty", "no row"),
        ("id,job,bad\n1,a,0\n", "dataset-column-missing", "no column 'income'"),
        ("id,income,job,bad\n1,2,a,0\n ,2,a,0\n", "dataset-id-empty", "row 2"),
        ("id,income,job,bad\n1,2,a,0\n 1,2,a,0\n", "dataset-id-duplicate", "rows 1 and 2"),
        ("id,income,job,bad\n1,2,a,0\n2,much,a,0\n", "dataset-not-numeric", "row 2.*'income'"),
        ("id,income,job,bad\n1,2,a,0\n2,-inf,a,0\n", "dataset-not-finite", "row 2.*infinite"),
        ("id,income,job,bad\n1,2,a,0\n2,1,a,2\n", "dataset-label-invalid", "row 2.*'bad'"),
        ("id,income,job,bad\n1,2,a,0\n2,1,a,\n", "dataset-label-invalid", "row 2"),
        ("id,income,job,bad\n1,2,a,0\n2,1\n3,4,5,6,7\n", "dataset-file-unreadable", "read"),
        ("id,income,job,bad\n1,2,a,0\n2,2,b,0\n", "dataset-empty", "same number"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path: Path, text: str, kind: str, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(Fault, match=says) as told:
        profile(spec(path))
    assert told.value.kind == kind
    assert "much" not in str(told.value)


def test_a_file_that_is_not_there_or_no_table(tmp_path: Path) -> None:
    cases = {
        tmp_path / "absent.csv": "dataset-file-missing",
        tmp_path: "dataset-file-unreadable",
        tmp_path / "rows.xls": "dataset-file-unreadable",
        tmp_path / "rows*.csv": "dataset-file-unreadable",
        tmp_path / "noise.csv": "dataset-file-unreadable",
        tmp_path / "noise.parquet": "dataset-file-unreadable",
    }
    for name in ("rows.xls", "rows*.csv", "noise.csv", "noise.parquet"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 8)
    for path, kind in cases.items():
        with pytest.raises(Fault) as told:
            load(spec(path))
        assert told.value.kind == kind, path


def test_an_odd_column_name_is_a_name_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,"a""; DROP",job,bad\n1,5,x,0\n2,6,y,1\n')
    assert list(load(spec(path, number='a"; DROP')).columns['a"; DROP']) == [5, 6]
