"""Alignment of three parties' ids by the product's own worker processes, over pinned mutual TLS.

Two owners and the recipient bring 100,000 ids each, of which 90 % are common; three members stand
by, one of them the helper. All run on this machine. The clock starts when every daemon has allowed
its worker to mask, and stops when the last party knows its rows.
`python -m tests.bench.alignment` prints the figure.
"""

import json
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from mpc.supervisor import Worker, open_worker
from node.dataset_spec import ColumnSpec, DatasetSpec
from node.workers import messages as m
from protocol.codec import encode
from protocol.draw import Draw
from protocol.manifest import Parameters, Party, Roster

IDS, COMMON = 100_000, 90_000
OWNERS = ("bank-a/contributor", "bank-b/contributor")
MEMBERS = ("house-1/member", "house-2/member", "house-3/member")
RECIPIENT = "fintech-c/recipient"
ALIGNING = (*OWNERS, RECIPIENT)
TIMES = 2
LIMIT_S = 300
PARAMETERS = Parameters(
    width=2, epochs=2, batch_rows=64, noise=0.3, clip=8.0, gradient_clip=0.3, learning_rate=4.0,
    holdout=0.3, engine="lane", evaluation_engine="lane", field="m61",
)  # fmt: skip


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        for place, party in enumerate(ALIGNING):
            write_rows(folder / f"{place}.csv", place, labelled=party == RECIPIENT)
        runs = [trio.run(alignment, folder) for _ in range(TIMES)]
    seconds, busy_s, most_mb = min(runs)
    return {
        "align.ids_per_s": {
            "value": round(IDS / seconds),
            "unit": "ids/s",
            "baseline": None,
            "ratio": None,
            "what": f"a side, 3 parties of {IDS:,} ids on one machine, {COMMON:,} common, best of "
            f"{TIMES} (at least 4,000); {busy_s:.1f} s of processor time in all workers, "
            f"{most_mb:.0f} MB at most in one",
        }
    }


def write_rows(path: Path, place: int, *, labelled: bool) -> None:
    """COMMON ids that all have and the rest of this party's own, in an order of its own."""
    numbers = [*range(COMMON), *(IDS * (place + 1) + own for own in range(IDS - COMMON))]
    turned = numbers[place * 1000 :] + numbers[: place * 1000]
    column = "bad" if labelled else "fact"
    rows = (f"{number:09d},{number % 2}\n" for number in turned)
    path.write_text(f"id,{column}\n{''.join(rows)}", "utf-8")


async def alignment(folder: Path) -> tuple[float, float, float]:
    """The seconds that it took, of the processors too, and the most memory of a worker in MB."""
    async with AsyncExitStack() as stack:
        workers = {
            party: await stack.enter_async_context(
                open_worker(
                    f"node.workers.{party.partition('/')[2]}",
                    reports=m.FROM_WORKER,
                    limit=m.REPORT_LIMIT_BYTES,
                    stderr_path=folder / f"{party.replace('/', '-')}.log",
                )
            )
            for party in (*ALIGNING, *MEMBERS)
        }
        with trio.fail_after(LIMIT_S):
            await proceed(workers, folder)
            for party in ALIGNING:
                await heard(workers[party], m.Sized)
            began, before = time.perf_counter(), sum(map(cpu_s, workers.values()))
            async with trio.open_nursery() as nursery:
                for party in ALIGNING:
                    await workers[party].send(m.Mask())
                    nursery.start_soon(aligned, workers[party])
            seconds = time.perf_counter() - began
        busy_s = sum(map(cpu_s, workers.values())) - before
        return seconds, busy_s, max(peak_mb(worker) for worker in workers.values())


async def proceed(workers: dict[str, Worker], folder: Path) -> None:
    for worker in workers.values():
        await worker.send(m.Start(listen_host="127.0.0.1"))
    ready = {party: await heard(worker, m.Ready) for party, worker in workers.items()}
    parties = tuple(
        Party(
            role=party.partition("/")[2],
            organisation=party.partition("/")[0],
            account=place.to_bytes(20, "big"),
            peer_id=f"peer{place + 1}",
            certificate=ready[party].certificate,
            session_key=ready[party].session_key,
            address=f"127.0.0.1:{ready[party].port}",
        )
        for place, party in enumerate(workers)
    )
    roster = Roster(
        session=os.urandom(32), task=bytes(32), algorithm=bytes(32), plan=bytes(32),
        attestation=bytes(32), attested_in=bytes(32), attempt=0, draw=Draw(pledges=(), nonces=()),
        parties=parties, helper=MEMBERS[0], threshold=1, operation="shared-features",
        code=bytes(32), parameters=PARAMETERS, size_cap=IDS, cohort_floor=1000,
        round_deadline_s=60, alignment_deadline_s=LIMIT_S,
    )  # fmt: skip
    for party, worker in workers.items():
        await worker.send(m.Proceed(roster=encode(roster), me=party, job=job(party, folder)))


def job(party: str, folder: Path) -> m.ContributorJob | m.MemberJob | m.RecipientJob:
    if party in MEMBERS:
        return m.MemberJob()
    labelled = party == RECIPIENT
    dataset = DatasetSpec(
        name="people",
        path=str(folder / f"{ALIGNING.index(party)}.csv"),
        id_column="id",
        columns=() if labelled else (ColumnSpec(name="fact", kind="number"),),
        label="bad" if labelled else "",
    )
    if labelled:
        return m.RecipientJob(dataset=dataset, folder=str(folder), seed=1)
    return m.ContributorJob(dataset=dataset, row_key=bytes(32), folder=str(folder))


async def aligned(worker: Worker) -> None:
    found = await heard(worker, m.Aligned)
    if found.rows != COMMON:
        raise SystemExit(f"{found.rows} rows are common, {COMMON} should be")


async def heard(worker: Worker, kind: type) -> m.Ready | m.Sized | m.Aligned:
    """The worker's next report that tells of no mere progress; it must be a `kind`."""
    while isinstance(report := await worker.report(), m.Progress):
        continue
    if not isinstance(report, kind):
        raise SystemExit(f"{report} came where {kind.__name__} was due")
    return report


def cpu_s(worker: Worker) -> float:
    fields = Path(f"/proc/{worker.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(worker: Worker) -> float:
    status = Path(f"/proc/{worker.pid}/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))  # noqa: T201
