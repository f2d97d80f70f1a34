"""Drawing the committee among five nodes, four of them in the pool for three seats.

The recipient carries every message, so most tests play it: it leaves members out, shows different
pledges to different owners, replays old ones, asks too early, twice or for somebody else.
"""

import json
import random

import msgspec
import pytest
import trio

from node import plans, session_records
from node.errors import Fault
from protocol import codec, envelope
from protocol.draw import MAX_ATTEMPTS, Draw, SignedPledge
from protocol.errors import RemoteProtocolError
from protocol.manifest import Roster
from protocol.messages import (
    SESSION_PROTOCOL,
    ContractTermination,
    SessionAbort,
    SessionDeclined,
    SessionDraw,
    SessionInquiry,
    SessionJoined,
    SessionNonce,
    SessionPledged,
    SessionPledges,
)
from protocol.roster_check import check_against_plan
from tests.node.rooms.session_world import (
    ALGORITHM,
    COMPUTE,
    DATA,
    PARAMETERS,
    algorithm_of,
    gathered,
    negotiated,
    publish,
)

POOL = ("bank-a", "bank-b", "regulator-d", "house-e")
WITHOUT_ROWS = ("regulator-d", "house-e")


@pytest.fixture
def names() -> tuple[str, ...]:
    return ("bank-a", "bank-b", "fintech-c", "regulator-d", "house-e")


def pledges_of(draw: SessionDraw) -> SessionPledges:
    return SessionPledges(session=draw.proposal.session, pledges=draw.draw.pledges)


def roster_at(world, name: str, session: bytes) -> Roster:
    return codec.decode(world.state(name, session).roster, Roster)


def sitting(roster: Roster) -> set[str]:
    return {party.organisation for party in roster.by_role("member")}


async def completed(world) -> Roster:
    session = await world.start()
    with trio.fail_after(20):
        while (state := world.state("fintech-c", session).state) != "COMPLETED":
            assert state != "ABORTED", world.state("fintech-c", session).reason
            await trio.sleep(0.05)
    return roster_at(world, "bank-a", session)


# ---------------------------------------------------------------------- the way it should go


async def test_three_of_four_sit_and_who_does_not_starts_nothing(world, autojump_clock) -> None:
    roster = await completed(world)
    seated = sitting(roster)
    assert len(seated) == 3 < len(POOL)
    assert {(w.organisation, w.role) for w in world.workers if w.role == "member"} == {
        (name, "member") for name in seated
    }
    (out,) = set(POOL) - seated
    if out in WITHOUT_ROWS:
        assert session_records.find(world.nodes[out].engine.db, roster.session) is None
    assert roster.party(roster.helper).organisation in WITHOUT_ROWS
    assert set(roster.draw.pledges[0].pledge.alive) == set(COMPUTE.values())


async def test_one_dead_node_of_the_pool_kills_no_task(world, network, autojump_clock) -> None:
    dead = "regulator-d"
    network.hosts.pop(world.nodes[dead].key.peer_id)
    roster = await completed(world)
    assert sitting(roster) == set(POOL) - {dead}
    for each in roster.draw.pledges:
        assert COMPUTE[dead] not in each.pledge.alive


async def test_a_member_that_dies_after_it_was_drawn_is_named_and_the_next_draw_is_anew(
    world, network, autojump_clock
) -> None:
    d = world.nodes["regulator-d"]
    honest = d.host.served[SESSION_PROTOCOL]

    async def dies(peer_id, data):
        if b"session-draw" in data:
            network.hosts.pop(d.key.peer_id)
            raise Fault("peer-unreachable", "the connection broke")
        return await honest(peer_id, data)

    d.host.served[SESSION_PROTOCOL] = dies
    while d.key.peer_id in network.hosts:  # until it is drawn
        session = await world.start()
        over = ("COMPLETED", "ABORTED")
        with trio.fail_after(20):
            while world.state("fintech-c", session).state not in over:  # noqa: ASYNC110
                await trio.sleep(0.05)
        record = world.state("fintech-c", session)
        if record.state == "COMPLETED":
            return  # it was not drawn at all, which one draw of four does
    assert record.state == "ABORTED"
    assert "regulator-d" in json.loads(record.blamed)
    roster = await completed(world)
    assert sitting(roster) == {"bank-a", "bank-b", "house-e"}


async def test_too_few_alive_are_named(world, network, autojump_clock) -> None:
    for name in WITHOUT_ROWS:
        network.hosts.pop(world.nodes[name].key.peer_id)
    session = await world.start()
    await world.ended(session, names=("fintech-c", "bank-a", "bank-b"))
    record = world.state("fintech-c", session)
    assert "house-e, regulator-d" in record.reason
    assert "2 are left for 3 seats" in record.reason


async def test_an_auditor_draws_again_from_the_roster_alone(world, autojump_clock) -> None:
    roster = await completed(world)
    plan = plans.plan_of(world.nodes["house-e"].engine.db, ALGORITHM)
    check_against_plan(roster, plan)
    hidden = roster.draw.pledges[0]
    hidden = msgspec.structs.replace(
        hidden, pledge=msgspec.structs.replace(hidden.pledge, alive=hidden.pledge.alive[1:])
    )
    for changed in (
        msgspec.structs.replace(roster.draw, pledges=(hidden, roster.draw.pledges[1])),
        msgspec.structs.replace(roster.draw, pledges=roster.draw.pledges[::-1]),
        msgspec.structs.replace(roster.draw, nonces=(bytes(32), roster.draw.nonces[1])),
        Draw(pledges=(), nonces=()),
    ):
        with pytest.raises(RemoteProtocolError):
            check_against_plan(msgspec.structs.replace(roster, draw=changed), plan)
    with pytest.raises(RemoteProtocolError, match="another session"):
        check_against_plan(msgspec.structs.replace(roster, session=bytes(32)), plan)


async def test_everybody_says_why_it_agreed(world, autojump_clock) -> None:
    roster = await completed(world)
    told = session_records.decisions(world.nodes["fintech-c"].engine.db, roster.session)
    yes = {(each["by"], each["part"]) for each in told if each["answer"] == "yes"}
    for bank in DATA:
        assert {(bank, part) for part in ("proposal", "draw", "manifest")} <= yes
    assert all(each["why"] for each in told if each["answer"] == "yes")
    own = session_records.decisions(world.nodes["bank-a"].engine.db, roster.session)
    assert [each["part"] for each in own if each["answer"] == "yes"] == [
        "proposal", "draw", "roster", "row set",
    ]  # fmt: skip
    (proposal, *_) = [each for each in own if each.get("part") == "proposal"]
    assert any("grant 1 of 0x01" in each for each in proposal["why"])
    assert any("regulator-d attests" in each for each in proposal["why"])


async def test_a_no_is_kept_by_who_said_it_and_who_heard_it(world, autojump_clock) -> None:
    b = world.nodes["bank-b"]
    b.engine.db.execute("UPDATE grants SET revoked = 1 WHERE child = ?", [DATA["bank-b"]])
    session = await world.start()
    await world.ended(session, names=("fintech-c",))
    for name in ("bank-b", "fintech-c"):
        told = session_records.decisions(world.nodes[name].engine.db, session)
        (no,) = [each for each in told if each["answer"] == "no"]
        assert (no["by"], no["part"], no["rule"]) == ("bank-b", "proposal", "grant-unusable")
        assert "no grant that is alive" in no["why"][0]


@pytest.mark.parametrize("seed", range(3))
async def test_lost_questions_and_answers_are_asked_again(
    world, network, autojump_clock, seed: int
) -> None:
    dice = random.Random(seed)
    network.lose = lambda: dice.choices(["", "before", "after"], [8, 1, 1])[0]
    roster = await completed(world)
    assert len(sitting(roster)) == 3
    assert len([each for each in world.workers if each.role == "member"]) == 3


# ---------------------------------------------------------------------- a lying recipient


async def test_no_owner_reveals_unless_its_own_pledge_is_there_unchanged(world) -> None:
    earlier = await world.drawn()
    proposal = world.proposal()
    fresh = []
    for bank in sorted(DATA, key=lambda name: world.nodes[name].account):
        answer = await world.ask("fintech-c", bank, proposal)
        assert isinstance(answer, SessionPledged)
        fresh.append(answer.pledge)
    by_owner = {each.pledge.account: each for each in fresh}
    a, b = (by_owner[world.nodes[name].account] for name in ("bank-a", "bank-b"))
    old = {each.pledge.account: each for each in earlier.draw.pledges}
    changed = msgspec.structs.replace(b.pledge, commitment=b"\x07" * 32)
    hidden = msgspec.structs.replace(b.pledge, alive=b.pledge.alive[:2])
    for other in (
        old[b.pledge.account],  # a nonce that is known already
        msgspec.structs.replace(b, pledge=changed),  # another commitment than bank-b made
        msgspec.structs.replace(b, pledge=hidden),  # members declared dead
        msgspec.structs.replace(b, signature=a.signature),
    ):
        pledges = tuple(sorted((a, other), key=lambda each: each.pledge.account))
        message = SessionPledges(session=proposal.session, pledges=pledges)
        for bank in DATA:
            answer = await world.ask("fintech-c", bank, message)
            assert isinstance(answer, SessionDeclined)
    for some in ((a,), (b,), (a, a)):
        message = SessionPledges(session=proposal.session, pledges=some)
        assert isinstance(await world.ask("fintech-c", "bank-a", message), SessionDeclined)
    honest = SessionPledges(session=proposal.session, pledges=tuple(fresh))
    first = await world.ask("fintech-c", "bank-a", honest)
    assert isinstance(first, SessionNonce)
    assert await world.ask("fintech-c", "bank-a", honest) == first  # a repeated one is harmless


async def test_no_owner_reveals_for_two_sets_of_pledges(world, monkeypatch) -> None:
    """Even if every signature were right: a second set could be chosen knowing the nonces."""
    draw = await world.drawn()
    monkeypatch.setattr("node.session_draw.check_pledges", lambda *_: None)
    own = next(
        each for each in draw.draw.pledges if each.pledge.account == world.nodes["bank-a"].account
    )
    other = SessionPledges(session=draw.proposal.session, pledges=(own,))
    answer = await world.ask("fintech-c", "bank-a", other)
    assert isinstance(answer, SessionDeclined)
    assert "for other pledges" in answer.sentence


async def test_nobody_joins_a_draw_that_was_tampered_with(world) -> None:
    message = await world.drawn()
    draw = message.draw
    wrong = {
        "a nonce of its own": msgspec.structs.replace(draw, nonces=(draw.nonces[0], bytes(32))),
        "nonces exchanged": msgspec.structs.replace(draw, nonces=draw.nonces[::-1]),
        "an owner left out": Draw(pledges=draw.pledges[:1], nonces=draw.nonces[:1]),
        "nothing": Draw(pledges=(), nonces=()),
    }
    for changed in wrong.values():
        for name in ("bank-a", "regulator-d", "house-e"):
            answer = await world.ask(
                "fintech-c", name, msgspec.structs.replace(message, draw=changed)
            )
            assert isinstance(answer, SessionDeclined), (name, answer)
    assert world.started == 0
    assert isinstance(await world.ask("fintech-c", "bank-a", message), SessionJoined)


async def test_a_repeated_draw_is_answered_again_and_another_one_is_refused(world) -> None:
    world.finish = False
    message = await world.drawn()
    first = await world.ask("fintech-c", "bank-a", message)
    started = world.started
    again = await world.ask("fintech-c", "bank-a", message)
    assert isinstance(first, SessionJoined)
    assert again == first
    assert world.started == started
    other = msgspec.structs.replace(
        message, draw=msgspec.structs.replace(message.draw, nonces=message.draw.nonces[::-1])
    )
    assert isinstance(await world.ask("fintech-c", "bank-a", other), SessionDeclined)


async def test_two_equal_draws_at_once_start_the_workers_once(world) -> None:
    world.finish = False
    message = await world.drawn()
    answers = []

    async def ask() -> None:
        answers.append(await world.ask("fintech-c", "bank-a", message))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert answers[0] == answers[1]
    assert world.started == len(answers[0].seats)


async def test_two_equal_proposals_at_once_make_one_pledge_or_a_no(world) -> None:
    proposal, answers = world.proposal(), []

    async def ask() -> None:
        answers.append(await world.ask("fintech-c", "bank-a", proposal))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    pledges = {codec.encode(each) for each in answers if isinstance(each, SessionPledged)}
    assert len(pledges) == 1
    assert len(session_records.every(world.nodes["bank-a"].engine.db)) == 1


async def test_steps_out_of_order_are_refused(world) -> None:
    message = await world.drawn()
    other = world.proposal()
    early = SessionPledges(session=other.session, pledges=message.draw.pledges)
    answer = await world.ask("fintech-c", "bank-a", early)
    assert (answer.rule, isinstance(answer, SessionDeclined)) == ("session-unknown", True)
    unasked = msgspec.structs.replace(message, proposal=other)
    answer = await world.ask("fintech-c", "bank-a", unasked)
    assert isinstance(answer, SessionDeclined)
    fresh = world.proposal()
    assert isinstance(await world.ask("fintech-c", "bank-a", fresh), SessionPledged)
    skipped = msgspec.structs.replace(message, proposal=fresh)
    answer = await world.ask("fintech-c", "bank-a", skipped)
    assert isinstance(answer, SessionDeclined)
    assert "other pledges than this node revealed for" in answer.sentence


async def test_an_alive_member_is_not_declared_dead_by_leaving_out_the_others_word(
    world, network, autojump_clock
) -> None:
    """Bank B colludes and sees nobody; bank A sees all, and all of them are in the draw."""
    drawing = world.sessions["bank-b"].participation.drawing

    async def sees_nobody(_live):
        return set()

    drawing._alive = sees_nobody
    roster = await completed(world)
    by_owner = {each.pledge.account: each.pledge.alive for each in roster.draw.pledges}
    assert by_owner[world.nodes["bank-b"].account] == ()
    assert len(by_owner[world.nodes["bank-a"].account]) == 4
    assert len(sitting(roster)) == 3


async def test_a_roster_that_was_not_drawn_is_signed_by_nobody(world, autojump_clock) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.roster)
    live = world.live("bank-a", session)
    roster, live.roster = live.roster, None
    (out,) = set(POOL) - sitting(roster)
    node = world.nodes[out]
    others = [each for each in roster.by_role("member") if each.name != roster.helper]
    victim = next(each for each in others if each.organisation != "bank-a")
    fresh = msgspec.structs.replace(
        victim, organisation=out, account=node.account, peer_id=node.key.peer_id
    )
    if out in DATA:  # its contributor stands there already, under this very name
        fresh = msgspec.structs.replace(fresh, organisation=out)
    parties = tuple(fresh if each == victim else each for each in roster.parties)
    changed = msgspec.structs.replace(roster, parties=parties)
    sign = world.sessions["bank-a"].participation.signing.sign_roster
    with pytest.raises(RemoteProtocolError, match="others than were drawn"):
        sign(live, changed)
    members = [each.name for each in roster.by_role("member") if each.name != roster.helper]
    with pytest.raises((RemoteProtocolError, Fault), match="helper"):
        sign(live, msgspec.structs.replace(roster, helper=members[0]))
    other = msgspec.structs.replace(roster.draw, nonces=roster.draw.nonces[::-1])
    with pytest.raises(RemoteProtocolError, match="committed"):
        sign(live, msgspec.structs.replace(roster, draw=other))
    sign(live, roster)


ADDRESSES = {
    "0.0.0.0:4001": "no worker can",
    "224.0.0.1:4001": "no worker can",
    "169.254.1.1:4001": "no worker can",
    "255.255.255.255:4001": "no worker can",
    "[::]:4001": "no worker can",
    "127.0.0.1:0": "none can",
    "127.0.0.1:99999": "none can",
    "203.0.113.9:4001": "loopback",
    "example.org:4001": "loopback",
}


async def test_a_seat_where_no_worker_can_listen_is_refused(world, autojump_clock) -> None:
    world.finish = False
    session = await world.start()
    await gathered(world, "bank-a", session, lambda live: live and live.roster)
    live = world.live("bank-a", session)
    roster, live.roster = live.roster, None
    for address, says in ADDRESSES.items():
        parties = tuple(
            msgspec.structs.replace(each, address=address) if each.role == "recipient" else each
            for each in roster.parties
        )
        changed = msgspec.structs.replace(roster, parties=parties)
        with pytest.raises(RemoteProtocolError, match=says):
            world.sessions["bank-a"].participation.signing.sign_roster(live, changed)


# ---------------------------------------------------------------------- owners that do not reveal


async def test_an_owner_that_does_not_reveal_is_named_and_attempts_are_counted(
    world, autojump_clock
) -> None:
    b = world.nodes["bank-b"]
    honest = b.host.served[SESSION_PROTOCOL]

    async def silent(peer_id, data):
        if b"session-pledges" in data:
            raise Fault("peer-timeout", "no answer")
        return await honest(peer_id, data)

    b.host.served[SESSION_PROTOCOL] = silent
    for _ in range(2):
        session = await world.start()
        await world.ended(session, names=("fintech-c", "bank-a", "bank-b"))
        record = world.state("fintech-c", session)
        assert record.reason.startswith("bank-b has pledged and does not reveal its nonce")
        assert json.loads(record.blamed) == ["bank-b"]
        assert "bank-b" in world.state("bank-a", session).reason
    b.host.served[SESSION_PROTOCOL] = honest
    roster = await completed(world)
    assert [each.pledge.earlier for each in roster.draw.pledges] == [2, 2]
    assert roster.attempt == 2


async def test_an_owner_that_reveals_another_nonce_is_named(world, autojump_clock) -> None:
    participation = world.sessions["bank-b"].participation
    honest = participation.drawing.reveal

    def lying(live, message):
        return msgspec.structs.replace(honest(live, message), nonce=bytes(32))

    participation.drawing.reveal = lying
    session = await world.start()
    await world.ended(session, names=("fintech-c", "bank-a", "bank-b"))
    assert world.state("fintech-c", session).reason == (
        "bank-b reveals another nonce than the one that it committed to"
    )


@pytest.mark.parametrize(
    "changes", [{"account": b"\x77" * 20}, {"session": bytes(32)}, {"alive": (b"\x77" * 32,)}]
)
async def test_an_owner_whose_pledge_is_not_sound_is_named(
    world, autojump_clock, changes: dict
) -> None:
    drawing, key = world.sessions["bank-b"].participation.drawing, world.nodes["bank-b"].key
    honest = drawing.pledge

    async def lying(live):
        pledge = msgspec.structs.replace((await honest(live)).pledge, **changes)
        sealed = envelope.seal(pledge, key.signing_key)
        return SignedPledge(pledge=pledge, signature=sealed.signature)

    drawing.pledge = lying
    session = await world.start()
    await world.ended(session, names=("fintech-c", "bank-b"))
    record = world.state("fintech-c", session)
    assert record.reason.startswith("the pledge of bank-b is not sound")
    assert json.loads(record.blamed) == ["bank-b"]


async def test_wishing_for_a_committee_ends_after_so_many_draws(world) -> None:
    for _ in range(MAX_ATTEMPTS):
        await world.drawn()
    answer = await world.ask("fintech-c", "bank-a", world.proposal())
    assert isinstance(answer, SessionDeclined)
    assert "open another task" in answer.sentence


async def test_a_restart_between_pledge_and_reveal_ends_the_session(world) -> None:
    """The nonce was in memory alone; the session's id is used up."""
    proposal = world.proposal()
    pledges = []
    for bank in sorted(DATA, key=lambda name: world.nodes[name].account):
        pledges.append((await world.ask("fintech-c", bank, proposal)).pledge)
    a = world.sessions["bank-a"].participation
    a.live.pop(proposal.session).over.set()
    with world.nodes["bank-a"].engine.transaction() as tx:
        session_records.abort_interrupted(tx)
    message = SessionPledges(session=proposal.session, pledges=tuple(pledges))
    answer = await world.ask("fintech-c", "bank-a", message)
    assert isinstance(answer, SessionDeclined)
    assert (answer.rule, answer.sentence) == ("session-aborted", "this node was restarted")
    answer = await world.ask("fintech-c", "bank-a", proposal)
    assert isinstance(answer, SessionDeclined)
    assert "used already" in answer.sentence
    assert isinstance(await world.ask("fintech-c", "bank-a", world.proposal()), SessionPledged)


# ---------------------------------------------------------------------- the pool


async def asked(world, by: str, whom: str):
    inquiry = SessionInquiry(proposal=world.proposal())
    host = world.nodes[by].host
    return await host.request(
        world.nodes[whom].key.peer_id, SESSION_PROTOCOL, codec.encode(inquiry), timeout_s=5
    )


async def test_only_who_brings_rows_asks_a_member_whether_it_would_sit(world) -> None:
    for by in ("bank-a", "bank-b", "fintech-c"):
        assert b"acknowledged" in await asked(world, by, "house-e")
    assert b"session-declined" in await asked(world, "regulator-d", "house-e")
    assert b"session-declined" in await asked(world, "bank-a", "fintech-c")  # not in the pool


async def test_a_member_whose_grant_is_gone_is_not_drawn(world, autojump_clock) -> None:
    e = world.nodes["house-e"]
    e.engine.db.execute("UPDATE grants SET revoked = 1 WHERE child = ?", [COMPUTE["house-e"]])
    roster = await completed(world)
    assert sitting(roster) == {"bank-a", "bank-b", "regulator-d"}


async def test_an_owner_to_whom_two_of_the_pool_are_one_operator_grants_nothing(nodes) -> None:
    """Its floor holds for the whole pool, so that no draw can break it."""
    publish(nodes, algorithm_of(nodes, PARAMETERS))
    directory = nodes["bank-b"].directory
    honest = directory.operator

    def operator(account: bytes) -> str | None:
        return honest(account) if account != nodes["house-e"].account else "regulator-d"

    directory.operator = operator
    answer = await negotiated(nodes, "bank-b", DATA["bank-b"])
    assert isinstance(answer, ContractTermination)
    assert "cdt:operators" in {reason.operand for reason in answer.reasons}
    assert await negotiated(nodes, "bank-a", DATA["bank-a"])


async def test_an_owner_refuses_a_draw_that_breaks_its_floor_by_name(world) -> None:
    """It learns between its pledge and the draw that all of the pool are run by one operator."""
    message = await world.drawn()
    directory = world.nodes["bank-b"].directory
    honest, pool = directory.operator, {world.nodes[name].account for name in POOL}

    def operator(account: bytes) -> str | None:
        return "one-house" if account in pool else honest(account)

    directory.operator = operator
    answer = await world.ask("fintech-c", "bank-b", message)
    assert isinstance(answer, SessionDeclined)
    assert (answer.rule, world.started) == ("terms-refused", 0)
    assert "3 members of one operator" in answer.sentence


async def test_a_node_of_the_pool_that_does_not_sit_ends_no_attempt(world) -> None:
    """It hears of every session when an owner asks whether it is alive."""
    proposal = world.proposal()
    for bank in DATA:
        assert isinstance(await world.ask("fintech-c", bank, proposal), SessionPledged)
    abort = SessionAbort(session=proposal.session, reason="I would not be seated", blamed=())

    async def told(by: str, whom: str) -> None:
        peer_id = world.nodes[whom].key.peer_id
        host = world.nodes[by].host
        await host.request(peer_id, SESSION_PROTOCOL, codec.encode(abort), timeout_s=5)

    for bank in DATA:
        await told("house-e", bank)
        assert world.state(bank, proposal.session).state == "PROPOSED"
    await told("bank-b", "bank-a")
    assert world.state("bank-a", proposal.session).state == "ABORTED"
