"""The market among nodes: withdrawn and offered again; strangers known by a binding; lies."""

import msgspec
import pytest
import trio
from eth_account import Account as Accounts

from node import assets, composing, grant_records, negotiation_records, publishing
from node.acquaintances import Acquaintances
from node.api.market_methods import Listed, MarketMethods, OfCdt, Searched
from node.api.organisation_methods import After, OrganisationMethods
from node.cli.output import print_value
from node.errors import Fault
from node.keys import PeerKey
from protocol import binding, codec, documents, envelope, organisation, typed_data
from protocol.binding import Binding
from protocol.ids import Account, hexadecimal
from protocol.negotiation import State
from protocol.organisation import Organisation
from tests.node.rooms.contracts import ALGORITHM, DATA, algorithm, everybody_knows, request_for
from tests.node.rooms.test_catalogue import announcement, document, signed

CDT = b"\x01" * 32
LOCAL = Accounts.from_key(b"\x07" * 32)
STRANGER = Account(bytes.fromhex(LOCAL.address[2:]))
KEY = PeerKey(b"\x19" * 32)


class House:
    """What the methods use of a house."""

    def __init__(self, node) -> None:
        self.engine, self.config, self.directory = node.engine, node.config, node.directory


class Rooms:
    """What the methods use of a node's rooms."""

    def __init__(self, node) -> None:
        self.house = House(node)
        self.publishing = publishing.Publishing.__new__(publishing.Publishing)
        self.publishing._engine = node.engine
        self.publishing._directory = node.directory
        self.publishing._announcing = node.rooms.announcing


def market(node) -> MarketMethods:
    return MarketMethods(Rooms(node))


async def spread(nodes, until) -> None:
    async with trio.open_nursery() as nursery:
        for node in nodes.values():
            nursery.start_soon(node.engine.run)
        with trio.fail_after(60):
            while not until():  # noqa: ASYNC110  one question to many engines
                await trio.sleep(0.5)
        nursery.cancel_scope.cancel()


async def test_withdrawn_is_told_to_all_and_offered_again(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    for node in nodes.values():
        node.registered(CDT, a.account, document(a.key.peer_id))
    line = await market(a).withdraw(OfCdt(cdt=hexadecimal(CDT)))
    assert (line["state"], line["reason"]) == ("withdrawn", assets.WITHDRAWN)

    def standing() -> set[str]:
        return {assets.find(node.engine.db, CDT).standing for node in nodes.values()}

    await spread(nodes, lambda: standing() == {"withdrawn"})
    assert (await market(c).find(Listed()))["assets"] == []
    (shown,) = (await market(c).find(Searched(text="facts", state="withdrawn")))["assets"]
    assert shown["cdt"] == CDT
    await market(a).offer(OfCdt(cdt=hexadecimal(CDT)))
    await spread(nodes, lambda: standing() == {"confirmed"})
    (shown,) = (await market(c).find(Listed(owner="bank-a")))["assets"]
    assert (shown["cdt"], shown["owner"], shown["state"]) == (CDT, "bank-a", "confirmed")


async def test_only_its_owner_withdraws(nodes, autojump_clock) -> None:
    a, b = nodes["bank-a"], nodes["bank-b"]
    for node in (a, b):
        node.registered(CDT, a.account, document(a.key.peer_id))
    with pytest.raises(Fault, match="not this node's: bank-a owns it"):
        await market(b).withdraw(OfCdt(cdt=hexadecimal(CDT)))
    with pytest.raises(Fault, match="no asset"):
        await market(b).withdraw(OfCdt(cdt="0x" + "99" * 32))
    forged = msgspec.structs.replace(announcement(b), owner=a.account, withdrawn=True)
    stolen = msgspec.structs.replace(announcement(b), withdrawn=True)
    for body in (forged, stolen):
        await nodes["fintech-c"].host.hear(b.key.peer_id, signed(b, body))
        assert not await a.host.hear(b.key.peer_id, signed(b, body))
    assert assets.find(a.engine.db, CDT).standing == "confirmed"


async def test_nothing_new_is_granted_of_what_is_withdrawn(nodes, autojump_clock) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b, c = nodes["bank-b"], nodes["fintech-c"]
    kept = await negotiated(c, request_for(nodes, DATA["bank-b"]))
    assert kept.state is State.FINALIZED
    with b.engine.transaction() as tx:
        assets.offered(tx, DATA["bank-b"], withdrawn=True)
    again = await negotiated(c, request_for(nodes, DATA["bank-b"]))
    assert again.state is State.TERMINATED
    assert "its owner has withdrawn it" in again.findings
    given = grant_records.latest(b.engine.db, DATA["bank-b"], ALGORITHM)
    assert given is not None
    assert not given.revoked
    request = codec.decode(kept.request, type(request_for(nodes, DATA["bank-b"])))
    assert b.judging.judge_given(request, given).verdict == "permit"


async def negotiated(node, request):
    node.negotiations.consumer.start(request)

    def found():
        return negotiation_records.find(node.engine.db, request.process)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.engine.run)
        final = (State.FINALIZED, State.TERMINATED)
        assert await node.engine.until(lambda: found().state in final, 300)
        nursery.cancel_scope.cancel()
    return found()


# ---------------------------------------------------------------------- strangers


def bound(node, seq: int = 1, **changes) -> Binding:
    domain = node.directory.bindings._domain
    until = int(node.engine.clock()) + 3600
    message = binding.bind_to(KEY.signing_key, STRANGER, until, seq)
    digest = typed_data.digest(domain, message)
    plain = Binding(
        account=STRANGER,
        peer_id=KEY.peer_id,
        valid_until=until,
        seq=seq,
        account_signature=bytes(LOCAL.unsafe_sign_hash(digest).signature),
        peer_signature=binding.sign_as_peer(KEY.signing_key, domain, message),
    )
    return msgspec.structs.replace(plain, **changes)


def from_stranger(node, **changes) -> bytes:
    body = msgspec.structs.replace(
        announcement(node), owner=STRANGER, endpoint=KEY.peer_id, cdt=CDT, **changes
    )
    return codec.encode(envelope.seal(body, KEY.signing_key))


async def test_a_stranger_is_heard_by_its_binding_and_relayed(nodes, autojump_clock) -> None:
    c = nodes["fintech-c"]
    c.registered(CDT, STRANGER, document(KEY.peer_id))
    c.registered(b"\x02" * 32, STRANGER, document(KEY.peer_id))
    for wrong in (
        {"valid_until": 1_900_000_000},
        {"account_signature": b"x"},
        {"account": c.account},
    ):
        data = from_stranger(c, binding=bound(c, **wrong))
        assert not await c.host.hear(KEY.peer_id, data)
    assert c.directory.of_peer(KEY.peer_id) is None
    assert await c.host.hear(KEY.peer_id, from_stranger(c, binding=bound(c), withdrawn=True))
    assert assets.find(c.engine.db, CDT).standing == "withdrawn"
    known = c.directory.of_peer(KEY.peer_id)
    assert (known.account, known.source, known.operator) == (STRANGER, "gossip", None)
    listed = (await OrganisationMethods(Rooms(c)).every(After()))["organisations"]
    assert [each["known_by"] for each in listed] == ["this node"] + ["northbund.toml"] * 3 + [
        "bound by gossip"
    ]
    assert listed[-1]["name"] == hexadecimal(STRANGER)
    older = from_stranger(c, binding=bound(c, seq=1), seq=2)
    assert await c.host.hear(KEY.peer_id, older)
    assert assets.find(c.engine.db, CDT).standing == "confirmed"


async def test_a_record_gives_addresses_of_the_bound_peer_alone(nodes, autojump_clock) -> None:
    a, c = nodes["bank-a"], nodes["fintech-c"]
    told = ("/ip4/192.0.2.1/tcp/4001",)
    record = Organisation(
        type="organisation",
        account=hexadecimal(a.account),
        name="bank-a",
        description="",
        peer_id=a.key.peer_id,
        addresses=told,
    )
    others = msgspec.structs.replace(record, account=hexadecimal(STRANGER))
    elsewhere = msgspec.structs.replace(record, peer_id=KEY.peer_id)
    acquaintances = Acquaintances(c.engine, c.host, c.directory, c.exchange)
    for document_, learned in ((others, None), (elsewhere, None), (record, told)):
        body = organisation.canonical(document_)
        with a.engine.transaction() as tx:
            proof = assets.keep_document(tx, body)
        with c.engine.transaction() as tx:
            tx.db.execute(
                "INSERT OR REPLACE INTO chain_organisations VALUES (?, ?, ?)",
                [a.account, "bank-a", documents.storage_path(proof)],
            )
            acquaintances.follow(tx, [a.account])
        await spread({"c": c}, lambda: not c.engine.db.execute(
            "SELECT 1 FROM effects WHERE kind = 'fetch-organisation'").fetchone())  # fmt: skip
        assert c.host.learned.get(a.key.peer_id) == learned


# ---------------------------------------------------------------------- shown to people


async def test_names_of_strangers_steer_no_terminal(nodes, capsys) -> None:
    c = nodes["fintech-c"]
    evil = "\x1b[2J<script>alert(1)</script>\u202e\u0007 [bold]x"
    c.registered(CDT, STRANGER, msgspec.structs.replace(document(KEY.peer_id), name=evil))
    (line,) = (await market(c).find(Searched(text="script")))["assets"]
    assert line["name"] == evil
    assert line["owner"] == hexadecimal(STRANGER)
    print_value([{key: str(value) for key, value in line.items()}])
    out = capsys.readouterr().out
    assert "<script>alert(1)</script>" in out
    assert "[bold]x" in out
    assert not {"\x1b", "\u202e", "\u0007"} & set(out)


async def test_wrong_questions_get_one_sentence(nodes) -> None:
    c = nodes["fintech-c"]
    with pytest.raises(Fault, match="did you mean 'bank-a'"):
        await market(c).find(Listed(owner="bank-aa"))
    with pytest.raises(Fault, match="neither an account"):
        await market(c).find(Listed(owner="0x12"))
    with pytest.raises(Fault, match="no cursor"):
        await market(c).find(Listed(after="nonsense"))
    shown = await market(c).find(Listed(owner=hexadecimal(STRANGER), meetable=True, purpose="x"))
    assert shown == {"assets": [], "after": "", "ranked": False}


async def test_an_asset_is_shown_with_what_its_terms_say_to_this_node(nodes) -> None:
    c = nodes["fintech-c"]
    everybody_knows(nodes, algorithm(nodes))
    shown = await market(c).show(OfCdt(cdt=hexadecimal(DATA["bank-a"])))
    assert shown["meetable"] is False
    assert shown["terms"] == []
    tree = await market(c).tree(OfCdt(cdt=hexadecimal(ALGORITHM)))
    assert len(tree["children"]) == 5


async def test_nothing_is_composed_over_what_is_withdrawn(nodes) -> None:
    c = nodes["fintech-c"]
    everybody_knows(nodes, algorithm(nodes))
    parameters = msgspec.to_builtins(algorithm(nodes).algorithm.workflow[0].parameters)
    steps = ((hexadecimal(DATA["bank-a"]), "shared-features", parameters),)
    parts = {"seats": 3, "threshold": 1, "cohort_floor": 1000, "purpose": "risk"}
    parts |= {"pool": ("0x" + "05" * 32,) * 3, "labels": "hidden", "recipient": c.account}
    assert composing.algorithm_of(c.engine.db, steps=steps, **parts).workflow[0].cdt == steps[0][0]
    with c.engine.transaction() as tx:
        assets.offered(tx, DATA["bank-a"], withdrawn=True)
    with pytest.raises(Fault, match="withdrawn by its owner") as refused:
        composing.algorithm_of(c.engine.db, steps=steps, **parts)
    assert refused.value.kind == "composition-invalid"


async def test_an_endpoints_circle_of_children_ends(nodes) -> None:
    c = nodes["fintech-c"]
    one, two = b"\x01" * 32, b"\x02" * 32
    with c.engine.transaction() as tx:
        for cdt, children in ((one, (two,) * 16), (two, (one,) * 16)):
            assets.registered(tx, cdt, STRANGER, "data", bytes(32), 0, children)
    tree = await market(c).tree(OfCdt(cdt=hexadecimal(one)))

    def count(branch) -> int:
        return 1 + sum(map(count, branch["children"]))

    assert count(tree) <= 1_001


async def test_an_asset_whose_hash_is_of_another_document_is_invalid(nodes) -> None:
    c = nodes["fintech-c"]
    record = Organisation(
        type="organisation",
        account=hexadecimal(STRANGER),
        name="x",
        description="",
        peer_id=KEY.peer_id,
        addresses=(),
    )
    with c.engine.transaction() as tx:
        proof = assets.keep_document(tx, organisation.canonical(record))
        assets.registered(tx, CDT, STRANGER, "data", proof, 0)
    shown = await market(c).show(OfCdt(cdt=hexadecimal(CDT)))
    assert (shown["state"], shown["document"], shown["terms"]) == ("invalid", None, [])
    assert "document" in shown["reason"]
