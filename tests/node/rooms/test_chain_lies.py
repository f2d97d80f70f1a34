"""Floor 13: what an owner's node believes of an endpoint that invents, forgets and replays."""

import dataclasses
import secrets
from types import SimpleNamespace

import msgspec
import pytest
import trio

from chain import events, projection
from chain.events import Place
from chain.follower import forget
from chain.values import TaskTerms
from mpc import operations
from node import (
    chain_events,
    grant_records,
    ledger,
    plans,
    row_set_rules,
    session_rules,
    task_records,
)
from node.attestations import Attestations
from node.errors import Fault
from node.live_session import LiveSession
from node.workers.messages import Aligned
from protocol import codec, typed_data
from protocol.documents import Algorithm, Column, Metadata, Schema, Step, plan_hash
from protocol.errors import RemoteProtocolError
from protocol.identifiers import row_key
from protocol.ids import hexadecimal
from protocol.manifest import Parameters
from protocol.messages import AttestationAnswer, GrantTerms, SessionProposal

pytestmark = pytest.mark.usefixtures("autojump_clock")
LEAVES = {
    "bank-a": {"data": b"\x01" * 32, "compute": b"\x03" * 32},
    "bank-b": {"data": b"\x02" * 32, "compute": b"\x04" * 32},
    "regulator-d": {"compute": b"\x05" * 32},
}
TOP, TASK, OTHER_TASK = b"\x0a" * 32, b"\x0b" * 32, b"\x0c" * 32
NOW = 1_800_000_000
DEADLINE = NOW + 4000
PARAMETERS = Parameters(
    width=2, epochs=2, batch_rows=32, noise=0.3, clip=8.0, gradient_clip=0.3, learning_rate=4.0,
    holdout=0.3, engine="lane", evaluation_engine="mpyc", field="m61",
)  # fmt: skip


def leaves(kind):
    return [(owner, cdts[kind]) for owner, cdts in LEAVES.items() if kind in cdts]


def document(node, kind, **parts):
    return Metadata(
        type=kind, name=f"{kind} of {node.name}", description="", author=node.name,
        license="closed", created="2026-01-01T00:00:00Z", endpoint=node.key.peer_id, **parts,
    )  # fmt: skip


def step(cdt, operation, parameters=None):
    code = hexadecimal(operations.installed(operation).code)
    return Step(cdt=hexadecimal(cdt), operation=operation, code=code, parameters=parameters)


class Scene:
    """bank-a's rooms, an algorithm over its leaves, and an endpoint that says what it likes."""

    def __init__(self, nodes):
        self.nodes, self.bank = nodes, nodes["bank-a"]
        self.db, self.block = self.bank.engine.db, 0
        data = [step(cdt, "shared-features", PARAMETERS) for _, cdt in leaves("data")]
        seats = [step(cdt, "committee-member") for _, cdt in leaves("compute")]
        self.algorithm = Algorithm(
            workflow=(*data, *seats), pool=tuple(each.cdt for each in seats), seats=3,
            threshold=1, cohort_floor=1000, recipient=hexadecimal(nodes["fintech-c"].account),
            purpose="risk", labels="seen-by-owners", top_model="0x" + "00" * 32,
        )  # fmt: skip
        self.publish()
        for cdt in LEAVES["bank-a"].values():
            self.grant(cdt, 1)
        self.attestations = self.attestations_of("bank-a")
        self.house = SimpleNamespace(
            engine=self.bank.engine,
            directory=self.bank.directory,
            judging=self.bank.judging,
            grants=self.bank.grants,
            attestations=self.attestations,
        )

    def publish(self):
        columns = tuple(Column(name=n, kind="number", width=1) for n in ("Age", "Income"))
        schema = Schema(columns=columns, rows_about=2000)
        for kind in ("data", "compute"):
            for owner, cdt in leaves(kind):
                node = self.nodes[owner]
                parts = {"schema": schema} if kind == "data" else {}
                self.bank.registered(cdt, node.account, document(node, kind, **parts))
        children = tuple(sorted(each.cdt for each in self.algorithm.workflow))
        c = self.nodes["fintech-c"]
        top = document(c, "algorithm", children=children, algorithm=self.algorithm)
        self.bank.registered(TOP, c.account, top)

    def grant(self, child, seq, **changes):
        kept = GrantTerms(
            child=child, parent=TOP, terms=bytes(32), owner=self.bank.account, epoch=0,
            consumer=self.nodes["fintech-c"].account, consumer_epoch=0, market=b"\x22" * 20,
            token=b"\x33" * 20, decider=b"\xab" * 20, price="5", unit=0, max_uses=2,
            expiry=2**39, seq=seq,
        )  # fmt: skip
        with self.bank.engine.transaction() as tx:
            self.bank.grants.keep(tx, msgspec.structs.replace(kept, **changes), bytes(65))

    def attestations_of(self, name, **changes):
        node = self.nodes[name]
        config = msgspec.structs.replace(node.config, **changes)
        return Attestations(node.engine, node.host, node.directory, config, config.chain)

    # ------------------------------------------------------------------ the endpoint

    def say(self, build, *values):
        """One event in a block of its own, as the follower would store it."""
        self.block += 1
        place = Place(self.block, secrets.token_bytes(32), bytes(32), 0)
        with self.bank.engine.transaction() as tx:
            row = [place.block, place.block_hash]
            tx.db.execute("INSERT INTO chain_blocks VALUES (?, ?, x'', ?)", [*row, NOW])
            tx.db.execute("INSERT INTO chain_logs VALUES (?, 0, ?, x'', x'', x'', x'')", row)
            projection.apply_all(tx.db, [build(place, *values)])

    def open(self, task=TASK):
        c = self.nodes["fintech-c"].account
        terms = TaskTerms(TOP, c, c, c, b"\xab" * 20, b"\x33" * 20, 100, DEADLINE, bytes(32))
        self.say(events.Opened, task, TOP, c, terms)

    def say_attested(self, task=TASK, attester="regulator-d"):
        account = self.nodes[attester].account
        self.say(events.Attested, task, account, plan_hash(self.algorithm), ())
        return task_records.known(self.db, task)

    def reorganise(self):
        """Every block is gone; the follower has told the node so."""
        with self.bank.engine.transaction() as tx:
            forget(tx.db)
            chain_events.take_back(tx, self.bank.directory.bindings)
        self.publish()  # what was registered is older than the reorganisation

    # ------------------------------------------------------------------ the attester

    def signed(self, by="regulator-d", **changes):
        """An attestation whose signature covers `changes`, or by another key."""
        signer = self.nodes[by].grants.signer
        values = {"task": TASK, "plan": plan_hash(self.algorithm), "deadline": DEADLINE}
        values |= changes
        message = typed_data.Attestation(values["task"], values["plan"], values["deadline"])
        signature = signer.sign(signer.market, message)
        attester = self.nodes["regulator-d"].account
        return AttestationAnswer(**values, attester=attester, signature=signature)

    def live(self, answer):
        plan = plans.plan_of(self.db, TOP)
        proposal = SessionProposal(session=b"\x01" * 32, attempt=0, attestation=answer)
        return LiveSession(proposal, TOP, plan, ("contributor", "member"), "")

    def count(self, answer):
        with self.bank.engine.transaction() as tx:
            session_rules.count_uses(self.house, tx, self.live(answer))

    def counted(self):
        return {each.uses_counted for each in grant_records.every(self.db)}


@pytest.fixture
def scene(nodes):
    return Scene(nodes)


# ---------------------------------------------------------------------- invented attestations


async def test_what_the_attester_signed_and_the_chain_confirmed_is_accepted(scene) -> None:
    scene.open()
    scene.attestations.check(scene.signed(), scene.say_attested())


async def test_an_invented_event_is_nothing_without_the_attesters_own_signature(scene) -> None:
    scene.open()
    record = scene.say_attested()
    scene.attestations_of("regulator-d")  # an honest attester that has signed nothing
    with trio.fail_after(5), pytest.raises(Fault, match="has not attested") as refused:
        await scene.attestations.obtain(record)
    assert refused.value.kind == "attestation-refused"
    assert scene.attestations.kept(scene.db, TASK) is None


async def test_a_signature_is_nothing_without_the_event(scene) -> None:
    scene.open()
    with pytest.raises(Fault, match="no such attestation"):
        scene.attestations.check(scene.signed(), task_records.known(scene.db, TASK))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"by": "fintech-c"}, "not the attester's"),
        ({"task": OTHER_TASK}, "another task"),
        ({"deadline": DEADLINE + 1}, "another deadline"),
        ({"plan": bytes(32)}, "another plan"),
    ],
)
async def test_a_signature_over_something_else(scene, changes, sentence) -> None:
    scene.open()
    record = scene.say_attested()
    with pytest.raises(Fault, match=sentence):
        scene.attestations.check(scene.signed(**changes), record)


@pytest.mark.parametrize("member", ["task", "plan", "deadline", "attester", "signature"])
async def test_a_signed_attestation_of_which_one_thing_was_changed(scene, member) -> None:
    scene.open()
    record = scene.say_attested()
    answer = scene.signed()
    other = {"task": OTHER_TASK, "plan": bytes(32), "deadline": DEADLINE + 1,
             "attester": scene.nodes["fintech-c"].account, "signature": bytes(65)}  # fmt: skip
    changed = msgspec.structs.replace(answer, **{member: other[member]})
    with pytest.raises(Fault) as refused:
        scene.attestations.check(changed, record)
    assert refused.value.kind == "attestation-refused"


async def test_a_signature_of_another_chain_or_market(scene) -> None:
    scene.open()
    record = scene.say_attested()
    signer = scene.nodes["regulator-d"].grants.signer
    message = typed_data.Attestation(TASK, plan_hash(scene.algorithm), DEADLINE)
    for domain in (
        typed_data.market_domain(1, b"\x22" * 20),
        typed_data.market_domain(31337, b"\x44" * 20),
        typed_data.registry_domain(31337, b"\x22" * 20),
    ):
        changed = msgspec.structs.replace(scene.signed(), signature=signer.sign(domain, message))
        with pytest.raises(Fault, match="not the attester's"):
            scene.attestations.check(changed, record)


async def test_the_plan_of_another_document_that_the_chain_is_said_to_attest(scene) -> None:
    scene.open()
    account = scene.nodes["regulator-d"].account
    scene.say(events.Attested, TASK, account, b"\x66" * 32, ())
    record = task_records.known(scene.db, TASK)
    with pytest.raises(Fault, match="the algorithm's document has another plan"):
        scene.attestations.check(scene.signed(plan=b"\x66" * 32), record)


async def test_an_attester_that_is_no_longer_trusted_starts_nothing(scene) -> None:
    scene.open()
    record = scene.say_attested()
    trust = msgspec.structs.replace(scene.bank.config.trust, attesters=())
    distrusting = scene.attestations_of("bank-a", trust=trust)
    with pytest.raises(Fault, match="not among the attesters that this node trusts"):
        distrusting.check(scene.signed(), record)


async def test_an_invented_state_does_not_open_what_is_settled(scene) -> None:
    scene.open()
    record = scene.say_attested()
    scene.say(events.Reported, TASK, bytes(32), bytes(32), ())
    scene.say(events.Settled, TASK, 0, 100, ())
    scene.say_attested()  # no contract says so
    with pytest.raises(Fault, match="the task is SETTLED"):
        scene.attestations.check(scene.signed(), task_records.known(scene.db, TASK))
    assert record.plan == plan_hash(scene.algorithm)


# ---------------------------------------------------------------------- reorganisations


async def test_after_a_reorganisation_the_signature_alone_starts_nothing(scene) -> None:
    scene.open()
    scene.attestations.check(scene.signed(), scene.say_attested())
    scene.reorganise()
    with pytest.raises(Fault, match="no confirmed task"):
        task_records.known(scene.db, TASK)
    scene.open()
    with pytest.raises(Fault, match="no such attestation"):
        scene.attestations.check(scene.signed(), task_records.known(scene.db, TASK))


async def test_a_reorganisation_between_roster_and_rows_begins_no_run(scene) -> None:
    scene.open()
    record = scene.say_attested()
    live, roster = scene.live(scene.signed()), SimpleNamespace(attested_in=record.attested_in)
    assert row_set_rules.check_still_attested(scene.house, live, roster) == record
    scene.reorganise()
    with pytest.raises(Fault, match="no confirmed task"):
        row_set_rules.check_still_attested(scene.house, live, roster)
    scene.open()
    with pytest.raises(Fault, match="no such attestation"):
        row_set_rules.check_still_attested(scene.house, live, roster)
    scene.say_attested()
    with pytest.raises(RemoteProtocolError, match="moved the attestation"):
        row_set_rules.check_still_attested(scene.house, live, roster)


async def test_uses_counted_here_never_come_back(scene) -> None:
    scene.open()
    scene.say_attested()
    scene.count(scene.signed())
    for _ in range(3):
        scene.reorganise()
        scene.open()
        scene.say_attested()
        assert scene.counted() == {1}
        scene.count(scene.signed())  # the same attestation is the same use
        assert scene.counted() == {1}
    scene.open(OTHER_TASK)
    scene.say_attested(OTHER_TASK)
    scene.count(scene.signed(task=OTHER_TASK))
    assert scene.counted() == {2}
    scene.reorganise()
    third = b"\x0d" * 32
    scene.open(third)
    scene.say_attested(third)
    with pytest.raises(Fault, match="used up"):
        scene.count(scene.signed(task=third))
    assert scene.counted() == {2}


async def test_one_lineage_for_each_attestation_whatever_the_chain_forgets(scene) -> None:
    scene.open()
    scene.say_attested()
    live = scene.live(scene.signed())

    def bind(*people):
        keys = b"".join(row_key(b"k" * 32, each) for each in people)
        aligned = Aligned(rows_hash=bytes(32), rows=len(people), row_keys=keys)
        with scene.bank.engine.transaction() as tx:
            row_set_rules._bind_lineage(tx, live, aligned)
        return ledger.digest_of(keys)

    bind("x", "y")
    scene.reorganise()
    scene.open()
    scene.say_attested()
    assert bind("y", "x") == bind("x", "y")
    for others in (("x",), ("x", "y", "z"), ("x", "z")):
        with pytest.raises(Fault, match="another set of rows"):
            bind(*others)
    (count,) = scene.db.execute("SELECT count(*) FROM lineages").fetchone()
    assert count == 1


async def test_another_cohort_is_another_lineage(scene) -> None:
    live = scene.live(scene.signed())
    other = dataclasses.replace(live, plan=dataclasses.replace(live.plan))
    assert row_set_rules.lineage_of(live) == row_set_rules.lineage_of(other)
    again = scene.live(scene.signed(deadline=DEADLINE + 1))
    assert codec.digest(again.proposal) != codec.digest(live.proposal)
    assert row_set_rules.lineage_of(again) != row_set_rules.lineage_of(live)


# ---------------------------------------------------------------------- old grants


async def test_an_old_grant_that_the_chain_is_said_to_hold_revives_nothing(scene) -> None:
    leaf = LEAVES["bank-a"]["data"]
    with scene.bank.engine.transaction() as tx:
        tx.db.execute("UPDATE grants SET revoked = 1 WHERE child = ?", [leaf])  # by its own word
    word = 5 | 2**39 << 96 | 2 << 136 | 1 << 224 | 1 << 225
    parties = (scene.nodes["fintech-c"].account, 0, b"\x33" * 20, b"\xab" * 20)
    scene.say(events.Granted, leaf, TOP, scene.bank.account, bytes(32), word, 0, *parties)
    with pytest.raises(Fault, match="no grant that is alive"):
        scene.bank.grants.require_alive(leaf, TOP)
    scene.grant(leaf, 1)  # and once more through the post
    with pytest.raises(Fault, match="no grant that is alive"):
        scene.bank.grants.require_alive(leaf, TOP)


async def test_a_replayed_older_grant_brings_back_no_terms_and_no_uses(scene) -> None:
    leaf = LEAVES["bank-a"]["data"]
    scene.open()
    scene.say_attested()
    scene.count(scene.signed())
    scene.grant(leaf, 2, max_uses=1)
    scene.grant(leaf, 1, max_uses=50)
    kept = grant_records.latest(scene.db, leaf, TOP)
    assert (kept.seq, kept.terms.max_uses) == (2, 1)
    scene.open(OTHER_TASK)
    scene.say_attested(OTHER_TASK)
    with pytest.raises(Fault, match="used up"):
        scene.count(scene.signed(task=OTHER_TASK))


async def test_the_next_grant_is_above_whatever_the_chain_has_seen(scene) -> None:
    leaf = LEAVES["bank-a"]["data"]
    place = Place(99, bytes(32), bytes(32), 0)
    with scene.bank.engine.transaction() as tx:
        owner = scene.bank.account
        registered = events.Registered(place, leaf, owner, 1, bytes(32), 0, "")
        projection.apply_all(tx.db, [registered])
    scene.say(events.Revoked, leaf, TOP, scene.bank.account, 7)
    assert scene.bank.grants._next_seq(scene.db, leaf, TOP) == 8
    with pytest.raises(Fault, match="no grant that is alive"):
        scene.bank.grants.require_alive(leaf, TOP)
