"""The task market: stations, money, and what each liar gains."""

from dataclasses import replace

import boa
import pytest

from chain.compile import FOLDER
from chain.identities import task_id
from chain.values import ALGORITHM, DATA, TASK_STATES, Due
from protocol.ids import Account

BOND = 1_000
WINDOW_S, DECISION_S, GRACE_S = 600, 900, 300
DECIDER = Account(b"\x0d" * 20)
NOBODY = "0x" + "00" * 20
PLAN = b"\x03" * 32


class Deal:
    """Two banks' data under the fintech's algorithm, granted, and a task on it."""

    def __init__(self, world, bank, other_bank, fintech, regulator, price=5, unit=0):
        self.world = world
        self.bank, self.other_bank = bank, other_bank
        self.fintech, self.regulator = fintech, regulator
        owners = {
            world.register(bank, b"\x01" * 32): bank,
            world.register(other_bank, b"\x02" * 32): other_bank,
        }
        self.owners = dict(sorted(owners.items()))
        self.children = list(self.owners)
        self.algorithm = world.compose(fintech, self.children)
        self.node = world.node(fintech, self.children)
        for child, owner in self.owners.items():
            grant = world.grant(child, self.algorithm, owner, fintech, price=price, price_unit=unit)
            world.registry.grant_by_signature(*world.signed(owner, grant))
            with world.as_(owner):
                world.registry.trust(regulator.address, True)
        world.fund(fintech, 100)
        world.lodge(regulator)
        self.terms = world.task(self.algorithm, fintech)

    def open(self, terms=None, who=None):
        with self.world.as_(who or self.fintech):
            return self.world.market.open(self.world.values(terms or self.terms))

    def attest(self, who=None, nodes=None, terms=None):
        return self.world.attest(who or self.regulator, terms or self.terms, nodes or [self.node])

    def call(self, who, name, *arguments, terms=None):
        with self.world.as_(who):
            return getattr(self.world.market, name)(
                self.world.values(terms or self.terms), *arguments
            )

    def claim(self, who, dues, amounts, prior=(), signer=None):
        signature = self.world.receipt(signer or self.fintech, self.terms, dues, amounts)
        return self.call(who, "claim", self.world.many(dues), amounts, list(prior), signature)

    def report(self, dues, amounts, keys):
        signatures = self.world.usage(keys, self.terms, dues, amounts)
        return self.call(
            self.fintech,
            "report",
            self.world.many(dues),
            b"\x01" * 32,
            b"\x02" * 32,
            amounts,
            signatures,
        )

    def settle(self, dues, amounts):
        return self.call(self.fintech, "settle", self.world.many(dues), amounts)

    def state(self):
        return TASK_STATES[self.world.state(self.terms)]

    def credit(self, key):
        return self.world.market.credits(self.world.token.address, key.address)

    def wait_until(self, moment):
        boa.env.time_travel(seconds=max(0, moment - self.world.now))


@pytest.fixture
def deal(world, bank, other_bank, fintech, regulator):
    return Deal(world, bank, other_bank, fintech, regulator)


@pytest.fixture
def by_row(world, bank, other_bank, fintech, regulator):
    return Deal(world, bank, other_bank, fintech, regulator, price=2, unit=1)


# ------------------------------------------------------------------------ opening


def test_open_takes_the_escrow(deal, world):
    task = deal.open()
    assert task == task_id(world.chain_id, world.market_account, deal.terms)
    assert world.token.balanceOf(world.market.address) == 100 + BOND
    assert deal.state() == "OPEN"
    with boa.reverts("already opened"):
        deal.open()


def test_only_the_owner_or_its_delegate_opens(deal, world, fintech, stranger):
    world.fund(stranger, 100)
    account = world.account(stranger)
    with boa.reverts("consumer is not the owner"):
        deal.open(replace(deal.terms, consumer=account, opener=account), stranger)
    with boa.reverts("not the opener"):
        deal.open(who=stranger)
    theirs = replace(deal.terms, opener=account)
    with boa.reverts("not a delegate"):
        deal.open(theirs, stranger)
    with world.as_(fintech):
        world.registry.delegate(stranger.address, True)
    deal.open(theirs, stranger)
    with world.as_(fintech):
        world.registry.delegate(stranger.address, False)
    with boa.reverts("not a delegate"):
        deal.open(replace(theirs, salt=b"\x01" * 32), stranger)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"deadline": 0}, "deadline has passed"),
        ({"recipient": Account(bytes(20))}, "no recipient"),
        ({"decider": Account(bytes(20))}, "decider is a party"),
        ({"budget": 101}, "not approved"),
    ],
)
def test_what_cannot_be_opened(deal, changes, reason):
    with boa.reverts(reason):
        deal.open(replace(deal.terms, **changes))


def test_the_decider_is_no_party(deal, world, stranger):
    for changes in (
        {"decider": deal.terms.opener},
        {"decider": deal.terms.recipient},
        {"decider": world.account(stranger), "recipient": world.account(stranger)},
    ):
        with boa.reverts("decider is a party"):
            deal.open(replace(deal.terms, **changes))


def test_only_a_composed_algorithm(deal, world, bank, fintech):
    bare = world.register(fintech, b"\x44" * 32, ALGORITHM)
    union = world.compose(bank, [deal.children[0]], DATA)
    for cdt in (bare, union, deal.children[0], b"\x12" * 32):
        with boa.reverts("not a composed algorithm"):
            deal.open(replace(deal.terms, cdt=cdt))


def test_cancel(deal, world, fintech, stranger):
    with boa.reverts("not open"):
        deal.call(fintech, "cancel")
    deal.open()
    with boa.reverts("not the opener"):
        deal.call(stranger, "cancel")
    deal.call(fintech, "cancel")
    assert (deal.state(), deal.credit(fintech)) == ("CANCELLED", 100)
    for name in ("cancel", "refund"):
        with boa.reverts():
            deal.call(fintech, name)
    with boa.reverts("already opened"):
        deal.open()
    with boa.reverts("not open"):
        deal.attest()


# --------------------------------------------------------------------- attestation


def test_attest_spends_and_locks(deal, world, regulator):
    deal.open()
    dues = deal.attest()
    assert [(d.child, d.owner, d.price) for d in dues] == [
        (child, world.account(owner), 5) for child, owner in deal.owners.items()
    ]
    assert deal.state() == "ATTESTED"
    assert world.market.bonds(regulator.address) == 0
    for child in deal.children:
        word, _ = world.registry.grant_of(child, deal.algorithm)
        assert (word >> 168) & (2**32 - 1) == 1
    with boa.reverts("not open"):
        deal.attest()


def test_an_untrusted_attester(deal, world, bank, stranger, regulator):
    deal.open()
    world.lodge(stranger)
    with boa.reverts("attester is not trusted"):
        deal.attest(stranger)
    with world.as_(bank):
        world.registry.trust(regulator.address, False)
    with boa.reverts("attester is not trusted"):
        deal.attest()


def test_parties_cannot_attest(deal, world, fintech, bank, other_bank):
    deal.open()
    for owner in (bank, other_bank):
        with world.as_(owner):
            world.registry.trust(fintech.address, True)
    world.lodge(fintech)
    with boa.reverts("attester is a party"):
        deal.attest(fintech)


def test_no_bond_no_attestation(deal, world, regulator):
    deal.open()
    with world.as_(regulator):
        world.market.release_bond(1)
        with boa.reverts("not free"):
            world.market.release_bond(BOND)
    with boa.reverts("bond is not lodged"):
        deal.attest()


def test_too_late_to_attest(deal):
    deal.open()
    deal.wait_until(deal.terms.deadline)
    with boa.reverts("deadline has passed"):
        deal.attest()


def test_a_revoked_a_used_up_and_an_expired_edge(deal, world, bank, fintech):
    child = next(c for c, owner in deal.owners.items() if owner is bank)
    deal.open()
    with world.as_(bank):
        world.registry.revoke(child, deal.algorithm, 1)
    with boa.reverts("no live grant on these terms"):
        deal.attest()
    grant = world.grant(child, deal.algorithm, bank, fintech, seq=2, max_uses=1)
    world.registry.grant_by_signature(*world.signed(bank, grant))
    with boa.env.anchor():
        deal.attest()
        again = replace(deal.terms, salt=b"\x01" * 32)
        world.fund(fintech, 100)
        deal.open(again)
        world.lodge(deal.regulator)
        with boa.reverts("grant is used up"):
            deal.attest(terms=again)
    soon = world.grant(child, deal.algorithm, bank, fintech, seq=3, expiry=world.now + 100)
    world.registry.grant_by_signature(*world.signed(bank, soon))
    deal.wait_until(soon.expiry)
    with boa.reverts("grant has expired"):
        deal.attest()


@pytest.mark.parametrize("field", ["token", "decider", "consumer", "terms_hash", "consumer_epoch"])
def test_grants_on_other_conditions(deal, world, bank, fintech, field):
    child = next(c for c, owner in deal.owners.items() if owner is bank)
    grant = world.grant(child, deal.algorithm, bank, fintech, seq=2)
    value = getattr(grant, field)
    other = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    grant = replace(grant, **{field: other})
    world.registry.grant_by_signature(*world.signed(bank, grant))
    deal.open()
    with boa.reverts("no live grant on these terms"):
        deal.attest()


def test_a_sold_algorithm_needs_new_grants(deal, world, fintech, stranger):
    deal.open()
    for giver, taker in ((fintech, stranger), (stranger, fintech)):
        with world.as_(giver):
            world.registry.offer_ownership(deal.algorithm, taker.address)
        with world.as_(taker):
            world.registry.accept_ownership(deal.algorithm)
        with boa.reverts():
            deal.attest()


def test_a_sold_child_needs_a_new_grant(deal, world, bank, stranger):
    child = next(c for c, owner in deal.owners.items() if owner is bank)
    deal.open()
    with world.as_(bank):
        world.registry.offer_ownership(child, stranger.address)
    with world.as_(stranger):
        world.registry.accept_ownership(child)
    with boa.reverts("no live grant on these terms"):
        deal.attest()


def test_the_witness_must_be_exact(deal, world):
    deal.open()
    node = deal.node
    kids, terms = node.children, node.terms
    wrong = [
        [],
        [replace(node, children=kids[:1], terms=terms[:1])],
        [replace(node, children=kids[::-1])],
        [replace(node, children=(*kids, kids[0]), terms=(*terms, terms[0]))],
        [replace(node, salt=1)],
        [replace(node, kind=DATA)],
        [replace(node, proof=b"\x01" * 32)],
        [node, node],
        [replace(node, terms=(b"\x08" * 32, terms[1]))],
    ]
    for nodes in wrong:
        with boa.reverts():
            world.attest(deal.regulator, deal.terms, nodes)
    longer = replace(node, terms=(*terms, terms[0]))
    with boa.reverts("witness terms"):
        world.attest(deal.regulator, deal.terms, [longer])
    deal.attest()


def test_over_budget(deal, world, fintech):
    cheap = replace(deal.terms, budget=9)
    deal.open(cheap)
    with boa.reverts("over budget"):
        deal.attest(terms=cheap)


def test_a_deeper_tree_breadth_first(deal, world, bank, other_bank, fintech, regulator):
    union = world.compose(bank, deal.children, DATA, b"\xbb" * 32)
    top = world.compose(fintech, [union, deal.children[0]], proof=b"\xcc" * 32)
    consumers = {union: bank, top: fintech}
    nodes = [
        world.node(fintech, [union, deal.children[0]], proof=b"\xcc" * 32),
        world.node(bank, deal.children, DATA, b"\xbb" * 32),
    ]
    terms = world.task(top, fintech)
    edges = [(c, union, deal.owners[c]) for c in deal.children]
    edges += [(union, top, bank), (deal.children[0], top, deal.owners[deal.children[0]])]
    for child, parent, owner in edges:
        grant = world.grant(child, parent, owner, consumers[parent])
        world.registry.grant_by_signature(*world.signed(owner, grant))
    deal.open(terms)
    with boa.reverts():
        world.attest(regulator, terms, nodes[::-1])
    with boa.reverts("witness too short"):
        world.attest(regulator, terms, nodes[:1])
    dues = world.attest(regulator, terms, nodes)
    assert [(d.child, d.parent) for d in dues] == [
        *[(child, top) for child in sorted([union, deal.children[0]])],
        *[(child, union) for child in deal.children],
    ]


def test_nobody_but_the_market_consumes(deal, world, stranger):
    with world.as_(stranger), boa.reverts("not the market"):
        world.registry.consume(deal.algorithm, [], [], [], NOBODY, NOBODY, NOBODY, NOBODY)


# --------------------------------------------------------------- usage by all sides


def test_usage_signed_by_all_settles_at_once(deal, world, bank, other_bank, fintech, regulator):
    deal.open()
    dues = deal.attest()
    deal.report(dues, [5, 7], [fintech, bank, other_bank])
    assert deal.state() == "REPORTED"
    with boa.reverts("other amounts"):
        deal.settle(dues, [7, 5])
    with boa.reverts("other dues"):
        deal.settle(dues[::-1], [5, 7])
    deal.settle(dues, [5, 7])
    paid = {world.account(k): deal.credit(k) for k in (bank, other_bank, fintech)}
    assert paid[dues[0].owner] == 5
    assert paid[dues[1].owner] == 7
    assert paid[world.account(fintech)] == 88
    assert world.market.bonds(regulator.address) == BOND
    with boa.reverts("nothing to settle"):
        deal.settle(dues, [5, 7])
    for key in (bank, other_bank, fintech):
        before = world.token.balanceOf(key.address)
        with world.as_(key):
            world.market.withdraw(world.token.address)
            with boa.reverts("nothing to withdraw"):
                world.market.withdraw(world.token.address)
        assert world.token.balanceOf(key.address) == before + paid[world.account(key)]


def test_every_side_must_have_signed(deal, bank, other_bank, fintech, stranger):
    deal.open()
    dues = deal.attest()
    with boa.reverts("recipient has not signed"):
        deal.report(dues, [5, 5], [bank, other_bank])
    with boa.reverts("an owner has not signed"):
        deal.report(dues, [5, 5], [fintech, bank, stranger])
    signatures = deal.world.usage([fintech, bank, other_bank], deal.terms, dues, [5, 5])
    with boa.reverts("bad signature"):  # signed for other amounts
        deal.call(
            fintech, "report", deal.world.many(dues), b"\x01" * 32, b"\x02" * 32, [5, 6], signatures
        )
    with boa.reverts("over budget"):
        deal.report(dues, [50, 51], [fintech, bank, other_bank])
    with boa.reverts("one amount for each edge"):
        deal.report(dues, [5], [fintech, bank, other_bank])


def test_a_report_comes_before_the_deadline(deal, bank, other_bank, fintech):
    deal.open()
    dues = deal.attest()
    deal.wait_until(deal.terms.deadline)
    with boa.reverts("deadline has passed"):
        deal.report(dues, [5, 5], [fintech, bank, other_bank])


def test_nothing_is_reported_or_claimed_without_attestation(deal, world, bank, other_bank, fintech):
    deal.open()
    dues = [
        Due(child, deal.algorithm, world.account(owner), 5, 0)
        for child, owner in deal.owners.items()
    ]
    with boa.reverts("not attested"):
        deal.report(dues, [5, 5], [fintech, bank, other_bank])
    with boa.reverts("not attested"):
        deal.claim(bank, dues, [5, 5])
    with boa.reverts("nothing to settle"):
        deal.settle(dues, [5, 5])


# ------------------------------------------------------------------ claim by receipt


def test_a_silent_recipient_pays_by_its_receipt(deal, world, bank, fintech):
    deal.open()
    dues = deal.attest()
    deal.claim(bank, dues, [5, 5])
    assert deal.state() == "CLAIMED"
    with boa.reverts("window is open"):
        deal.settle(dues, [5, 5])
    deal.wait_until(deal.terms.deadline + WINDOW_S)
    deal.settle(dues, [5, 5])
    assert (deal.credit(bank), deal.credit(fintech)) == (5, 90)


def test_who_claims_and_with_what(deal, bank, other_bank, fintech, stranger):
    deal.open()
    dues = deal.attest()
    with boa.reverts("not an owner"):
        deal.claim(stranger, dues, [5, 5])
    with boa.reverts("bad signature"):
        deal.claim(bank, dues, [5, 5], signer=stranger)
    with boa.reverts("less than the price"):
        deal.claim(bank, dues, [5, 4])
    with boa.reverts("over budget"):
        deal.claim(bank, dues, [96, 5])
    with boa.reverts("prior"):
        deal.claim(bank, dues, [5, 5], [1, 1])
    deal.claim(bank, dues, [5, 5])
    with boa.reverts("prior"):
        deal.claim(other_bank, dues, [5, 5])


def test_two_receipts_owe_the_higher_of_each_line(by_row, world, bank, other_bank, fintech):
    by_row.open()
    dues = by_row.attest()
    by_row.claim(bank, dues, [0, 0])  # a colluding owner brings a receipt for nothing
    by_row.claim(other_bank, dues, [40, 30], [0, 0])
    by_row.claim(bank, dues, [10, 50], [40, 30])
    by_row.wait_until(by_row.terms.deadline + WINDOW_S)
    by_row.settle(dues, [40, 50])
    assert by_row.credit(fintech) == 10


def test_usage_replaces_a_claim(deal, bank, other_bank, fintech):
    deal.open()
    dues = deal.attest()
    deal.claim(bank, dues, [20, 20])
    deal.report(dues, [1, 2], [fintech, bank, other_bank])
    deal.settle(dues, [1, 2])
    assert deal.credit(fintech) == 97


def test_a_claim_can_come_until_the_grace_ends(deal, bank):
    deal.open()
    dues = deal.attest()
    deal.wait_until(deal.terms.deadline + GRACE_S - 1)
    with boa.env.anchor():
        deal.claim(bank, dues, [5, 5])
    boa.env.time_travel(seconds=1)
    with boa.reverts("too late"):
        deal.claim(bank, dues, [5, 5])


# ---------------------------------------------------------------------------- refund


def test_refund_only_after_deadline_and_grace(deal, world, bank, fintech, regulator, stranger):
    deal.open()
    with boa.reverts("too early"):
        deal.call(stranger, "refund")
    deal.attest()
    deal.wait_until(deal.terms.deadline + GRACE_S - 1)
    with boa.reverts("too early"):
        deal.call(stranger, "refund")
    boa.env.time_travel(seconds=1)
    deal.call(stranger, "refund")
    assert (deal.state(), deal.credit(fintech)) == ("REFUNDED", 100)
    assert world.market.bonds(regulator.address) == BOND
    with boa.reverts("nothing to refund"):
        deal.call(stranger, "refund")


def test_a_claimed_task_is_not_refunded(deal, bank, fintech):
    deal.open()
    dues = deal.attest()
    deal.claim(bank, dues, [5, 5])
    deal.wait_until(deal.terms.deadline + 10_000)
    with boa.reverts("nothing to refund"):
        deal.call(fintech, "refund")


# --------------------------------------------------------------------------- dispute


def test_the_decider_rules(by_row, world, bank, other_bank, fintech, regulator, stranger):
    by_row.open()
    dues = by_row.attest()
    by_row.claim(bank, dues, [40, 40])
    lines = world.many(dues)
    with boa.reverts("not a party"):
        by_row.call(stranger, "dispute", lines, b"\x01" * 32)
    with boa.reverts("not disputed"):
        by_row.call(DECIDER, "decide", lines, [1, 1], NOBODY)
    by_row.call(fintech, "dispute", lines, b"\x01" * 32)
    for who in (fintech, regulator, stranger):
        with boa.reverts("not the decider"):
            by_row.call(who, "decide", lines, [1, 1], NOBODY)
    with boa.reverts("not a party"):
        by_row.call(DECIDER, "decide", lines, [1, 1], "0x" + DECIDER.hex())
    with boa.reverts("over budget"):
        by_row.call(DECIDER, "decide", lines, [100, 1], NOBODY)
    by_row.call(DECIDER, "decide", lines, [1, 2], bank.address)
    assert by_row.state() == "SETTLED"
    assert by_row.credit(bank) + by_row.credit(other_bank) == 3 + BOND
    assert by_row.credit(fintech) == 97
    assert world.market.bonds(regulator.address) == 0
    with boa.reverts("not disputed"):
        by_row.call(DECIDER, "decide", lines, [1, 2], bank.address)


def test_an_innocent_attester_keeps_its_bond(deal, world, bank, regulator):
    deal.open()
    dues = deal.attest()
    deal.call(bank, "dispute", world.many(dues), b"\x01" * 32)
    deal.call(DECIDER, "decide", world.many(dues), [5, 5], NOBODY)
    assert world.market.bonds(regulator.address) == BOND


def test_a_silent_decider_changes_nothing_but_the_time(deal, world, bank, fintech):
    deal.open()
    dues = deal.attest()
    deal.claim(bank, dues, [5, 5])
    deal.wait_until(deal.terms.deadline + WINDOW_S - 1)
    deal.call(fintech, "dispute", world.many(dues), b"\x01" * 32)
    with boa.reverts("not attested"):
        deal.call(bank, "dispute", world.many(dues), b"\x01" * 32)
    with boa.reverts("window is open"):
        deal.settle(dues, [5, 5])
    boa.env.time_travel(seconds=DECISION_S)
    with boa.reverts("too late"):
        deal.call(DECIDER, "decide", world.many(dues), [0, 0], NOBODY)
    deal.settle(dues, [5, 5])
    assert deal.credit(bank) == 5


def test_an_early_dispute_does_not_cut_the_claims_off(deal, world, bank, other_bank, fintech):
    deal.open()
    dues = deal.attest()
    deal.call(fintech, "dispute", world.many(dues), b"\x01" * 32)
    deal.wait_until(deal.terms.deadline + GRACE_S - 1)
    deal.claim(bank, dues, [5, 5])
    assert deal.state() == "DISPUTED"
    boa.env.time_travel(seconds=DECISION_S)
    with boa.reverts("claimed"):
        deal.call(fintech, "refund")
    deal.settle(dues, [5, 5])
    assert deal.credit(bank) == 5


def test_a_dispute_without_claim_ends_in_a_refund(deal, world, bank, fintech):
    deal.open()
    dues = deal.attest()
    deal.call(fintech, "dispute", world.many(dues), b"\x01" * 32)
    deal.wait_until(deal.terms.deadline + GRACE_S + DECISION_S)
    with boa.reverts("other amounts"):
        deal.settle(dues, [0, 0])
    deal.call(bank, "refund")
    assert deal.credit(fintech) == 100


# --------------------------------------------------------------------- hostile tokens


@pytest.mark.parametrize(("mode", "reason"), [(0, None), (1, "token refused"), (2, "less arrived")])
def test_tokens_that_are_quiet_lie_or_keep_a_fee(deal, world, fintech, mode, reason):
    token = world.load("HostileToken", mode)
    token.give(fintech.address, 1000)
    terms = replace(deal.terms, token=world.raw(token.address))
    if reason is None:
        deal.open(terms)
        deal.call(fintech, "cancel", terms=terms)
        with world.as_(fintech):
            world.market.withdraw(token.address)
        assert token.balanceOf(world.market.address) == 0
    else:
        with boa.reverts(reason):
            deal.open(terms)


def test_a_token_that_calls_back_gets_nowhere(deal, world, fintech):
    token = world.load("HostileToken", 3)
    token.give(fintech.address, 1000)
    terms = replace(deal.terms, token=world.raw(token.address))
    for target in ("withdraw", "cancel"):
        if target == "withdraw":
            data = world.market.withdraw.prepare_calldata(token.address)
        else:
            data = world.market.cancel.prepare_calldata(world.values(terms))
        token.arm(world.market.address, data)
        with boa.env.anchor():
            deal.open(terms)
            assert not token.reentered()
            deal.call(fintech, "cancel", terms=terms)
            with world.as_(fintech):
                world.market.withdraw(token.address)
            assert not token.reentered()
    assert world.token.balanceOf(world.market.address) == BOND


def test_the_registry_must_know_its_market(world):
    with boa.reverts("registry of another market"):
        boa.load(
            FOLDER / "TaskMarket.vy",
            world.registry.address,
            world.token.address,
            0,
            1,
            1,
            1,
        )
