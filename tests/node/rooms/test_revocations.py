"""Grants taken back and grants that expire, while a session runs under them."""

import json
from collections.abc import Callable

import msgspec
import pytest
import trio

from node import grant_records, session_records
from node.errors import Fault
from node.revocations import ANCHOR, TELL
from protocol import codec, envelope
from protocol.errors import RemoteProtocolError
from protocol.messages import (
    REVOCATION_PROTOCOL,
    SESSION_PROTOCOL,
    Revocation,
    RevocationNoted,
    SessionDeclined,
)
from protocol.task import SessionState
from tests.node.rooms.session_world import ALGORITHM, COMPUTE, DATA, NOW, pass_time

EDGE = {"child": DATA["bank-b"], "parent": ALGORITHM}


async def running(world) -> bytes:
    """A session whose rounds go on and on; the consumer keeps the grant that it runs under."""
    given = grant_records.latest(world.nodes["bank-b"].engine.db, *EDGE.values())
    with world.nodes["fintech-c"].engine.transaction() as tx:
        world.nodes["fintech-c"].grants.keep(tx, given.terms, given.signature)
    world.finish = False
    session = await world.start()
    for node in world.nodes.values():
        await until(
            lambda node=node: (
                (found := session_records.find(node.engine.db, session)) is not None
                and found.state is SessionState.RUNNING
            )
        )
    return session


def owed(world, name: str, kind: str) -> int:
    rows = world.nodes[name].engine.db.execute(
        "SELECT count(*) FROM effects WHERE kind = ?", [kind]
    )
    return int(rows.fetchone()[0])


async def until(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    with trio.fail_after(timeout_s):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.05)


def signed(world, by: str, **changes) -> bytes:
    plain = {**EDGE, "seq": 1, **changes}
    return codec.encode(envelope.seal(Revocation(**plain), world.nodes[by].key.signing_key))


async def tell(world, by: str, whom: str, data: bytes):
    answer = await world.nodes[by].host.request(
        world.nodes[whom].key.peer_id, REVOCATION_PROTOCOL, data, timeout_s=5
    )
    return codec.decode(answer, RevocationNoted, SessionDeclined)


def held(world, name: str) -> bool:
    """True if the grant of bank B is alive as `name` keeps it."""
    kept = grant_records.latest(world.nodes[name].engine.db, *EDGE.values())
    return kept is not None and not kept.revoked


async def test_a_revocation_stops_everybody_and_what_was_opened_stays(
    world, autojump_clock
) -> None:
    session = await running(world)
    assert not await world.revocations["bank-b"].revoke(**EDGE)  # the chain is away
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}
    for name in world.nodes:
        assert "bank-b revoked its grant" in world.state(name, session).reason
    await until(lambda: not owed(world, "bank-b", TELL))
    assert not held(world, "bank-b")
    assert not held(world, "fintech-c")
    assert owed(world, "bank-b", ANCHOR) == 1  # the chain follows when it is back
    assert world.spent("bank-b") == {4}
    record = world.state("bank-b", session)
    assert record.roster
    assert record.row_set  # by these two it is paid
    again = await world.start()
    await until(lambda: world.state("fintech-c", again).state is SessionState.ABORTED)
    assert "bank-b says no (grant-unusable)" in world.state("fintech-c", again).reason


async def test_it_is_sent_until_everybody_has_noted_it(world, network, autojump_clock) -> None:
    session = await running(world)
    left = iter(["before", "after"] * 8)
    network.lose = lambda: next(left, "")
    await world.revocations["bank-b"].revoke(**EDGE)
    await until(lambda: not owed(world, "bank-b", TELL), 300)
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}
    assert not held(world, "fintech-c")
    noted = (
        world.nodes["fintech-c"]
        .engine.db.execute("SELECT detail FROM decisions WHERE outcome = 'revoked by its owner'")
        .fetchall()
    )
    assert len(noted) == 1  # however often it came
    evidence = codec.decode(bytes.fromhex(json.loads(noted[0][0])["evidence"]), envelope.Signed)
    assert envelope.open_signed(evidence, Revocation).seq == 1


async def test_a_member_heeds_it_although_nobody_else_says_a_word(world, autojump_clock) -> None:
    """The session protocol is silent, as if the recipient held everything back."""
    session = await running(world)
    for node in world.nodes.values():

        async def deaf(_peer_id, _data):
            raise RemoteProtocolError("not now")

        node.host.served[SESSION_PROTOCOL] = deaf
    await world.revocations["bank-b"].revoke(**EDGE)
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}


async def test_one_that_the_owner_has_not_signed_stops_nothing(world, autojump_clock) -> None:
    session = await running(world)
    serve = world.nodes["fintech-c"].host.served[REVOCATION_PROTOCOL]
    sender = world.nodes["regulator-d"].key.peer_id
    honest = codec.decode(signed(world, "bank-b"), envelope.Signed)
    forged = [
        signed(world, "regulator-d"),
        codec.encode(msgspec.structs.replace(honest, key=bytes(range(32)))),
        codec.encode(msgspec.structs.replace(honest, signature=bytes(64))),
        b"\x00" * 80,
        signed(world, "bank-b")[:-1],
    ]
    for data in forged:
        with pytest.raises(RemoteProtocolError):
            await serve(sender, data)
    assert held(world, "fintech-c")
    assert world.state("fintech-c", session).state is SessionState.RUNNING
    unknown = await tell(world, "bank-b", "fintech-c", signed(world, "bank-b", child=b"\x66" * 32))
    assert isinstance(unknown, SessionDeclined)
    assert isinstance(
        await tell(world, "regulator-d", "fintech-c", signed(world, "bank-b")), RevocationNoted
    )  # who brings it does not matter
    await world.ended(session)


async def test_an_old_one_does_not_end_a_later_grant(world, autojump_clock) -> None:
    """At the consumer, which keeps grants, and at a member, which knows them from the chain."""
    session = await running(world)
    c, d = world.nodes["fintech-c"].engine.db, world.nodes["regulator-d"].engine.db
    c.execute("UPDATE grants SET seq = 2 WHERE child = ?", [EDGE["child"]])
    anchored(d, EDGE["child"], seq=2)
    for name in ("fintech-c", "regulator-d"):
        answer = await tell(world, "bank-b", name, signed(world, "bank-b", seq=1))
        assert isinstance(answer, RevocationNoted)
        assert world.state(name, session).state is SessionState.RUNNING
    assert held(world, "fintech-c")
    await tell(world, "bank-b", "regulator-d", signed(world, "bank-b", seq=2))
    d.execute("UPDATE chain_grants SET live = 0")
    await tell(world, "bank-b", "regulator-d", signed(world, "bank-b", seq=2))
    assert world.state("regulator-d", session).state is SessionState.ABORTED


def anchored(db, child: bytes, *, seq: int = 1, expiry: int = NOW + 9000, live: int = 1) -> None:
    """As if the chain had confirmed a grant."""
    blank = bytes(20)
    db.execute(
        "INSERT INTO chain_grants (child, parent, owner_epoch, owner, terms_hash, consumer, "
        "consumer_epoch, token, decider, price, unit, max_uses, uses, expiry, live, seq) "
        "VALUES (?, ?, 0, ?, ?, ?, 0, ?, ?, '0', 0, 1, 0, ?, ?, ?)",
        [child, ALGORITHM, blank, bytes(32), blank, blank, blank, expiry, live, seq],
    )


async def test_who_has_sold_an_asset_ends_only_its_own_grants(world, autojump_clock) -> None:
    """Regulator D once owned what is bank B's now, and gave a grant of it."""
    session = await running(world)
    c, d = world.nodes["fintech-c"], world.nodes["regulator-d"]
    given = grant_records.latest(c.engine.db, *EDGE.values())
    old = msgspec.structs.replace(given.terms, owner=d.account, seq=0)
    new = msgspec.structs.replace(given.terms, seq=5)
    with c.engine.transaction() as tx:
        c.grants.keep(tx, old, b"")
        c.grants.keep(tx, new, given.signature)
    c.engine.db.execute("UPDATE grants SET owner = ? WHERE seq = 5", [d.account])
    await tell(world, "regulator-d", "fintech-c", signed(world, "regulator-d", seq=9))
    kept = c.engine.db.execute("SELECT seq FROM grants WHERE NOT revoked ORDER BY seq").fetchall()
    assert (1,) in kept
    assert world.state("fintech-c", session).state is SessionState.RUNNING
    await world.sessions["fintech-c"].stop(session)
    await world.ended(session)


async def test_only_an_owner_revokes(world) -> None:
    with pytest.raises(Fault, match="given no grant"):
        await world.revocations["fintech-c"].revoke(**EDGE)
    with pytest.raises(Fault, match="given no grant"):
        await world.revocations["bank-b"].revoke(b"\x55" * 32, ALGORITHM)


# ---------------------------------------------------------------------- expiry and the chain


@pytest.mark.parametrize("where", ["bank-a", "fintech-c", "regulator-d"])
async def test_a_session_stops_when_the_blocks_time_passes_a_grants_expiry(
    world, autojump_clock, where: str
) -> None:
    """At whichever node's chain gets there first: an owner, the recipient, a mere member."""
    node = world.nodes[where]
    session = await running(world)
    if where == "regulator-d":
        anchored(node.engine.db, DATA["bank-b"], expiry=NOW + 4500)
    pass_time(node, NOW + 4400)
    await trio.sleep(5)
    assert world.state(where, session).state is SessionState.RUNNING
    pass_time(node, NOW + 5001)
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}
    assert "has expired" in world.state("bank-b", session).reason
    assert world.spent() == {4}


async def test_a_revocation_that_came_by_the_chain_alone_stops_too(world, autojump_clock) -> None:
    session = await running(world)
    anchored(world.nodes["regulator-d"].engine.db, DATA["bank-a"], live=0)
    assert set((await world.ended(session)).values()) == {SessionState.ABORTED}
    assert "the grant of bank-a was revoked" in world.state("regulator-d", session).reason


async def test_a_grant_under_which_nobody_sits_ends_no_session(world, autojump_clock) -> None:
    """Members that were not drawn may go: only what the session uses counts."""
    session = await running(world)
    live = world.live("bank-a", session)
    live.seating = type(live.seating)((world.nodes["bank-b"].account,), None)
    anchored(world.nodes["bank-a"].engine.db, COMPUTE["regulator-d"], live=0)
    await trio.sleep(5)
    assert world.state("bank-a", session).state is SessionState.RUNNING
    assert session_records.find(world.nodes["bank-a"].engine.db, session) is not None
    await world.sessions["bank-a"].stop(session)
    await world.ended(session)


async def test_a_running_session_outlives_a_reorganisation_that_takes_its_task(
    world, autojump_clock
) -> None:
    """What was checked when it was signed stands; its watchers need the chain's tasks no more."""
    session = await running(world)
    world.nodes["bank-a"].engine.db.execute("DELETE FROM chain_tasks")
    await trio.sleep(5)
    assert world.state("bank-a", session).state is SessionState.RUNNING
    await world.sessions["bank-a"].stop(session)
    await world.ended(session)
