"""Grants against a model, under every order of signing, bringing, revoking, selling and waiting.

Always: the chain's word is the model's; under one ownership `seq` never falls; uses under one
`seq` never fall nor exceed their maximum; a tree is consumed if and only if every edge is live,
unexpired, unspent, on the attester's terms, of the present owners, and the attester is trusted.
"""

from dataclasses import dataclass, replace

import boa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from chain.contracts import witness_arguments
from chain.values import unpack_grant
from protocol.typed_data import Grant

TERMS = (b"\x07" * 32, b"\x08" * 32)
SPANS = (50, 10_000)


@dataclass
class Standing:
    """What the model knows of one edge under one ownership."""

    seq: int = 0
    grant: Grant | None = None
    uses: int = 0


class Grants(RuleBasedStateMachine):
    """`world`, three `owners` and the `attester` are set by the test."""

    world = owners = attester = None
    post = Bundle("post")

    @initialize()
    def begin(self):
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.children = sorted(self.world.register(self.owners[0], bytes([i]) * 32) for i in (1, 2))
        self.parent = self.world.compose(self.owners[2], self.children)
        self.node = self.world.node(self.owners[2], self.children)
        self.owner = dict.fromkeys(self.children, self.owners[0]) | {self.parent: self.owners[2]}
        self.epoch = dict.fromkeys([*self.children, self.parent], 0)
        self.edges = {}
        self.trusted = set()
        for which in range(3):
            self.trust(which, True)

    def teardown(self):
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def standing(self, child):
        return self.edges.setdefault((child, self.epoch[child]), Standing())

    @rule(
        target=post,
        which=st.integers(0, 1),
        seq=st.integers(0, 4),
        terms=st.sampled_from(TERMS),
        span=st.sampled_from(SPANS),
        max_uses=st.integers(1, 2),
    )
    def sign(self, which, seq, terms, span, max_uses):
        child = self.children[which]
        owner = self.owner[child]
        grant = self.world.grant(
            child,
            self.parent,
            owner,
            self.owner[self.parent],
            seq=seq,
            terms_hash=terms,
            expiry=self.world.now + span,
            max_uses=max_uses,
            owner_epoch=self.epoch[child],
            consumer_epoch=self.epoch[self.parent],
        )
        return grant, self.world.signed(owner, grant)

    @rule(signed=post, batch=st.booleans())
    def bring(self, signed, batch):
        grant, carried = signed
        standing = self.standing(grant.child)
        same = standing.grant == grant
        fine = (
            grant.owner_epoch == self.epoch[grant.child]
            and grant.owner == self.world.account(self.owner[grant.child])
            and grant.expiry > self.world.now
            and (same or grant.seq > standing.seq)
        )
        if batch:
            self.world.registry.grant_many([carried])
            assert len(self.world.events(self.world.registry, "GrantSkipped")) == (not fine)
        elif fine:
            self.world.registry.grant_by_signature(*carried)
        else:
            with boa.reverts():
                self.world.registry.grant_by_signature(*carried)
        if fine and not same:
            standing.seq, standing.grant, standing.uses = grant.seq, grant, 0

    @rule(which=st.integers(0, 1), seq=st.integers(0, 4))
    def revoke(self, which, seq):
        child = self.children[which]
        standing = self.standing(child)
        with self.world.as_(self.owner[child]):
            if seq < standing.seq:
                with boa.reverts("seq is not new"):
                    self.world.registry.revoke(child, self.parent, seq)
            else:
                self.world.registry.revoke(child, self.parent, seq)
                standing.seq, standing.grant = seq, None

    @rule(which=st.integers(0, 2), heir=st.integers(0, 2))
    def sell(self, which, heir):
        cdt = [*self.children, self.parent][which]
        with self.world.as_(self.owner[cdt]):
            self.world.registry.offer_ownership(cdt, self.owners[heir].address)
        with self.world.as_(self.owners[heir]):
            self.world.registry.accept_ownership(cdt)
        self.owner[cdt] = self.owners[heir]
        self.epoch[cdt] += 1

    @rule(which=st.integers(0, 2), on=st.booleans())
    def trust(self, which, on):
        with self.world.as_(self.owners[which]):
            self.world.registry.trust(self.attester.address, on)
        (self.trusted.add if on else self.trusted.discard)(self.owners[which].address)

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds):
        boa.env.time_travel(seconds=seconds)

    @rule(span=st.sampled_from(SPANS), max_uses=st.integers(1, 2), terms=st.sampled_from(TERMS))
    def renew(self, span, max_uses, terms):
        for which, child in enumerate(self.children):
            seq = self.standing(child).seq + 1
            self.bring(self.sign(which, seq, terms, span, max_uses), False)

    @rule(honest=st.booleans(), other=st.tuples(st.sampled_from(TERMS), st.sampled_from(TERMS)))
    def consume(self, honest, other):
        grants = [self.standing(child).grant for child in self.children]
        read = tuple(g.terms_hash for g in grants) if honest and all(grants) else other
        fine = all(
            self.spendable(child, terms) and self.owner[child].address in self.trusted
            for child, terms in zip(self.children, read, strict=True)
        )
        composites, children, terms = witness_arguments([replace(self.node, terms=read)])
        creator, *rest = composites[0]
        arguments = (
            self.parent,
            [("0x" + creator.hex(), *rest)],
            children,
            terms,
            self.owner[self.parent].address,
            self.attester.address,
            self.world.token.address,
            "0x" + "0d" * 20,
        )
        with boa.env.prank(self.world.market.address):
            if not fine:
                with boa.reverts():
                    self.world.registry.consume(*arguments)
                return
            dues = self.world.registry.consume(*arguments)
        assert [due[0] for due in dues] == self.children
        for child in self.children:
            self.standing(child).uses += 1

    def spendable(self, child, terms):
        standing = self.standing(child)
        grant = standing.grant
        return (
            grant is not None
            and grant.terms_hash == terms
            and grant.expiry > self.world.now
            and standing.uses < grant.max_uses
            and grant.consumer == self.world.account(self.owner[self.parent])
            and grant.consumer_epoch == self.epoch[self.parent]
        )

    @invariant()
    def the_chain_is_the_model(self):
        for child in getattr(self, "children", ()):
            standing = self.standing(child)
            word = unpack_grant(self.world.registry.grant_of(child, self.parent)[0])
            assert word.seq == standing.seq
            assert word.live == (standing.grant is not None)
            if standing.grant is not None:
                assert word.uses == standing.uses <= word.max_uses
                assert word.max_uses == standing.grant.max_uses


@pytest.mark.parametrize("examples", [25, pytest.param(400, marks=pytest.mark.slow)])
def test_grants_against_the_model(world, bank, other_bank, fintech, regulator, examples):
    owners = (bank, other_bank, fintech)
    run_state_machine_as_test(
        type("Machine", (Grants,), {"world": world, "owners": owners, "attester": regulator}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
