from pathlib import Path

import trio

from mpc.supervisor import open_worker
from node.dataset_spec import (
    DATASET_REPORTS,
    CheckDataset,
    ColumnSpec,
    DatasetProfile,
    DatasetRefused,
    DatasetSpec,
)


async def ask(path: Path) -> object:
    spec = DatasetSpec(
        name="rows",
        path=str(path),
        id_column="id",
        columns=(ColumnSpec(name="income", kind="number"),),
    )
    with trio.fail_after(30):
        async with open_worker("node.workers.dataset", reports=DATASET_REPORTS, limit=1 << 20) as w:
            await w.send(CheckDataset(dataset=spec))
            report = await w.report()
            assert await w.wait() == 0
            return report


async def test_the_worker_reports_counts_or_the_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,income\n1,2\n2,\n3,7\n")
    found = await ask(path)
    assert isinstance(found, DatasetProfile)
    assert (found.rows, found.width, found.columns[0].missing) == (3, 2, 1)
    path.write_text("id,income\n1,2\n1,3\n")
    refused = await ask(path)
    assert isinstance(refused, DatasetRefused)
    assert refused.kind == "dataset-id-duplicate"
    assert "rows 1 and 2" in refused.sentence


async def test_the_worker_leaves_when_nobody_asks(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_worker(
            "node.workers.dataset",
            reports=DATASET_REPORTS,
            limit=1 << 20,
            stderr_path=tmp_path / "log",
        ) as worker:
            process = worker._process
    assert process.returncode is not None
