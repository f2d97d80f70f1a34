"""Four nodes with an attested task between them, and workers that only say their lines."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio

from chain import events, projection
from chain.events import Place
from chain.values import TaskTerms
from mpc import operations
from node import (
    assets,
    ledger,
    session_records,
    session_workers,
)
from node.attestations import Attestations
from node.errors import Fault
from node.folder import Folder
from node.house import House
from node.receipts import Receipts
from node.revocations import Revocations
from node.session_jobs import Jobs
from node.sessions import Sessions
from node.workers import messages as m
from protocol import codec, typed_data
from protocol.documents import Algorithm, Column, Metadata, Schema, Step, plan_hash
from protocol.draw import Draw
from protocol.identifiers import row_key
from protocol.ids import SessionId, hexadecimal
from protocol.manifest import Parameters
from protocol.messages import (
    NEGOTIATION_PROTOCOL,
    SESSION_PROTOCOL,
    AttestationAnswer,
    ContractAgreement,
    ContractOffer,
    ContractRequest,
    ContractTermination,
    ManifestSignature,
    SessionDeclined,
    SessionDraw,
    SessionJoined,
    SessionNonce,
    SessionPledged,
    SessionPledges,
    SessionProposal,
)
from protocol.task import SessionState

DATA = {"bank-a": b"\x01" * 32, "bank-b": b"\x02" * 32}
COMPUTE = {
    "bank-a": b"\x03" * 32,
    "bank-b": b"\x04" * 32,
    "regulator-d": b"\x05" * 32,
    "house-e": b"\x06" * 32,
}
ALGORITHM, TASK, BLOCK = b"\x0a" * 32, b"\x0b" * 32, b"\x0c" * 32
PEOPLE = [f"person-{number}" for number in range(4)]
NOW = 1_800_000_000
PARAMETERS = Parameters(
    width=2,
    epochs=2,
    batch_rows=32,
    noise=0.3,
    clip=8.0,
    gradient_clip=0.3,
    learning_rate=4.0,
    holdout=0.3,
    engine="lane",
    evaluation_engine="mpyc",
    field="m61",
)


@dataclass
class ScriptedWorker:
    """Says its lines: ready at once, aligned when told the roster, finished when told to run."""

    role: str
    organisation: str
    world: "World"
    told: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self._in, self._out = trio.open_memory_channel[object](100)

    async def send(self, message) -> None:
        self.told.append(message)
        if isinstance(message, m.Start):
            self.world.workers.append(self)
            self.say(m.Ready(certificate=secrets.token_bytes(64),
                             session_key=secrets.token_bytes(32), port=self.world.port()))  # fmt: skip  # noqa: E501
        elif isinstance(message, m.Proceed) and self.role != "member" and self.world.brings:
            self.say(self.world.sized())
        elif isinstance(message, m.Proceed | m.Mask) and self.role != "member":
            self.say(self.world.aligned(self))
        elif isinstance(message, m.Run) and self.world.finish:
            self.say(m.Finished(summary=m.MemberSummary(rounds=1, numbers=1, engines=("lane",),
                                                        seconds=0.1)))  # fmt: skip

    def say(self, report) -> None:
        self._in.send_nowait(report)

    def die(self) -> None:
        self._in.close()

    async def report(self):
        try:
            found = await self._out.receive()
        except trio.EndOfChannel:
            return None
        if isinstance(found, Exception):
            raise found
        return found

    async def reports(self) -> AsyncIterator[object]:
        while (found := await self.report()) is not None:
            yield found


@dataclass
class World:
    """Four nodes with an attested task between them; what the scripted workers will say."""

    nodes: dict
    houses: dict = field(default_factory=dict)
    sessions: dict = field(default_factory=dict)
    revocations: dict = field(default_factory=dict)
    workers: list[ScriptedWorker] = field(default_factory=list)
    alive: int = 0
    started: int = 0
    finish: bool = True
    people: list[str] = field(default_factory=lambda: list(PEOPLE))
    brings: dict[str, int] = field(default_factory=dict)
    row_set_hash: bytes = b"\x33" * 32

    def port(self) -> int:
        self.started += 1
        return 20_000 + self.started

    def aligned(self, worker: ScriptedWorker) -> m.Aligned:
        keys = b""
        if worker.role == "contributor":
            order = sorted(self.people, key=lambda _: secrets.token_bytes(4))
            keys = b"".join(row_key(b"k" * 32, name) for name in order)
        return m.Aligned(rows_hash=self.row_set_hash, rows=len(self.people), row_keys=keys)

    def sized(self) -> m.Sized:
        """What the parties bring; a worker says it where `brings` tells how many ids."""
        roles = {
            name: "recipient" if name == "fintech-c" else "contributor" for name in self.brings
        }
        return m.Sized(
            brought=tuple(
                m.BroughtIds(party=f"{name}/{roles[name]}", ids=ids)
                for name, ids in self.brings.items()
            )
        )

    def worker(self, organisation: str, role: str) -> ScriptedWorker:
        return [w for w in self.workers if (w.organisation, w.role) == (organisation, role)][-1]

    def attestation(self):
        return self.houses["fintech-c"].attestations.kept(self.nodes["fintech-c"].engine.db, TASK)

    def proposal(self, **changes) -> SessionProposal:
        plain = SessionProposal(
            session=secrets.token_bytes(32), attempt=0, attestation=self.attestation()
        )
        return msgspec.structs.replace(plain, **changes)

    async def ask(self, by: str, whom: str, message):
        host = self.nodes[by].host
        peer_id = self.nodes[whom].key.peer_id
        data = await host.request(peer_id, SESSION_PROTOCOL, codec.encode(message), timeout_s=60)
        return codec.decode(
            data,
            *(SessionPledged, SessionNonce, SessionJoined, SessionDeclined, ManifestSignature),
            limit=1 << 20,
        )

    async def drawn(self, proposal: SessionProposal | None = None) -> SessionDraw:
        """The draw of a session that fintech-c proposes by hand, with all owners' part in it."""
        proposal = proposal or self.proposal()
        pledges = []
        for bank in sorted(DATA, key=lambda name: self.nodes[name].account):
            answer = await self.ask("fintech-c", bank, proposal)
            assert isinstance(answer, SessionPledged), answer
            pledges.append(answer.pledge)
        reveal = SessionPledges(session=proposal.session, pledges=tuple(pledges))
        nonces = []
        for bank in sorted(DATA, key=lambda name: self.nodes[name].account):
            answer = await self.ask("fintech-c", bank, reveal)
            assert isinstance(answer, SessionNonce), answer
            nonces.append(answer.nonce)
        draw = Draw(pledges=reveal.pledges, nonces=tuple(nonces))
        return SessionDraw(proposal=proposal, draw=draw)

    def state(self, name: str, session: bytes) -> session_records.SessionRecord:
        return session_records.known(self.nodes[name].engine.db, session)

    async def ended(
        self, session: bytes, timeout_s: float = 10.0, names: tuple[str, ...] = ()
    ) -> dict[str, SessionState]:
        """How the session stands at `names` (all) once it is over there, and no worker is left."""
        nodes = {name: self.nodes[name] for name in names or self.nodes}

        def over() -> bool:
            records = [session_records.find(n.engine.db, session) for n in nodes.values()]
            return all(r is not None and r.state in ("COMPLETED", "ABORTED") for r in records)

        with trio.move_on_after(timeout_s) as scope:
            while not over() or self.alive:  # noqa: ASYNC110
                await trio.sleep(0.05)
        records = {name: session_records.find(n.engine.db, session) for name, n in nodes.items()}
        told = {name: found and (found.state, found.reason) for name, found in records.items()}
        assert not scope.cancelled_caught, (self.alive, told)
        return {name: self.state(name, session).state for name in nodes}

    async def start(self) -> SessionId:
        return await self.sessions["fintech-c"].start(TASK, None)

    def live(self, name: str, session: bytes):
        return self.sessions[name].participation.live[session]

    def spent(self, name: str = "bank-a") -> set[int]:
        keys = [row_key(b"k" * 32, each) for each in PEOPLE]
        return set(ledger.spent(self.nodes[name].engine.db, keys).values())


def compute_of(nodes) -> dict[str, bytes]:
    """The compute asset of each of `nodes` that has one."""
    return {owner: cdt for owner, cdt in COMPUTE.items() if owner in nodes}


def document(node, kind: str, name: str, **parts) -> Metadata:
    return Metadata(
        type=kind,
        name=name,
        description="",
        author=node.name,
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint=node.key.peer_id,
        **parts,
    )


def algorithm_of(nodes, parameters: Parameters, seats: int = 3) -> Algorithm:
    def step(cdt: bytes, operation: str, given: Parameters | None = None) -> Step:
        code = hexadecimal(operations.installed(operation).code)
        return Step(cdt=hexadecimal(cdt), operation=operation, code=code, parameters=given)

    steps = [step(cdt, "shared-features", parameters) for cdt in DATA.values()]
    steps += [step(cdt, "committee-member") for cdt in compute_of(nodes).values()]
    return Algorithm(
        workflow=tuple(steps),
        pool=tuple(hexadecimal(cdt) for cdt in compute_of(nodes).values()),
        seats=seats,
        threshold=1,
        cohort_floor=1000,
        recipient=hexadecimal(nodes["fintech-c"].account),
        purpose="risk",
        labels="seen-by-owners",
        top_model="0x" + "00" * 32,
    )


def publish(nodes, algorithm: Algorithm) -> None:
    schema = Schema(
        columns=tuple(Column(name=n, kind="number", width=1) for n in ("Age", "Income")),
        rows_about=2000,
    )
    children = tuple(sorted(step.cdt for step in algorithm.workflow))
    c = nodes["fintech-c"]
    for node in nodes.values():
        for owner, cdt in DATA.items():
            leaf = document(nodes[owner], "data", "facts", schema=schema)
            node.registered(cdt, nodes[owner].account, leaf)
        for owner, cdt in compute_of(nodes).items():
            node.registered(cdt, nodes[owner].account, document(nodes[owner], "compute", "seat"))
        root = document(c, "algorithm", "risk", children=children, algorithm=algorithm)
        node.registered(ALGORITHM, c.account, root)
    for owner, cdt in (*DATA.items(), *compute_of(nodes).items()):
        nodes[owner].engine.db.execute(
            "INSERT INTO own_assets VALUES (?, '', 'facts', x'', '', ?)", [cdt, NOW]
        )


def request_for(nodes, child: bytes, **changes) -> ContractRequest:
    c = nodes["fintech-c"]
    plain = ContractRequest(
        process=secrets.token_bytes(32),
        child=child,
        parent=ALGORITHM,
        parent_proof=assets.find(c.engine.db, ALGORITHM).proof,
        consumer=c.account,
        attester=nodes["regulator-d"].account,
        decider=b"\xab" * 20,
        pay_amount=str(10**18),
        uses=1,
        expires=NOW + 5000,
    )
    return msgspec.structs.replace(plain, **changes)


async def negotiated(nodes, owner: str, child: bytes, **changes):
    request = codec.encode(request_for(nodes, child, **changes))
    data = await nodes["fintech-c"].host.request(
        nodes[owner].key.peer_id, NEGOTIATION_PROTOCOL, request, timeout_s=1
    )
    return codec.decode(data, ContractAgreement, ContractOffer, ContractTermination)


def confirmed_task(nodes, algorithm: Algorithm, deadline: int) -> None:
    """As if every node's follower had taken the blocks with the task and its attestation."""
    c, d = nodes["fintech-c"], nodes["regulator-d"]
    terms = TaskTerms(
        cdt=ALGORITHM, consumer=c.account, opener=c.account, recipient=c.account,
        decider=b"\xab" * 20, token=b"\x33" * 20, budget=10**20, deadline=deadline, salt=bytes(32),
    )  # fmt: skip
    for node in nodes.values():
        at = Place(1, BLOCK, bytes(32), 0)
        node.engine.db.execute(
            "INSERT INTO chain_logs VALUES (1, 0, ?, x'', x'', x'', x'')", [BLOCK]
        )
        opened = events.Opened(at, TASK, ALGORITHM, c.account, terms)
        attested = events.Attested(at, TASK, d.account, plan_hash(algorithm), ())
        projection.apply_all(node.engine.db, [opened, attested])
        pass_time(node, NOW)


def pass_time(node, timestamp: int) -> None:
    node.engine.db.execute(
        "INSERT INTO chain_blocks VALUES (?, ?, x'', ?)",
        [timestamp, secrets.token_bytes(32), timestamp],
    )


@pytest.fixture
async def world(nodes, tmp_path: Path, monkeypatch, nursery) -> World:
    found = World(nodes)
    algorithm = algorithm_of(nodes, PARAMETERS)
    publish(nodes, algorithm)
    for owner, cdt in (*DATA.items(), *compute_of(nodes).items()):
        assert isinstance(await negotiated(nodes, owner, cdt), ContractAgreement)
    confirmed_task(nodes, algorithm, NOW + 4000)

    @asynccontextmanager
    async def scripted(
        module: str, stderr_path: Path, **_: object
    ) -> AsyncIterator[ScriptedWorker]:
        found.alive += 1
        try:
            yield ScriptedWorker(module.rpartition(".")[2], stderr_path.parents[2].name, found)
        finally:
            found.alive -= 1

    monkeypatch.setattr(session_workers, "open_worker", scripted)
    for name, node in nodes.items():
        found.houses[name] = house = house_of(node, tmp_path / name)
        found.sessions[name] = sessions = Sessions(house, node.host, nursery)
        found.revocations[name] = Revocations(house, node.host, NoChain(), sessions)
        nursery.start_soon(node.engine.run)
    attest(found, algorithm, NOW + 4000)
    return found


class NoChain:
    """A chain that cannot be reached."""

    trouble = "the chain is away"

    def enqueue(self, *_: object) -> bool:
        raise Fault("chain-unreachable", self.trouble)


def house_of(node, path: Path) -> House:
    path.mkdir()
    chain, signer = node.config.chain, node.grants.signer
    key, folder = b"k" * 32, Folder(path)
    receipts = Receipts(node.engine, signer.market)
    receipts.signer = signer
    (path / "sessions").mkdir()
    config = node.config
    if node.name == "fintech-c":
        config = msgspec.structs.replace(config, datasets=())
    return House(
        engine=node.engine,
        config=config,
        chain=chain,
        directory=node.directory,
        folder=folder,
        key=node.key,
        judging=node.judging,
        grants=node.grants,
        attestations=Attestations(node.engine, node.host, node.directory, config, chain),
        receipts=receipts,
        jobs=StubbornJobs(config, node.directory, folder, node.judging, key),
        row_key=key,
    )


class StubbornJobs(Jobs):
    """The recipient's dataset does not matter to a scripted worker."""

    def _recipient(self, live):
        return m.MemberJob()


def attest(world: World, algorithm: Algorithm, deadline: int) -> None:
    signer = world.nodes["regulator-d"].grants.signer
    message = typed_data.Attestation(task=TASK, plan_hash=plan_hash(algorithm), deadline=deadline)
    answer = AttestationAnswer(
        task=TASK, plan=message.plan_hash, deadline=deadline, attester=signer.account,
        signature=signer.sign(signer.market, message),
    )  # fmt: skip
    for house in world.houses.values():
        with house.engine.transaction() as tx:
            house.attestations.keep(tx, answer)


async def gathered(world: World, name: str, session: bytes, holds: Callable) -> None:
    with trio.fail_after(10):
        while not holds(world.sessions[name].participation.live.get(session)):  # noqa: ASYNC110
            await trio.sleep(0.01)
