"""What an owner's node answers: counter-offers, referrals, changed policies, second thoughts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from node import grant_records, terms_review
from node import negotiation_records as records
from node.api.terms_methods import Asked, TermsMethods
from node.config import from_table, parse
from node.errors import Fault
from node.judging import Judging
from node.rpc import Parameters
from protocol import codec, terms, terms_policy, terms_table
from protocol.documents import Price, Service
from protocol.errors import RemoteProtocolError
from protocol.ids import hexadecimal
from protocol.judgement import Verdict
from protocol.negotiation import Process, State
from tests.node.rooms.conftest import table_of
from tests.node.rooms.contracts import (
    ALGORITHM,
    ARBITER,
    COMPUTE,
    DATA,
    algorithm,
    everybody_knows,
    metadata,
    request_for,
)

B = DATA["bank-b"]


def judging_of(node: Any, nodes: Any, tmp_path: Path, **changes: Any) -> Judging:
    """The node as it is after its administrator has changed the terms of its dataset."""
    public = [(name, each.key, each.account) for name, each in nodes.items()]
    table: dict[str, Any] = table_of(node.name, public)
    table["datasets"][0]["terms"] |= changes
    return Judging(node.engine, node.directory, from_table(table, tmp_path, node.name))


def verdict_of(nodes: Any, judging: Judging, **changes: Any) -> tuple[Verdict, list[str]]:
    judgement = judging.judge(request_for(nodes, B, **changes))
    return judgement.verdict, [each.operand for each in judgement.failures]


async def test_a_request_is_countered_by_the_nearest_that_would_pass(
    nodes: Any, autojump_clock: object
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    judging = nodes["bank-b"].judging
    wrong: dict[str, Any] = {
        "uses": 9,
        "pay_amount": "5",
        "expires": 2**40,
        "attester": b"\x77" * 20,
        "decider": b"\x78" * 20,
    }
    request = request_for(nodes, B, **wrong)
    judgement = judging.judge(request)
    assert judgement.verdict == "counter"
    offer = judgement.counter
    assert offer is not None
    assert (offer.uses, offer.pay_amount) == (2, str(10**18))
    assert (offer.attester, offer.decider) == (nodes["regulator-d"].account, ARBITER)
    accepted = msgspec.structs.replace(
        request,
        uses=offer.uses,
        pay_amount=offer.pay_amount,
        expires=offer.expires,
        attester=offer.attester,
        decider=offer.decider,
    )
    assert judging.judge(accepted).verdict == "permit"


async def test_a_grant_that_would_be_over_at_once_is_countered(
    nodes: Any, autojump_clock: object
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    verdict, failed = verdict_of(nodes, nodes["bank-b"].judging, expires=1_000)
    assert (verdict, failed) == ("counter", [terms.EXPIRY])


async def test_uses_that_are_left_are_offered_and_none_after_a_revocation(
    nodes: Any, autojump_clock: object
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b = nodes["bank-b"]
    with b.engine.transaction() as tx:
        b.grants.give(tx, request_for(nodes, B))
        b.grants.count_use(tx, B, ALGORITHM)
    judgement = b.judging.judge(request_for(nodes, B, uses=2))
    assert judgement.counter is not None
    assert judgement.counter.uses == 1
    b.engine.db.execute("UPDATE grants SET uses_counted = 2")
    assert b.judging.judge(request_for(nodes, B)).verdict == "refuse"
    b.engine.db.execute("UPDATE grants SET revoked = 1, uses_counted = 0")
    verdict, failed = verdict_of(nodes, b.judging)
    assert (verdict, failed) == ("refuse", ["cdt:revoked"])


async def test_what_a_person_decides_and_what_nobody_waives(
    nodes: Any, autojump_clock: object, tmp_path: Path
) -> None:
    parent = algorithm(nodes, width=6, epochs=1)
    everybody_knows(nodes, parent)
    b = nodes["bank-b"]
    width = terms.PARAMETER + "width"
    assert verdict_of(nodes, b.judging) == ("refuse", [width])
    asking = judging_of(b, nodes, tmp_path, refer=["parameters"])
    assert verdict_of(nodes, asking) == ("refer", [width])
    judgement = asking.judge(request_for(nodes, B), waived=frozenset({width}))
    assert judgement.verdict == "permit"
    assert b.judging.judge(request_for(nodes, B), waived={width}).verdict == "refuse"
    # What protects the people in the rows is not among what a person may let pass.
    noisy = judging_of(b, nodes, tmp_path, refer=["parameters"], noise_min=0.9)
    waived = frozenset({width, terms.NOISE})
    again = noisy.judge(request_for(nodes, B), waived=waived)
    assert again.verdict == "refuse"
    assert [each.operand for each in again.failures] == [terms.NOISE]
    # And a member that the owner's own configuration calls the recipient's is a floor.
    bound = judging_of(b, nodes, tmp_path, refer=["parameters", "operators_min"])
    assert bound.judge(request_for(nodes, B), waived={width}).verdict == "permit"


async def test_a_run_keeps_to_the_terms_that_its_grant_was_given_under(
    nodes: Any, autojump_clock: object, tmp_path: Path
) -> None:
    everybody_knows(nodes, algorithm(nodes, width=6, epochs=1))
    b = nodes["bank-b"]
    width = terms.PARAMETER + "width"
    request = request_for(nodes, B)
    with b.engine.transaction() as tx:
        b.grants.give(tx, request, {width})
    kept = b.grants.require_alive(B, ALGORITHM)
    assert kept.waived_operands == {width}
    assert b.judging.judge_given(request, kept).verdict == "permit"
    changed = judging_of(b, nodes, tmp_path, purposes=["audit"], numbers_per_row_max=4)
    assert changed.judge_given(request, kept).verdict == "permit"
    assert terms.most(changed.given(B, ALGORITHM), terms.OPENINGS) == 8
    again = changed.judge_again(request, kept.waived_operands)
    assert [each.operand for each in again.failures] == [terms.PURPOSE, terms.OPENINGS]
    b.engine.db.execute("DELETE FROM given_terms")
    with pytest.raises(Fault, match="not kept here"):
        changed.judge_given(request, kept)


class Revoked:
    def __init__(self) -> None:
        self.edges: list[tuple[bytes, bytes]] = []

    async def revoke(self, child: bytes, parent: bytes) -> bool:
        self.edges.append((child, parent))
        return True


def methods_of(node: Any, judging: Judging) -> tuple[TermsMethods, Revoked]:
    revoked = Revoked()
    house = SimpleNamespace(engine=node.engine, directory=node.directory, judging=judging)
    rooms = SimpleNamespace(house=house, revocations=revoked)
    return TermsMethods(rooms), revoked  # type: ignore[arg-type]


def grant_everything(nodes: Any, name: str) -> None:
    """As negotiations leave it: both edges of this owner granted and finalized."""
    node = nodes[name]
    for child in (DATA[name], COMPUTE[name]):
        pay = 10**18 if child == DATA[name] else 0
        request = request_for(nodes, child, pay_amount=str(pay))
        with node.engine.transaction() as tx:
            given = codec.encode(node.grants.give(tx, request))
            peer_id = nodes["fintech-c"].key.peer_id
            done = Process(State.FINALIZED, 0.0, 0.0)
            new = records.insert(tx, request, "provider", request.consumer, peer_id, done)
            records.move(tx, new, done, answer=given)


async def test_a_changed_policy_says_which_grants_fail_and_takes_them_back(
    nodes: Any, autojump_clock: object, tmp_path: Path
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b = nodes["bank-b"]
    grant_everything(nodes, "bank-b")
    methods, revoked = methods_of(b, b.judging)
    lines = await methods.review(Parameters())
    assert [each["would_be_given"] for each in lines] == [True, True]
    assert await methods.revoke_failing(Parameters()) == []
    methods, revoked = methods_of(b, judging_of(b, nodes, tmp_path, purposes=["audit"]))
    lines = await methods.review(Parameters())
    assert {each["child"]: each["would_be_given"] for each in lines} == {
        B: False,
        COMPUTE["bank-b"]: True,
    }
    assert lines[0]["why_not"] == ["purpose: risk was asked, only audit is allowed"]
    (taken,) = await methods.revoke_failing(Parameters())
    assert (taken["child"], taken["revoked"]) == (B, True)
    assert revoked.edges == [(B, ALGORITHM)]


async def test_grants_that_are_over_are_not_reviewed_and_lost_assets_fail(
    nodes: Any, autojump_clock: object, tmp_path: Path
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b = nodes["bank-b"]
    grant_everything(nodes, "bank-b")
    house = SimpleNamespace(engine=b.engine, directory=b.directory, judging=b.judging)
    b.engine.db.execute("UPDATE grants SET revoked = 1 WHERE child = ?", [B])
    assert [each.kept.child for each in terms_review.review(house)] == [COMPUTE["bank-b"]]
    b.engine.db.execute("UPDATE grants SET revoked = 0")
    b.engine.db.execute("UPDATE own_assets SET dataset = 'gone' WHERE cdt = ?", [B])
    (lost, kept) = terms_review.review(house)
    assert not lost.passes
    assert "no dataset 'gone'" in lost.failures[0]
    assert kept.passes
    expiry = max(each.terms.expiry for each in grant_records.every(b.engine.db))
    b.engine.db.execute("INSERT INTO chain_blocks VALUES (1, x'', x'', ?)", [expiry])
    assert terms_review.review(house) == []


async def test_why_is_told_of_a_negotiation_and_of_an_edge(
    nodes: Any, autojump_clock: object, tmp_path: Path
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b = nodes["bank-b"]
    methods, _ = methods_of(b, b.judging)
    edge = Asked(request=hexadecimal(ALGORITHM), child=hexadecimal(B))
    unasked = await methods.explain(edge)
    assert unasked["verdict"] == "permit"
    grant_everything(nodes, "bank-b")
    row = b.engine.db.execute("SELECT process FROM negotiations WHERE child = ?", [B]).fetchone()
    methods, _ = methods_of(b, judging_of(b, nodes, tmp_path, uses=1, purposes=["audit"]))
    told = await methods.explain(Asked(request=hexadecimal(row[0])))
    assert told["state"] == "FINALIZED"
    assert told["today"]["verdict"] == "refuse"
    (failed,) = [each for each in told["today"]["findings"] if not each["passed"]]
    assert (failed["what"], failed["asked"], failed["allowed"]) == ("purpose", "risk", "only audit")
    by_edge = await methods.explain(edge)
    assert by_edge["findings"] == told["today"]["findings"]
    recipient = next(each for each in by_edge["findings"] if each["what"] == "counterparty")
    assert recipient["asked"].endswith("(fintech-c)")
    with pytest.raises(Fault, match="neither a negotiation nor an asset"):
        await methods.explain(Asked(request="0x" + "77" * 32))


def publish(nodes: Any, cdt: bytes, owner: str, name: str, **parts: Any) -> None:
    for node in nodes.values():
        node.registered(cdt, nodes[owner].account, metadata(nodes[owner], "data", name, **parts))


def service(nodes: Any, width: int) -> Service:
    table = {
        "operations": ["shared-features"],
        "counterparties": ["fintech-c"],
        "recipients": ["fintech-c"],
        "purposes": ["risk"],
        "attesters": ["regulator-d"],
        "deciders": [hexadecimal(ARBITER)],
        "valid_for_days": 1,
        "uses": 1,
        "parameters": {"width": {"max": width}},
    }
    accounts = {name: node.account for name, node in nodes.items()}
    read = terms_table.read(table, data=True)
    built = terms_policy.for_data(read, accounts, 2**31)
    return Service(terms=built, price=Price(amount="0", unit="edge"))


async def test_a_consumer_is_told_which_child_below_would_refuse(
    nodes: Any, autojump_clock: object
) -> None:
    everybody_knows(nodes, algorithm(nodes, width=3, epochs=1))
    north, south = b"\x21" * 32, b"\x22" * 32
    schema = {"schema": metadata_schema()}
    publish(nodes, north, "bank-b", "north", services=(service(nodes, 2),), **schema)
    publish(nodes, south, "bank-b", "south", services=(service(nodes, 4),), **schema)
    below = (hexadecimal(north), hexadecimal(south))
    publish(nodes, B, "bank-b", "branches", services=(service(nodes, 4),), children=below)
    publish(nodes, DATA["bank-a"], "bank-a", "facts", services=(service(nodes, 9),), **schema)
    c = nodes["fintech-c"]
    methods, _ = methods_of(c, c.judging)
    told = await methods.explain(Asked(request=hexadecimal(ALGORITHM), child=hexadecimal(B)))
    assert told["verdict"] == "refuse"
    (failed,) = [each for each in told["findings"] if not each["passed"]]
    assert failed["asset"] == "branches > north"
    assert (failed["what"], failed["asked"]) == ("parameter width", "3")
    whole = await methods.explain(Asked(request=hexadecimal(ALGORITHM)))
    failing = {each["asset"] for each in whole["findings"] if not each["passed"]}
    assert "branches > north" in failing
    assert not failing & {"facts", "branches > south", "branches"}


def metadata_schema() -> Any:
    from protocol.documents import Column, Schema  # noqa: PLC0415

    return Schema(columns=(Column(name="Age", kind="number", width=2),), rows_about=2000)


async def test_an_edge_that_the_algorithm_does_not_have_is_told(
    nodes: Any, autojump_clock: object
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    stranger = b"\x55" * 32
    publish(nodes, stranger, "bank-a", "other", schema=metadata_schema())
    c = nodes["fintech-c"]
    methods, _ = methods_of(c, c.judging)
    with pytest.raises(Fault, match="no step for"):
        await methods.explain(Asked(request=hexadecimal(ALGORITHM), child=hexadecimal(stranger)))
    with pytest.raises(RemoteProtocolError):
        c.judging.judge(request_for(nodes, B))


async def test_a_policy_that_is_reloaded_holds_for_new_requests_at_once(
    nodes: Any, autojump_clock: object, tmp_path: Path
) -> None:
    everybody_knows(nodes, algorithm(nodes))
    b = nodes["bank-b"]
    grant_everything(nodes, "bank-b")
    kept = b.grants.require_alive(B, ALGORITHM)
    assert b.judging.judge(request_for(nodes, B)).verdict == "permit"
    stricter = judging_of(b, nodes, tmp_path, purposes=["audit"])
    with b.engine.transaction() as tx:
        assert b.judging.adopt(tx, stricter._config) == ("facts",)
        assert b.judging.adopt(tx, stricter._config) == ()
    assert b.judging.dataset_terms("facts")["purposes"] == ["audit"]
    assert verdict_of(nodes, b.judging) == ("refuse", [terms.PURPOSE])
    assert b.judging.judge_given(request_for(nodes, B), kept).verdict == "permit"
    house = SimpleNamespace(engine=b.engine, directory=b.directory, judging=b.judging)
    assert [each.passes for each in terms_review.review(house)] == [False, True]


async def test_only_terms_are_reloaded(nodes: Any, autojump_clock: object, tmp_path: Path) -> None:
    b = nodes["bank-b"]
    other = msgspec.structs.replace(
        b.config, name="somebody-else", datasets=(), compute=None, organisations=()
    )
    with b.engine.transaction() as tx:
        assert b.judging.adopt(tx, other) == ()
    assert b.judging.dataset_terms("facts") == b.config.dataset("facts").terms
    assert b.judging.compute_terms() == b.config.compute.terms


async def test_a_composer_is_told_before_publishing_which_children_would_refuse(
    nodes: Any, autojump_clock: object
) -> None:
    parent = algorithm(nodes, width=3, epochs=1)
    everybody_knows(nodes, parent)
    schema = {"schema": metadata_schema()}
    for owner, width in (("bank-a", 9), ("bank-b", 2)):
        publish(nodes, DATA[owner], owner, owner, services=(service(nodes, width),), **schema)
    c = nodes["fintech-c"]
    house = SimpleNamespace(engine=c.engine, directory=c.directory, judging=c.judging)
    told = terms_review.refusals(house, parent.algorithm, parent.children)
    of_data = [each for each in told if not str(each["asset"]).startswith("compute")]
    assert [(each["asset"], each["what"], each["allowed"]) for each in of_data] == [
        ("bank-b", "parameter width", "at most 2")
    ]
    silent = {each["asset"] for each in told} - {"bank-b"}
    assert silent == {"compute-bank-a", "compute-bank-b", "compute-regulator-d"}


async def test_a_composer_that_promises_more_than_a_child_allows_is_told_which(
    nodes: Any, autojump_clock: object
) -> None:
    parent = algorithm(nodes)
    everybody_knows(nodes, parent)
    schema = {"schema": metadata_schema()}
    for owner, width in (("bank-a", 9), ("bank-b", 2)):
        publish(nodes, DATA[owner], owner, owner, services=(service(nodes, width),), **schema)
    db = nodes["fintech-c"].engine.db
    below = tuple(hexadecimal(cdt) for cdt in sorted(DATA.values()))
    plain = msgspec.structs.replace(parent, children=below)
    terms_review.check_promise(db, plain)  # says nothing, so promises nothing
    terms_review.check_promise(db, msgspec.structs.replace(plain, services=(service(nodes, 2),)))
    greedy = msgspec.structs.replace(plain, services=(service(nodes, 4),))
    with pytest.raises(Fault) as refused:
        terms_review.check_promise(db, greedy)
    assert refused.value.kind == "composition-invalid"
    assert refused.value.sentence.endswith(
        "risk > bank-b: parameter width: your terms allow at most 4, and it allows at most 2"
    )
    silent = hexadecimal(COMPUTE["bank-a"])
    nobody = msgspec.structs.replace(plain, children=(silent,), services=(service(nodes, 2),))
    with pytest.raises(Fault, match="compute-bank-a"):
        terms_review.check_promise(db, nobody)


async def test_the_command_reloads_the_terms_of_the_file_or_nothing(
    nodes: Any, autojump_clock: object, tmp_path: Path
) -> None:
    b = nodes["bank-b"]
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    sample = Path(__file__).parents[3] / "configs" / "terms" / "careful-bank.toml"
    text = sample.read_text("utf-8").replace('name = "applicants"', 'name = "facts"')
    (folder / "northbund.toml").write_text(text.replace("uses = 3", "uses = 0"))
    house = SimpleNamespace(
        engine=b.engine,
        directory=b.directory,
        judging=b.judging,
        config=parse(text, folder, "northbund.toml"),
        folder=SimpleNamespace(path=folder),
    )
    methods = TermsMethods(SimpleNamespace(house=house))  # type: ignore[arg-type]
    with pytest.raises(Fault, match="uses"):
        await methods.reload(Parameters())
    assert b.judging.dataset_terms("facts")["uses"] == 2
    (folder / "northbund.toml").write_text(text)
    told = await methods.reload(Parameters())
    assert told == {"changed": ["facts"], "failing_grants": 0, "waits_for_restart": []}
    assert b.judging.dataset_terms("facts")["uses"] == 3


async def test_nothing_is_granted_of_an_algorithm(nodes: Any, autojump_clock: object) -> None:
    everybody_knows(nodes, algorithm(nodes))
    c = nodes["fintech-c"]
    c.engine.db.execute("INSERT INTO own_assets VALUES (?, '', 'risk', x'', '', 0)", [ALGORITHM])
    with pytest.raises(Fault, match="of type algorithm"):
        c.judging.terms_of_leaf(ALGORITHM)


async def test_no_grant_and_no_waiver_outlives_a_floor_of_today(
    nodes: Any, autojump_clock: object
) -> None:
    """The owner has learnt since that one operator runs everybody's machines."""
    everybody_knows(nodes, algorithm(nodes))
    b = nodes["bank-b"]
    request = request_for(nodes, B)
    with b.engine.transaction() as tx:
        b.grants.give(tx, request, {terms.OPERATORS, terms.CONTRIBUTORS})
    kept = b.grants.require_alive(B, ALGORITHM)
    assert b.judging.judge_given(request, kept).verdict == "permit"
    learnt = SimpleNamespace(own=b.directory.own, operator=lambda _: "fintech-c")
    judging = Judging(b.engine, learnt, b.config)  # type: ignore[arg-type]
    judgement = judging.judge_given(request, kept)
    assert judgement.verdict == "refuse"
    assert {each.operand for each in judgement.failures} == {terms.OPERATORS, terms.CONTRIBUTORS}
