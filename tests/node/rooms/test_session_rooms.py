"""Sessions against hostile nodes: the rooms of four nodes, with workers that only say their lines.

Every test is an attack by bytes from a peer, or a death in the middle; the real workers have
their own tests, and the real daemons theirs.
"""

import json

import msgspec
import pytest
import trio

from node import (
    judging,
    negotiation_bounds,
    negotiation_records,
    traces,
)
from node.errors import Fault
from node.participation import MAX_LIVE_OF_A_LEADER
from node.row_set_rules import lineage_of
from node.session_jobs import folder_of
from node.session_rules import MAX_SESSIONS_OF_A_TASK
from node.session_workers import LEADER_GONE_S, STEP_MOST_S
from node.workers import messages as m
from protocol import codec
from protocol.errors import RemoteProtocolError
from protocol.manifest import RowSet
from protocol.messages import (
    SESSION_PROTOCOL,
    ContractAgreement,
    ContractOffer,
    ContractTermination,
    ManifestOffer,
    ManifestSignature,
    SessionAbort,
    SessionDeclined,
    SessionJoined,
    SessionPledged,
)
from protocol.task import SessionState
from tests.node.rooms.session_world import (
    DATA,
    NOW,
    PARAMETERS,
    PEOPLE,
    TASK,
    ScriptedWorker,
    World,
    algorithm_of,
    gathered,
    negotiated,
    pass_time,
    publish,
    request_for,
)

pytestmark = pytest.mark.usefixtures("autojump_clock")


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
    first = await world.ask("fintech-c", "bank-a", proposal)
    assert await world.ask("fintech-c", "bank-a", proposal) == first  # a repeated question
    other = msgspec.structs.replace(proposal, attempt=1)
    assert isinstance(await world.ask("fintech-c", "bank-a", other), SessionDeclined)
    assert world.state("bank-a", proposal.session).state is SessionState.PROPOSED
    await world.sessions["bank-a"].stop(proposal.session)
    await gathered(world, "bank-a", proposal.session, lambda live: live is None)
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
        (in_place(roster, "member", d.account, account=b"\x66" * 20), "were drawn|helper"),
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
    monkeypatch.setattr(negotiation_bounds, "REQUESTS_PER_HOUR", 5)
    nodes, b = world.nodes, world.nodes["bank-b"]
    for _ in range(8):
        answer = await negotiated(nodes, "bank-b", DATA["bank-b"])
    assert isinstance(answer, ContractTermination)
    assert "in an hour" in answer.sentence
    assert len(negotiation_records.every(b.engine.db)) == 5


async def test_the_same_question_again_and_again_is_one_decision(world) -> None:
    """Its leader may ask for hours: each yes would be kept for ever."""
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.row_set)
    live = world.live("bank-a", session)
    db = world.nodes["bank-a"].engine.db

    def kept() -> int:
        return int(db.execute("SELECT count(*) FROM decisions").fetchone()[0])

    before = kept()
    for part in (live.roster, live.row_set):
        offer = ManifestOffer(session=session, part=codec.encode(part))
        for _ in range(5):
            assert isinstance(await world.ask("fintech-c", "bank-a", offer), ManifestSignature)
    for _ in range(5):
        assert isinstance(await world.ask("fintech-c", "bank-a", live.proposal), SessionPledged)
    assert kept() == before
