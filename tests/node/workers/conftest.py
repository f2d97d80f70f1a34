"""Real worker processes of one session, with this test as the daemon of every party."""

import csv
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import trio
from nacl.signing import SigningKey

from mpc.supervisor import Worker, open_worker
from node.dataset_spec import ColumnSpec, DatasetSpec
from node.workers import messages as m
from protocol.codec import Wire, digest, encode
from protocol.draw import Draw
from protocol.envelope import open_signed, seal
from protocol.manifest import Parameters, Party, Roster, RowSet

ENTRIES = Path(__file__).parent / "entries"
CONTRIBUTORS = ("bank-a/contributor", "bank-b/contributor")
MEMBERS = ("bank-a/member", "bank-b/member", "regulator-d/member")
RECIPIENT = "fintech-c/recipient"
PARTIES = (*CONTRIBUTORS, *MEMBERS, RECIPIENT)

PARAMETERS = Parameters(
    width=2,
    epochs=2,
    batch_rows=32,
    noise=0.3,
    clip=8.0,
    gradient_clip=0.3,
    learning_rate=6.0,
    holdout=0.3,
    engine="lane",
    evaluation_engine="mpyc",
    field="m61",
)


@dataclass(frozen=True)
class Plan:
    """What a session is run with; `modules` replaces the entry module of some parties.

    `announce` is the host in the roster, `peers` the peer id of an organisation that has one.
    """

    datasets: Mapping[str, DatasetSpec]
    folder: Path
    parameters: Parameters = PARAMETERS
    parties: tuple[str, ...] = PARTIES
    threshold: int = 1
    modules: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: m.OwnerLimits = field(default_factory=lambda: m.OwnerLimits(cohort_floor=20))
    cohort_floor: int = 20
    round_deadline_s: int = 10
    alignment_deadline_s: int = 30
    size_cap: int = 100_000
    seed: int = 1
    announce: str = "127.0.0.1"
    peers: Mapping[str, str] = field(default_factory=dict)

    def replaced(self, **changes: object) -> "Plan":
        return replace(self, **changes)


class RunningSession:
    """Six workers and everything that they reported."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.workers: dict[str, Worker] = {}
        self.reports: dict[str, list[Wire]] = {party: [] for party in plan.parties}
        self.ended: dict[str, float] = {}
        self.keys = {party: SigningKey.generate() for party in plan.parties}
        self.roster: Roster | None = None
        self.entrances: dict[str, str] = {}
        self.arrived = trio.Event()
        self.on_report: Callable[[str, Wire], None] = lambda _party, _report: None
        self.counts: Callable[[str], bool] = lambda _party: True

    def of(self, party: str, kind: type) -> list:
        return [report for report in self.reports[party] if isinstance(report, kind)]

    def end_of(self, party: str) -> Wire | None:
        return self.reports[party][-1] if self.reports[party] else None

    def failures(self) -> dict[str, m.Failed]:
        return {p: r[-1] for p, r in self.reports.items() if r and isinstance(r[-1], m.Failed)}

    def summary(self, party: str):
        last = self.end_of(party)
        assert isinstance(last, m.Finished), f"{party}: {last}"
        return last.summary

    async def start(self, stack: AsyncExitStack) -> None:
        for party in self.plan.parties:
            module = self.plan.modules.get(party, f"node.workers.{party.split('/')[1]}")
            environment = {"PYTHONPATH": str(ENTRIES), **self.plan.environment}
            self.workers[party] = await stack.enter_async_context(
                open_worker(
                    module,
                    reports=m.FROM_WORKER,
                    limit=m.REPORT_LIMIT_BYTES,
                    stderr_path=self.plan.folder / f"{party.replace('/', '-')}.log",
                    environment=environment,
                )
            )
        for worker in self.workers.values():
            await worker.send(m.Start(listen_host="127.0.0.1"))
        ready = {party: await worker.report() for party, worker in self.workers.items()}
        self.roster = self._roster(ready)

    def _roster(self, ready: Mapping[str, m.Ready]) -> Roster:
        parties = tuple(
            Party(
                role=party.split("/")[1],
                organisation=party.split("/")[0],
                account=place.to_bytes(20, "big"),
                peer_id=self.plan.peers.get(party.split("/")[0], f"peer{place + 1}x"),
                certificate=ready[party].certificate,
                session_key=ready[party].session_key,
                address=f"{self.plan.announce}:{ready[party].port}",
            )
            for place, party in enumerate(self.plan.parties)
        )
        return Roster(
            session=os.urandom(32),
            task=bytes(32),
            algorithm=bytes(32),
            plan=bytes(32),
            attestation=bytes(32),
            attested_in=bytes(32),
            attempt=1,
            draw=Draw(pledges=(), nonces=()),  # the daemons have checked it before
            parties=parties,
            helper=self.plan.parties[-2],
            threshold=self.plan.threshold,
            operation="shared-features",
            code=bytes(32),
            parameters=self.plan.parameters,
            size_cap=self.plan.size_cap,
            cohort_floor=self.plan.cohort_floor,
            round_deadline_s=self.plan.round_deadline_s,
            alignment_deadline_s=self.plan.alignment_deadline_s,
        )

    def agreed(self, value: Wire) -> bytes:
        """The bytes of a manifest part after every party has signed it and all was checked."""
        for key in self.keys.values():
            signed = seal(value, key)
            assert open_signed(signed, type(value), key=bytes(key.verify_key)) == value
        return encode(value)

    async def proceed(self) -> None:
        data = self.agreed(self.roster)
        for party, worker in self.workers.items():
            entrance = self.entrances.get(party.split("/")[0], "")
            job = self._job(party)
            await worker.send(m.Proceed(roster=data, me=party, job=job, entrance=entrance))

    def _job(self, party: str):
        organisation, role = party.split("/")
        folder = self.plan.folder / party.replace("/", "-")
        folder.mkdir(exist_ok=True)
        if role == "contributor":
            return m.ContributorJob(
                dataset=self.plan.datasets[organisation],
                row_key=organisation.encode().ljust(32, b"k"),
                folder=str(folder),
                limits=self.plan.limits,
            )
        if role == "recipient":
            return m.RecipientJob(
                dataset=self.plan.datasets[organisation], folder=str(folder), seed=self.plan.seed
            )
        return m.MemberJob()

    async def listen(self, party: str) -> None:
        async for report in self.workers[party].reports():
            self.reports[party].append(report)
            self.on_report(party, report)
            if isinstance(report, m.Sized) and self.counts(party):
                await self.workers[party].send(m.Mask())
            if isinstance(report, m.Aligned | m.Failed):
                self.arrived.set()
                self.arrived = trio.Event()
        self.ended[party] = trio.current_time()
        self.arrived.set()
        self.arrived = trio.Event()

    async def run(self) -> None:
        """From the roster to the end of every worker."""
        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                for party in self.workers:
                    nursery.start_soon(self.listen, party)
                await self.proceed()
                if await self._all_aligned():
                    await self._run_rounds()

    async def _all_aligned(self) -> bool:
        aligning = [p for p in self.plan.parties if not p.endswith("/member")]
        while True:
            if self.ended or any(self.of(p, m.Failed) for p in self.plan.parties):
                return False
            if all(self.of(p, m.Aligned) for p in aligning):
                return True
            await self.arrived.wait()

    def row_set(self) -> RowSet:
        aligned = self.of(self.plan.parties[-1], m.Aligned)[0]
        return RowSet(
            roster=digest(self.roster),
            rows_hash=aligned.rows_hash,
            rows=aligned.rows,
            lineage=bytes(range(32)),
            receipt=b"receipt",
        )

    async def _run_rounds(self) -> None:
        data = self.agreed(self.row_set())
        for worker in self.workers.values():
            try:
                await worker.send(m.Run(row_set=data))
            except Exception:  # noqa: BLE001, S112  (killed by the test itself)
                continue


@asynccontextmanager
async def opened(plan: Plan) -> AsyncIterator[RunningSession]:
    async with AsyncExitStack() as stack:
        session = RunningSession(plan)
        await session.start(stack)
        yield session


@pytest.fixture
def harness():
    """(Plan, opened, the names): what a test of sessions needs, without importing this file."""
    return Harness


class Harness:
    contributors = CONTRIBUTORS
    members = MEMBERS
    recipient = RECIPIENT
    parties = PARTIES
    parameters = PARAMETERS
    plan = Plan
    opened = staticmethod(opened)

    @staticmethod
    def changed(**changes: object) -> Parameters:
        return msgspec.structs.replace(PARAMETERS, **changes)

    @staticmethod
    async def finished(plan: Plan) -> RunningSession:
        async with opened(plan) as session:
            await session.run()
        return session


def write_rows(path: Path, ids: Iterable[str], columns: Mapping[str, np.ndarray]) -> None:
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", *columns])
        for place, identifier in enumerate(ids):
            lines.writerow([identifier, *(f"{c[place]:.6g}" for c in columns.values())])


def spec(name: str, path: Path, columns: Iterable[str], label: str = "") -> DatasetSpec:
    return DatasetSpec(
        name=name,
        path=str(path),
        id_column="id",
        columns=tuple(ColumnSpec(name=c, kind="number") for c in columns),
        label=label,
    )


@pytest.fixture
def small(tmp_path: Path) -> Plan:
    """300 invented people, of whom each party lacks some of its own; 240 are common."""
    random = np.random.default_rng(5)
    facts = random.standard_normal((300, 5))
    label = (facts[:, 0] + facts[:, 3] + 0.5 * random.standard_normal(300) > 0).astype(float)
    held = {"bank-a": (0, 2), "bank-b": (2, 5), "fintech-c": (5, 5)}
    datasets = {}
    for place, (organisation, (first, last)) in enumerate(held.items()):
        rows = random.permutation(
            np.setdiff1d(np.arange(300), np.arange(place * 20, place * 20 + 20))
        )
        columns = {f"fact{c}": facts[rows, c] for c in range(first, last)}
        names = list(columns)
        if organisation == "fintech-c":
            columns["bad"] = label[rows]
        path = tmp_path / f"{organisation}.csv"
        write_rows(path, [f"person-{row:04d}" for row in rows], columns)
        datasets[organisation] = spec(organisation, path, names, "bad" if not names else "")
    return Plan(datasets=datasets, folder=tmp_path)
