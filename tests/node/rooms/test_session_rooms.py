"""Sessions against hostile nodes: the rooms of four nodes, with workers that only say their lines.

Every test is an attack by bytes from a peer, or a death in the middle; the real workers have
their own tests, and the real daemons theirs.
"""

import json
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
    judging,
    ledger,
    negotiation_provider,
    negotiation_records,
    session_records,
    session_workers,
    traces,
)
from node.attestations import Attestations
from node.errors import Fault
from node.folder import Folder
from node.house import House
from node.participation import MAX_LIVE_OF_A_LEADER
from node.receipts import Receipts
from node.row_set_rules import lineage_of
from node.session_jobs import Jobs, folder_of
from node.session_rules import MAX_SESSIONS_OF_A_TASK
from node.session_workers import LEADER_GONE_S, STEP_MOST_S
from node.sessions import Sessions
from node.workers import messages as m
from protocol import codec, typed_data
from protocol.documents import Algorithm, Column, Metadata, Schema, Step, plan_hash
from protocol.draw import Draw
from protocol.errors import RemoteProtocolError
from protocol.identifiers import row_key
from protocol.ids import SessionId, hexadecimal
from protocol.manifest import Parameters, RowSet
from protocol.messages import (
    NEGOTIATION_PROTOCOL,
    SESSION_PROTOCOL,
    AttestationAnswer,
    ContractAgreement,
    ContractOffer,
    ContractRequest,
    ContractTermination,
    ManifestOffer,
    ManifestSignature,
    SessionAbort,
    SessionDeclined,
    SessionDraw,
    SessionJoined,
    SessionNonce,
    SessionPledged,
    SessionPledges,
    SessionProposal,
)
from protocol.task import SessionState

pytestmark = pytest.mark.usefixtures("autojump_clock")
DATA = {"bank-a": b"\x01" * 32, "bank-b": b"\x02" * 32}
COMPUTE = {"bank-a": b"\x03" * 32, "bank-b": b"\x04" * 32, "regulator-d": b"\x05" * 32}
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
        elif isinstance(message, m.Proceed) and self.role != "member":
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
    workers: list[ScriptedWorker] = field(default_factory=list)
    alive: int = 0
    started: int = 0
    finish: bool = True
    people: list[str] = field(default_factory=lambda: list(PEOPLE))
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

    async def ended(self, session: bytes, timeout_s: float = 10.0) -> dict[str, SessionState]:
        """How the session stands everywhere once it is over everywhere, and no worker is left."""

        def over() -> bool:
            records = [session_records.find(n.engine.db, session) for n in self.nodes.values()]
            return all(r is not None and r.state in ("COMPLETED", "ABORTED") for r in records)

        with trio.move_on_after(timeout_s) as scope:
            while not over() or self.alive:  # noqa: ASYNC110
                await trio.sleep(0.05)
        records = {
            name: session_records.find(n.engine.db, session) for name, n in self.nodes.items()
        }
        assert not scope.cancelled_caught, (self.alive, records)
        return {name: self.state(name, session).state for name in self.nodes}

    async def start(self) -> SessionId:
        return await self.sessions["fintech-c"].start(TASK, None)

    def live(self, name: str, session: bytes):
        return self.sessions[name].participation.live[session]

    def spent(self, name: str = "bank-a") -> set[int]:
        keys = [row_key(b"k" * 32, each) for each in PEOPLE]
        return set(ledger.spent(self.nodes[name].engine.db, keys).values())


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
    steps += [step(cdt, "committee-member") for cdt in COMPUTE.values()]
    return Algorithm(
        workflow=tuple(steps),
        pool=tuple(hexadecimal(cdt) for cdt in COMPUTE.values()),
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
        for owner, cdt in COMPUTE.items():
            node.registered(cdt, nodes[owner].account, document(nodes[owner], "compute", "seat"))
        root = document(c, "algorithm", "risk", children=children, algorithm=algorithm)
        node.registered(ALGORITHM, c.account, root)
    for owner, cdt in (*DATA.items(), *COMPUTE.items()):
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
    for owner, cdt in (*DATA.items(), *COMPUTE.items()):
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
        found.sessions[name] = Sessions(house, node.host, nursery)
    attest(found, algorithm, NOW + 4000)
    return found


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


# ---------------------------------------------------------------------- the way it should go


async def test_a_session_completes_everywhere_and_reserves_what_it_opens(world) -> None:
    session = await world.start()
    assert set((await world.ended(session)).values()) == {SessionState.COMPLETED}
    assert world.spent() == world.spent("bank-b") == {4}
    (job,) = [t.job for t in world.worker("bank-a", "contributor").told if hasattr(t, "job")]
    assert job.limits.numbers_cap == 4  # what the ledger reserved, not the 8 of the terms
    house = world.houses["bank-a"]
    assert folder_of(house.folder, session).name == session.hex()
    assert len(traces.subject(house, "person-1")) == 1
    shown = traces.budget(house, "facts")
    assert (shown["numbers_per_row_max"], shown["rows"]) == (8, [{"numbers": 4, "rows": 4}])


async def test_a_completed_task_opens_nothing_more(world) -> None:
    await world.ended(await world.start())
    answer = await world.ask("fintech-c", "bank-a", world.proposal())
    assert isinstance(answer, SessionDeclined)
    assert "completed in session" in answer.sentence
    assert world.spent() == {4}


async def test_a_task_runs_again_after_an_abort_with_the_same_rows_in_another_order(world) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    await world.sessions["bank-b"].stop(session)
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}
    assert "bank-b stopped it" in world.state("fintech-c", session).reason
    assert world.spent() == {4}
    world.finish = True
    again = await world.start()
    assert set((await world.ended(again)).values()) == {SessionState.COMPLETED}
    assert world.spent() == {8}


async def test_another_cohort_may_not_follow_under_one_attestation(world) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    await world.sessions["bank-b"].stop(session)
    await world.ended(session)
    world.people = PEOPLE[:-1]  # the recipient leaves one person out, to compare
    again = await world.start()
    assert set((await world.ended(again)).values()) == {SessionState.ABORTED}
    assert "bound to another set of rows" in world.state("fintech-c", again).reason
    assert world.spent() == {4}


# ---------------------------------------------------------------------- hostile proposals


@pytest.mark.parametrize("by", ["bank-b", "regulator-d"])
async def test_only_the_recipient_proposes(world, by: str) -> None:
    answer = await world.ask(by, "bank-a", world.proposal())
    assert isinstance(answer, SessionDeclined)
    assert world.started == 0


async def test_a_stranger_is_no_party_to_talk_to(world, network) -> None:
    serve = world.nodes["bank-a"].host.served[SESSION_PROTOCOL]
    with pytest.raises(RemoteProtocolError, match="stranger"):
        await serve("12D3KooWStranger", codec.encode(world.proposal()))


async def test_proposals_start_no_more_workers_than_sessions_may_live(world) -> None:
    """One task has one session; the latest proposal of its leader replaces the one before."""
    for _ in range(6):
        answer = await world.ask("fintech-c", "bank-a", await world.drawn())
        assert isinstance(answer, SessionJoined)
        await trio.sleep(0.01)
        assert world.alive <= 2 * MAX_LIVE_OF_A_LEADER
    live = world.sessions["bank-a"].participation.live
    assert len([each for each in live.values() if not each.over.is_set()]) == 1


async def test_an_attestation_buys_only_so_many_alignments(world) -> None:
    answers = [
        await world.ask("fintech-c", "bank-a", world.proposal())
        for _ in range(MAX_SESSIONS_OF_A_TASK + 2)
    ]
    assert [type(each) for each in answers[-2:]] == [SessionDeclined] * 2
    assert "open another task" in answers[-1].sentence


async def test_a_session_id_cannot_be_used_twice(world) -> None:
    proposal = world.proposal()
    await world.ask("fintech-c", "bank-a", proposal)
    again = await world.ask("fintech-c", "bank-a", proposal)
    assert isinstance(again, SessionDeclined)
    assert "used already" in again.sentence


async def test_a_proposal_that_nobody_follows_up_ends_by_itself(world, autojump_clock) -> None:
    proposal = world.proposal()
    assert isinstance(await world.ask("fintech-c", "bank-a", proposal), SessionPledged)
    await trio.sleep(STEP_MOST_S + 5)
    record = world.state("bank-a", proposal.session)
    assert record.state is SessionState.ABORTED
    assert record.reason.startswith("nothing has followed PROPOSED")
    assert world.alive == 0


async def test_a_leader_that_is_gone_is_named_within_seconds(world, autojump_clock) -> None:
    proposal = world.proposal()
    await world.ask("fintech-c", "bank-a", proposal)
    a, c = world.nodes["bank-a"].host, world.nodes["fintech-c"].host
    a.gone.add(c.peer_id)
    await trio.sleep(LEADER_GONE_S + 1)
    record = world.state("bank-a", proposal.session)
    assert record.state is SessionState.ABORTED
    assert "fintech-c" in record.reason
    assert world.alive == 0


async def test_a_worker_that_does_not_start_declines_and_leaves_nothing(world, monkeypatch) -> None:
    async def send(self, message) -> None:
        self.say(m.Failed(stage="start", reason="no memory", blamed=()))

    monkeypatch.setattr(ScriptedWorker, "send", send)
    draw = await world.drawn()
    answer = await world.ask("fintech-c", "bank-a", draw)
    assert isinstance(answer, SessionDeclined)
    assert world.state("bank-a", draw.proposal.session).state is SessionState.ABORTED
    assert world.alive == 0
    assert not world.sessions["bank-a"].participation.live


async def test_a_join_that_is_cancelled_in_the_middle_leaves_nothing(world, monkeypatch) -> None:
    async def send(self, message) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(ScriptedWorker, "send", send)
    draw = await world.drawn()
    with trio.move_on_after(0.2):  # the stream ends
        await world.ask("fintech-c", "bank-a", draw)
    assert world.state("bank-a", draw.proposal.session).state is SessionState.ABORTED
    assert world.alive == 0


@pytest.mark.parametrize("bad", [ValueError("bug"), RemoteProtocolError("nonsense"), None])
async def test_whatever_a_worker_does_the_daemon_lives(world, bad) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    worker = world.worker("bank-a", "contributor")
    if bad is None:
        worker.die()
    else:
        worker.say(bad)
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}
    assert "bank-a" in world.state("fintech-c", session).reason
    assert "bank-a" in world.state("bank-b", session).reason


async def test_a_worker_that_dies_before_the_roster_is_named(world) -> None:
    draw = await world.drawn()
    await world.ask("fintech-c", "bank-a", draw)
    world.worker("bank-a", "member").die()
    await gathered(world, "bank-a", draw.proposal.session, lambda live: live is None)
    record = world.state("bank-a", draw.proposal.session)
    assert (record.reason, record.blamed) == (
        "the process of bank-a/member ended", '["bank-a/member"]',
    )  # fmt: skip


# ---------------------------------------------------------------------- grants and time


def revoke(node, child: bytes) -> None:
    node.engine.db.execute("UPDATE grants SET revoked = 1 WHERE child = ?", [child])


async def test_a_revoked_grant_does_not_come_back_with_a_counted_attestation(world) -> None:
    await world.ask("fintech-c", "bank-a", world.proposal())
    revoke(world.nodes["bank-a"], DATA["bank-a"])
    answer = await world.ask("fintech-c", "bank-a", world.proposal())
    assert isinstance(answer, SessionDeclined)
    assert answer.rule == "grant-unusable"


async def test_a_revocation_between_proposal_and_row_set_spends_nothing(world) -> None:
    real = world.aligned

    def aligned(worker):
        revoke(world.nodes["bank-a"], DATA["bank-a"])
        return real(worker)

    world.aligned = aligned
    session = await world.start()
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}
    assert "grant-unusable" in world.state("fintech-c", session).reason
    assert world.spent() == set()


async def test_an_owner_that_revoked_is_not_talked_into_another_grant(world) -> None:
    revoke(world.nodes["bank-b"], DATA["bank-b"])
    answer = await negotiated(world.nodes, "bank-b", DATA["bank-b"])
    assert isinstance(answer, ContractTermination)
    assert [reason.operand for reason in answer.reasons] == [judging.REVOKED]


async def test_asking_again_gives_no_more_uses_than_the_terms(world) -> None:
    nodes = world.nodes
    world.finish = False
    session = await world.start()  # one of the two uses of the terms
    await gathered(world, "bank-b", session, lambda live: live and live.row_set)
    await world.sessions["fintech-c"].stop(session)
    assert isinstance(await negotiated(nodes, "bank-b", DATA["bank-b"]), ContractAgreement)
    answer = await negotiated(nodes, "bank-b", DATA["bank-b"], uses=2)
    assert isinstance(answer, ContractOffer)
    assert (answer.uses, answer.reasons[0].operand) == (1, "odrl:count")


@pytest.mark.parametrize(("later", "rule"), [(5000, "grant-unusable"), (4000, "attestation")])
async def test_grants_and_attestations_expire_by_the_time_of_the_block(
    world, later: int, rule: str
) -> None:
    pass_time(world.nodes["bank-a"], NOW + later)
    if rule == "grant-unusable":  # the attestation would be refused first
        for house in world.houses.values():
            house.attestations.check = lambda *_: None
    answer = await world.ask("fintech-c", "bank-a", world.proposal())
    assert isinstance(answer, SessionDeclined)
    assert answer.rule.startswith(rule)


async def test_a_grant_that_no_contract_could_hold_ends_nobodys_daemon(world) -> None:
    nodes = world.nodes
    request = request_for(nodes, DATA["bank-b"])
    with nodes["bank-b"].engine.transaction() as tx:
        honest = nodes["bank-b"].grants.give(tx, request)
    far = msgspec.structs.replace(honest.grant, expiry=2**50)
    with pytest.raises(RemoteProtocolError, match="no contract could hold"):
        nodes["fintech-c"].grants.check(request, far, honest.signature, nodes["bank-b"].account)


# ---------------------------------------------------------------------- manifests


ABSURD = {
    "size_cap": 2**31 - 1,
    "round_deadline_s": 3600,
    "alignment_deadline_s": 86_400,
    "attested_in": b"\x77" * 32,
    "algorithm": b"\x77" * 32,
    "attempt": 7,
    "cohort_floor": 1,
    "threshold": 2,
    "plan": b"\x77" * 32,
    "helper": "bank-a/member",
}


@pytest.mark.parametrize("what", ABSURD)
async def test_an_absurd_roster_is_not_signed(world, what: str) -> None:
    live, roster = await joined(world)
    changed = msgspec.structs.replace(roster, **{what: ABSURD[what]})
    with pytest.raises((RemoteProtocolError, Fault)):
        world.sessions["bank-a"].participation.signing.sign_roster(live, changed)
    assert live.roster is None
    world.sessions["bank-a"].participation.signing.sign_roster(live, roster)


async def joined(world: World):
    """bank-a's live session, and the roster that an honest recipient would offer for it."""
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.roster)
    live = world.live("bank-a", session)
    roster, live.roster = live.roster, None
    return live, roster


def in_place(roster, role: str, of: bytes, **changes):
    parties = tuple(
        msgspec.structs.replace(party, **changes)
        if (party.role, party.account) == (role, of)
        else party
        for party in roster.parties
    )
    return msgspec.structs.replace(roster, parties=parties)


async def test_nobody_sits_under_anothers_name_or_twice(world) -> None:
    live, roster = await joined(world)
    sign = world.sessions["bank-a"].participation.signing.sign_roster
    b, d = world.nodes["bank-b"], world.nodes["regulator-d"]
    masked = in_place(roster, "member", d.account, organisation="fintech-c")
    masked = msgspec.structs.replace(masked, helper="fintech-c/member")
    twice = in_place(roster, "member", b.account, account=d.account, peer_id=d.key.peer_id)
    for changed, says in (
        (masked, "two values|shares"),
        (in_place(roster, "member", d.account, peer_id=b.key.peer_id), "two values|shares"),
        (twice, "two values|two seats"),
        (in_place(roster, "member", d.account, account=b"\x66" * 20), "others than were drawn|helper"),
    ):
        with pytest.raises((RemoteProtocolError, Fault), match=says):
            sign(live, changed)
    stolen = in_place(roster, "member", d.account, organisation="fintech-x")
    stolen = msgspec.structs.replace(stolen, helper="fintech-x/member")
    sign(live, stolen)  # an own name for itself that nobody else has here does no harm


async def test_one_roster_and_no_second_for_each_session(world) -> None:
    live, roster = await joined(world)
    participation = world.sessions["bank-a"].participation
    first = participation.signing.sign_roster(live, roster)
    assert participation.signing.sign_roster(live, roster) == first  # a repeated offer is harmless
    other = msgspec.structs.replace(roster, round_deadline_s=21)
    with pytest.raises(RemoteProtocolError, match="another roster"):
        participation.signing.sign_roster(live, other)


async def test_a_row_set_before_the_alignment_is_refused(world) -> None:
    world.aligned = lambda worker: m.Progress(stage="align", done=0, total=1)  # noqa: ARG005
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.roster)
    live = world.live("bank-a", session)
    house = world.houses["fintech-c"]
    row_set = row_set_of(live, house.receipts.sign(TASK, live.roster, 4))
    offer = ManifestOffer(session=session, part=codec.encode(row_set))
    for name in ("bank-a", "bank-b"):
        answer = await world.ask("fintech-c", name, offer)
        assert isinstance(answer, SessionDeclined)
        assert "not aligned" in answer.sentence
    assert world.spent() == set()


def row_set_of(live, receipt: bytes, **changes):
    plain = RowSet(
        roster=codec.digest(live.roster),
        rows_hash=b"\x33" * 32,
        rows=4,
        lineage=lineage_of(live),
        receipt=receipt,
    )
    return msgspec.structs.replace(plain, **changes)


async def test_a_second_row_set_and_a_repeated_one(world) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    live = world.live("bank-a", session)
    offer = ManifestOffer(session=session, part=codec.encode(live.row_set))
    answer = await world.ask("fintech-c", "bank-a", offer)
    assert isinstance(answer, ManifestSignature)
    other = msgspec.structs.replace(live.row_set, rows=3)
    answer = await world.ask(
        "fintech-c", "bank-a", ManifestOffer(session=session, part=codec.encode(other))
    )
    assert isinstance(answer, SessionDeclined)
    assert "another row set" in answer.sentence
    assert world.spent() == {4}


async def test_a_repeated_manifest_is_acted_upon_once(world) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    with trio.fail_after(5):
        while world.state("bank-a", session).state is not SessionState.RUNNING:  # noqa: ASYNC110
            await trio.sleep(0.01)
    told = world.worker("bank-a", "member").told
    assert [type(each) for each in told] == [m.Start, m.Proceed, m.Run]


# ---------------------------------------------------------------------- aborts


async def test_an_abort_is_its_tellers_word_and_blames_nobody_else_by_name(world) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    forged = SessionAbort(
        session=session,
        reason="fintech-c has lied\x1b[2J\nbank-a: confirmed",
        blamed=("fintech-c/recipient", "nobody\n", "x" * 500),
    )
    host = world.nodes["regulator-d"].host
    await host.request(
        world.nodes["bank-a"].key.peer_id, SESSION_PROTOCOL, codec.encode(forged), timeout_s=1
    )
    record = world.state("bank-a", session)
    assert record.reason.startswith("regulator-d says: ")
    assert record.reason.isprintable()
    assert json.loads(record.blamed) == ["fintech-c/recipient"]


async def test_a_peer_without_part_cannot_abort(world) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    serve = world.nodes["bank-a"].host.served[SESSION_PROTOCOL]
    abort = SessionAbort(session=session, reason="", blamed=())
    with pytest.raises(RemoteProtocolError):
        await serve("12D3KooWStranger", codec.encode(abort))
    assert world.state("bank-a", session).state is not SessionState.ABORTED


async def test_a_no_is_told_to_everybody_with_its_name_and_rule(world) -> None:
    revoke(world.nodes["bank-b"], DATA["bank-b"])
    session = await world.start()
    with trio.fail_after(5):
        while world.alive or world.state("fintech-c", session).state is not SessionState.ABORTED:  # noqa: ASYNC110
            await trio.sleep(0.05)
    record = world.state("fintech-c", session)
    assert record.reason.startswith("bank-b says no (grant-unusable)")
    assert json.loads(record.blamed) == ["bank-b"]


async def test_a_second_session_of_a_running_task_is_refused_at_home(world) -> None:
    world.finish = False
    session = await world.start()
    with pytest.raises(Fault, match="stop it first"):
        await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    await world.sessions["fintech-c"].stop(session)
    await world.ended(session)


# ---------------------------------------------------------------------- plans


async def test_a_plan_that_opens_nothing_on_paper_is_refused(nodes) -> None:
    """Without epochs and without held-out rows nothing is reserved, whatever is then asked."""
    none = msgspec.structs.replace(PARAMETERS, epochs=0, holdout=0.0)
    publish(nodes, algorithm_of(nodes, none))
    answer = await negotiated(nodes, "bank-a", DATA["bank-a"])
    assert isinstance(answer, ContractTermination)
    assert "cdt:openings" in {reason.operand for reason in answer.reasons}


async def test_a_flood_of_requests_fills_nobodys_database(world, monkeypatch) -> None:
    monkeypatch.setattr(negotiation_provider, "REQUESTS_PER_HOUR", 5)
    nodes, b = world.nodes, world.nodes["bank-b"]
    for _ in range(8):
        answer = await negotiated(nodes, "bank-b", DATA["bank-b"])
    assert isinstance(answer, ContractTermination)
    assert "in an hour" in answer.sentence
    assert len(negotiation_records.every(b.engine.db)) == 5
