"""Tree and trace from events alone, without a chain: events are made by hand."""

import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from chain import events, projection, schema, tree
from chain.errors import ChainRefused
from chain.events import Place
from chain.identities import leaf_hash, merkle_branch, merkle_root
from chain.values import ALGORITHM, DATA, Due, Item, TaskTerms

A, C, R, DECIDER, TOKEN = (bytes([i]) * 20 for i in range(1, 6))
D1, D2, UNION, TOP, TASK = (bytes([i]) * 32 for i in range(1, 6))
TERMS = b"\x07" * 32
FAR = 2**39


def word(price=5, unit=0, max_uses=2, expiry=FAR, seq=1):
    return price | expiry << 96 | max_uses << 136 | unit << 200 | 1 << 224 | seq << 225


class Story:
    """Appends events at rising places and keeps the tables."""

    def __init__(self):
        self.db = Database(memory=True)
        schema.MIGRATIONS.apply(self.db)
        self.events = []

    def say(self, build, *values):
        event = build(Place(len(self.events), b"\0" * 32, b"\0" * 32, 0), *values)
        self.events.append(event)
        projection.apply_all(self.db, [event])

    def tables(self):
        return {name: list(self.db[name].rows) for name in projection.TABLES}

    def register(self, cdt, owner, kind=DATA, children=()):
        self.say(events.Registered, cdt, owner, kind, cdt, 0, "ipfs://x")
        if children:
            self.say(events.Composed, cdt, children)

    def grant(self, child, parent, owner=A, consumer=C, epoch=0, consumer_epoch=0, **changes):
        made = word(**changes)
        rest = (epoch, consumer, consumer_epoch, TOKEN, DECIDER)
        self.say(events.Granted, child, parent, owner, TERMS, made, *rest)


@pytest.fixture
def story():
    made = Story()
    made.register(D1, A)
    made.register(D2, A)
    made.register(UNION, A, DATA, (D1, D2))
    made.register(TOP, C, ALGORITHM, (D1, UNION))
    for child in (D1, D2):
        made.grant(child, UNION, consumer=A)
    made.grant(D1, TOP)
    made.grant(UNION, TOP)
    return made


def attest(story, amounts=(5, 5, 5, 5)):
    edges = [(D1, TOP), (UNION, TOP), (D1, UNION), (D2, UNION)]
    dues = tuple(Due(child, parent, A, 5, 0) for child, parent in edges)
    terms = TaskTerms(TOP, C, C, C, DECIDER, TOKEN, 100, FAR, b"\0" * 32)
    story.say(events.Opened, TASK, TOP, C, terms)
    story.say(events.Attested, TASK, R, b"\x09" * 32, dues)
    story.say(events.Reported, TASK, b"\x01" * 32, b"\x02" * 32, amounts)
    story.say(events.Settled, TASK, sum(amounts), 100 - sum(amounts), amounts)


def test_below_and_above(story):
    assert [found.cdt for found in tree.below(story.db, TOP)] == [TOP, D1, UNION, D1, D2]
    assert tree.parents(story.db, D1) == sorted([UNION, TOP])
    assert sorted(tree.paths_above(story.db, D1)) == [(D1, UNION, TOP), (D1, TOP)]
    assert tree.asset(story.db, b"\x66" * 32) is None


def test_the_witness_is_breadth_first(story):
    nodes = tree.witness(story.db, TOP)
    assert [node.children for node in nodes] == [(D1, UNION), (D1, D2)]
    assert {terms for node in nodes for terms in node.terms} == {TERMS}
    with pytest.raises(ChainRefused, match="not registered or has no children"):
        tree.witness(story.db, D1)
    story.say(events.Revoked, D2, UNION, A, 1)
    with pytest.raises(ChainRefused, match="no live grant"):
        tree.witness(story.db, TOP)


def test_uses_are_counted_and_traced(story):
    attest(story, (1, 2, 3, 4))
    uses = tree.uses_of(story.db, D1)
    assert [(use.parent, use.amount, use.state) for use in uses] == [
        (TOP, 1, "SETTLED"),
        (UNION, 3, "SETTLED"),
    ]
    assert {(use.attester, use.consumer, use.terms_hash) for use in uses} == {(R, C, TERMS)}
    assert {grant.uses_left for grant in tree.live_grants(story.db, 0)} == {1}
    (figures,) = tree.price_figures(story.db, TOKEN)
    assert (figures.uses, figures.least, figures.median, figures.most) == (4, 1, 2, 4)
    assert tree.price_figures(story.db, b"\x08" * 20) == []
    by_operation = tree.price_figures(
        story.db, TOKEN, lambda child, _: {D1: "score"}.get(child, "moments")
    )
    assert {(each.operation, each.uses) for each in by_operation} == {("score", 2), ("moments", 2)}


def test_what_is_alive(story):
    assert len(tree.live_grants(story.db, 0)) == 4
    assert tree.live_grants(story.db, FAR) == []
    assert tree.live_grants(story.db, 0, owner=C) == []
    story.grant(D1, TOP, seq=2, max_uses=7)
    (newer,) = [g for g in tree.live_grants(story.db, 0) if (g.child, g.parent) == (D1, TOP)]
    assert (newer.seq, newer.uses_left) == (2, 7)
    story.say(events.OwnershipTransferred, UNION, A, C, 1)
    alive = tree.live_grants(story.db, 0)
    assert {(g.child, g.parent): g.fits for g in alive} == {
        (D1, TOP): True,
        (D1, UNION): False,
        (D2, UNION): False,
    }


def test_rebuilding_gives_the_same(story):
    attest(story)
    story.say(events.Trusted, A, R, True)
    story.say(events.Trusted, A, C, True)
    story.say(events.Trusted, A, C, False)
    tables = {name: list(story.db[name].rows) for name in projection.TABLES}
    assert len(tables["chain_trusts"]) == 1
    projection.rebuild(story.db, story.events)
    assert tables == {name: list(story.db[name].rows) for name in projection.TABLES}


@pytest.mark.parametrize(
    ("ending", "values", "state"),
    [
        (events.Cancelled, (100,), "CANCELLED"),
        (events.Refunded, (100,), "REFUNDED"),
        (events.Claimed, (A, 5, (1, 1, 1, 1)), "CLAIMED"),
        (events.Disputed, (A, 5, b"\0" * 32), "DISPUTED"),
    ],
)
def test_other_ends(story, ending, values, state):
    terms = TaskTerms(TOP, C, C, C, DECIDER, TOKEN, 100, FAR, b"\0" * 32)
    story.say(events.Opened, TASK, TOP, C, terms)
    if state in ("CLAIMED", "DISPUTED"):
        story.say(events.Attested, TASK, R, b"\x09" * 32, ())
    story.say(ending, TASK, *values)
    assert story.db.execute("SELECT state FROM chain_tasks").fetchall() == [(state,)]


def test_what_no_contract_can_have_said_changes_nothing(story):
    attest(story)
    before = story.tables()
    story.register(D1, C)
    story.say(events.Attested, TASK, C, b"\x0a" * 32, ())
    story.say(events.Settled, TASK, 1, 99, (1, 0, 0, 0))
    story.say(events.Refunded, b"\x77" * 32, 5)
    terms = TaskTerms(TOP, C, C, C, DECIDER, TOKEN, 100, 2**70, b"\1" * 32)
    story.say(events.Opened, b"\x78" * 32, TOP, C, terms)
    assert story.tables() == before


def test_a_revocation_before_any_grant_is_remembered(story):
    story.say(events.Revoked, D2, TOP, A, 9)
    rows = story.db.execute("SELECT live, seq FROM chain_grants WHERE child = ? AND parent = ?",
                            [D2, TOP])  # fmt: skip
    assert rows.fetchall() == [(0, 9)]
    assert [(g.child, g.parent) for g in tree.live_grants(story.db, 1)].count((D2, TOP)) == 0


@given(st.integers(1, 40), st.data())
def test_every_leaf_has_its_branch(count, data):
    leaves = [leaf_hash(Item(DATA, bytes([i]) * 32, str(i), i)) for i in range(count)]
    root = merkle_root(leaves)
    index = data.draw(st.integers(0, count - 1))
    node = leaves[index]
    for sibling in merkle_branch(leaves, index):
        node = keccak(b"".join(sorted((node, sibling))))
    assert node == root
