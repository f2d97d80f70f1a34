"""The market against a model: money in = money out + escrow + credits + bonds, at all times.

Every call succeeds if and only if the model says so, whoever calls when.
"""

from dataclasses import dataclass, field

import boa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from chain.values import TASK_STATES, Due, TaskTerms

BOND = 1_000
WINDOW_S, DECISION_S, GRACE_S = 600, 900, 300
PRICE = 5
RUNNING = ("ATTESTED", "CLAIMED", "DISPUTED")

tasks = st.integers(0, 1)
lines = st.lists(st.integers(0, 30), min_size=2, max_size=2)


@dataclass
class Model:
    """What the model knows of one task."""

    terms: TaskTerms
    state: str = "OPEN"
    dues: list[Due] = field(default_factory=list)
    amounts: list[int] | None = None
    closes_at: int = 0

    @property
    def holds_bond(self) -> bool:
        return self.state in (*RUNNING, "REPORTED")

    @property
    def holds_escrow(self) -> bool:
        return self.state == "OPEN" or self.holds_bond


class Market(RuleBasedStateMachine):
    """`world` and the parties are set by the test."""

    world = bank = other_bank = fintech = regulator = None
    decider = b"\x0d" * 20

    @initialize()
    def begin(self):
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        world = self.world
        self.owners = {
            world.register(self.bank, b"\x01" * 32): self.bank,
            world.register(self.other_bank, b"\x02" * 32): self.other_bank,
        }
        children = sorted(self.owners)
        self.algorithm = world.compose(self.fintech, children)
        self.node = world.node(self.fintech, children)
        # One edge is paid as a whole, the other by the row.
        for unit, child in enumerate(children):
            owner = self.owners[child]
            grant = world.grant(
                child,
                self.algorithm,
                owner,
                self.fintech,
                price=PRICE,
                price_unit=unit,
                max_uses=100,
                expiry=world.now + 10**6,
            )
            world.registry.grant_by_signature(*world.signed(owner, grant))
            with world.as_(owner):
                world.registry.trust(self.regulator.address, True)
        self.people = (self.bank, self.other_bank, self.fintech, self.regulator)
        for key in (self.fintech, self.regulator):
            world.fund(key, 10**6)
        self.tasks = []
        self.money = 0
        self.free = 0
        self.credit = dict.fromkeys([key.address for key in self.people], 0)
        self.lodge(3 * BOND)
        self.open(70, 1_500)
        self.attest(0)

    def teardown(self):
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def task(self, number):
        return self.tasks[number % len(self.tasks)] if self.tasks else None

    def call(self, who, name, *arguments, fine):
        with self.world.as_(who):
            if fine:
                getattr(self.world.market, name)(*arguments)
            else:
                with boa.reverts():
                    getattr(self.world.market, name)(*arguments)
        return fine

    def on_task(self, who, name, model, *arguments, fine):
        return self.call(who, name, self.world.values(model.terms), *arguments, fine=fine)

    # ------------------------------------------------------------------- stations

    @rule(budget=st.integers(0, 80), span=st.integers(1, 2_000))
    def open(self, budget, span):
        if len(self.tasks) == 2:
            return
        terms = self.world.task(
            self.algorithm,
            self.fintech,
            budget=budget,
            deadline=self.world.now + span,
            salt=len(self.tasks).to_bytes(32),
        )
        with self.world.as_(self.fintech):
            self.world.market.open(self.world.values(terms))
        self.tasks.append(Model(terms))
        self.money += budget

    @rule(number=tasks)
    def attest(self, number):
        model = self.task(number)
        if model is None:
            return
        fine = (
            model.state == "OPEN"
            and self.world.now < model.terms.deadline
            and self.free >= BOND
            and model.terms.budget >= PRICE
        )
        if not fine:
            with boa.reverts():
                self.world.attest(self.regulator, model.terms, [self.node])
            return
        model.dues = self.world.attest(self.regulator, model.terms, [self.node])
        model.state = "ATTESTED"
        model.closes_at = model.terms.deadline + GRACE_S
        self.free -= BOND

    @rule(number=tasks, amounts=lines, who=st.integers(0, 2))
    def claim(self, number, amounts, who):
        model = self.task(number)
        if model is None or not model.dues:
            return
        prior = model.amounts or []
        owed = [max(pair) for pair in zip(amounts, prior, strict=True)] if prior else amounts
        fine = (
            model.state in RUNNING
            and self.world.now < model.closes_at
            and who < 2
            and amounts[0] >= PRICE
            and sum(owed) <= model.terms.budget
        )
        signature = self.world.receipt(self.fintech, model.terms, model.dues, amounts)
        rest = (self.world.many(model.dues), amounts, prior, signature)
        if self.on_task(self.people[who], "claim", model, *rest, fine=fine):
            model.amounts = owed
            if model.state != "DISPUTED":
                model.state = "CLAIMED"
                since = max(self.world.now, model.terms.deadline)
                model.closes_at = max(model.closes_at, since + WINDOW_S)

    @rule(number=tasks, who=st.integers(0, 3))
    def dispute(self, number, who):
        model = self.task(number)
        if model is None:
            return
        fine = (
            model.state in ("ATTESTED", "CLAIMED") and self.world.now < model.closes_at and who < 3
        )
        rest = (self.world.many(model.dues), b"\x01" * 32)
        if self.on_task(self.people[who], "dispute", model, *rest, fine=fine):
            model.state = "DISPUTED"
            model.closes_at = max(model.closes_at, self.world.now + DECISION_S)

    @rule(number=tasks, amounts=lines, to=st.integers(0, 4))
    def decide(self, number, amounts, to):
        model = self.task(number)
        if model is None or not model.dues:
            return
        fine = (
            model.state == "DISPUTED"
            and self.world.now < model.closes_at
            and sum(amounts) <= model.terms.budget
            and to != 3  # the attester is no party
        )
        bond_to = "0x" + "00" * 20 if to == 4 else self.people[to].address
        rest = (self.world.many(model.dues), amounts, bond_to)
        if self.on_task(self.decider, "decide", model, *rest, fine=fine):
            if to == 4:
                self.free += BOND
            else:
                self.credit[bond_to] += BOND
            self.pay(model, amounts)

    @rule(number=tasks, amounts=lines, missing=st.integers(0, 5))
    def report(self, number, amounts, missing):
        model = self.task(number)
        if model is None or not model.dues:
            return
        signers = [key for i, key in enumerate(self.people[:3]) if i != missing]
        fine = (
            model.state in RUNNING
            and self.world.now < model.terms.deadline
            and sum(amounts) <= model.terms.budget
            and len(signers) == 3
        )
        signatures = self.world.usage(signers, model.terms, model.dues, amounts)
        rest = (self.world.many(model.dues), b"\x01" * 32, b"\x02" * 32, amounts, signatures)
        if self.on_task(self.regulator, "report", model, *rest, fine=fine):
            model.state, model.amounts = "REPORTED", amounts

    @rule(number=tasks, other=st.one_of(st.none(), lines))
    def settle(self, number, other):
        model = self.task(number)
        if model is None or not model.dues:
            return
        amounts = other or model.amounts or [0, 0]
        fine = (
            model.state in ("CLAIMED", "DISPUTED", "REPORTED")
            and (model.state == "REPORTED" or self.world.now >= model.closes_at)
            and amounts == model.amounts
        )
        rest = (self.world.many(model.dues), amounts)
        if self.on_task(self.regulator, "settle", model, *rest, fine=fine):
            self.free += BOND
            self.pay(model, amounts)

    @rule(number=tasks)
    def refund(self, number):
        model = self.task(number)
        if model is None:
            return
        closes_at = model.closes_at
        if model.state == "OPEN":
            closes_at = model.terms.deadline + GRACE_S
        fine = (
            model.state in ("OPEN", "ATTESTED", "DISPUTED")
            and self.world.now >= closes_at
            and model.amounts is None
        )
        if self.on_task(self.bank, "refund", model, fine=fine):
            self.free += BOND if model.state != "OPEN" else 0
            model.state = "REFUNDED"
            self.credit[self.fintech.address] += model.terms.budget

    @rule(number=tasks, who=st.integers(0, 3))
    def cancel(self, number, who):
        model = self.task(number)
        if model is None:
            return
        fine = model.state == "OPEN" and who == 2
        if self.on_task(self.people[who], "cancel", model, fine=fine):
            model.state = "CANCELLED"
            self.credit[self.fintech.address] += model.terms.budget

    # Stories that random steps seldom tell: what can wrongly follow a claim or a dispute.

    @rule(number=tasks, more=lines, seconds=st.sampled_from([0, 800, 4_000]))
    def claim_then_settle(self, number, more, seconds):
        self.claim(number, [PRICE + more[0], more[1]], 0)
        if seconds:
            self.wait(seconds)
        self.settle(number, None)

    @rule(number=tasks, more=lines, seconds=st.sampled_from([0, 800, 4_000]))
    def dispute_claim_refund(self, number, more, seconds):
        self.dispute(number, 2)
        self.claim(number, [PRICE + more[0], more[1]], 1)
        if seconds:
            self.wait(seconds)
        self.refund(number)

    def pay(self, model, amounts):
        model.state = "SETTLED"
        for due, amount in zip(model.dues, amounts, strict=True):
            self.credit[self.owners[due.child].address] += amount
        self.credit[self.fintech.address] += model.terms.budget - sum(amounts)

    # ----------------------------------------------------------------- money, time

    @rule(amount=st.integers(0, 2 * BOND))
    def lodge(self, amount):
        with self.world.as_(self.regulator):
            self.world.market.lodge_bond(amount)
        self.free += amount
        self.money += amount

    @rule(amount=st.integers(0, 2 * BOND))
    def release(self, amount):
        if self.call(self.regulator, "release_bond", amount, fine=amount <= self.free):
            self.free -= amount
            self.credit[self.regulator.address] += amount

    @rule(who=st.integers(0, 3))
    def withdraw(self, who):
        key = self.people[who]
        due = self.credit[key.address]
        before = self.world.token.balanceOf(key.address)
        self.call(key, "withdraw", self.world.token.address, fine=due > 0)
        assert self.world.token.balanceOf(key.address) == before + due
        self.credit[key.address] = 0
        self.money -= due

    @rule(seconds=st.integers(1, 1_000))
    def wait(self, seconds):
        boa.env.time_travel(seconds=seconds)

    @invariant()
    def no_money_is_made_or_lost(self):
        if not hasattr(self, "credit"):
            return
        held = self.world.token.balanceOf(self.world.market.address)
        escrow = sum(model.terms.budget for model in self.tasks if model.holds_escrow)
        locked = sum(BOND for model in self.tasks if model.holds_bond)
        assert held == self.money == escrow + locked + self.free + sum(self.credit.values())

    @invariant()
    def the_chain_is_the_model(self):
        for model in getattr(self, "tasks", ()):
            assert TASK_STATES[self.world.state(model.terms)] == model.state
        for address, amount in getattr(self, "credit", {}).items():
            assert self.world.market.credits(self.world.token.address, address) == amount


@pytest.mark.parametrize("examples", [15, pytest.param(400, marks=pytest.mark.slow)])
def test_the_market_against_the_model(world, bank, other_bank, fintech, regulator, examples):
    parties = {
        "world": world,
        "bank": bank,
        "other_bank": other_bank,
        "fintech": fintech,
        "regulator": regulator,
    }
    run_state_machine_as_test(
        type("Machine", (Market,), parties),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
