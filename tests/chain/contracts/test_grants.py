"""Grants: what a signature covers, what voids it, and what a hostile batch can do."""

from dataclasses import fields, replace

import boa
import pytest
from eth_account import Account as EthAccount

from chain.identities import cdt_id, grant_key
from chain.values import DATA, unpack_grant
from protocol import typed_data
from protocol.ids import Account
from protocol.typed_data import MAX_SEQ, Grant

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def edge(world, bank, fintech):
    child = world.register(bank, b"\x01" * 32)
    return child, world.compose(fintech, [child])


def newest(world, edge):
    word, key = world.registry.grant_of(*edge)
    return unpack_grant(word), key


def bring(world, key, grant, registry=None):
    values, signature = world.signed(key, grant)
    (registry or world.registry).grant_by_signature(values, signature)


def test_a_signature_grants_and_says_all(world, edge, bank, fintech):
    grant = world.grant(*edge, bank, fintech, price_unit=2, price=2**96 - 1, max_uses=2**32 - 1)
    bring(world, bank, grant)
    (event,) = world.events(world.registry, "Granted")
    assert event.terms == grant.terms_hash
    word, key = newest(world, edge)
    assert (word.price, word.unit, word.max_uses, word.uses) == (2**96 - 1, 2, 2**32 - 1, 0)
    assert (word.expiry, word.seq, word.live) == (grant.expiry, 1, True)
    assert key == grant_key(grant)
    assert world.registry.grant_digest(world.values(grant)) == typed_data.digest(
        world.domain(world.registry), grant
    )


def test_the_owner_needs_no_signature_and_nobody_else_can(world, edge, bank, fintech, stranger):
    grant = world.grant(*edge, bank, fintech)
    with world.as_(stranger), boa.reverts("not the owner"):
        world.registry.grant(world.values(grant))
    with world.as_(bank):
        world.registry.grant(world.values(grant))
    assert newest(world, edge)[0].live


@pytest.mark.parametrize("field", [field.name for field in fields(Grant)])
def test_every_field_is_covered(world, edge, bank, fintech, field):
    grant = world.grant(*edge, bank, fintech)
    _, signature = world.signed(bank, grant)
    value = getattr(grant, field)
    is_bytes = isinstance(value, bytes)
    changed = bytes([value[0] ^ 1]) + value[1:] if is_bytes else value + 1
    with boa.reverts():
        world.registry.grant_by_signature(
            world.values(replace(grant, **{field: changed})), signature
        )


def test_another_chain_another_registry(world, edge, bank, fintech):
    grant = world.grant(*edge, bank, fintech)
    here = world.domain(world.registry)
    for domain in (
        replace(here, chain_id=here.chain_id + 1),
        replace(here, contract=Account(b"\x09" * 20)),
        replace(here, name="Northbund TaskMarket"),
    ):
        signature = bytes(bank.unsafe_sign_hash(typed_data.digest(domain, grant)).signature)
        with boa.reverts("bad signature"):
            world.registry.grant_by_signature(world.values(grant), signature)


def test_malformed_signatures(world, edge, bank, fintech):
    grant = world.grant(*edge, bank, fintech)
    values, good = world.signed(bank, grant)
    s = int.from_bytes(good[32:64])
    mirrored = good[:32] + (ORDER - s).to_bytes(32) + bytes([55 - good[64]])
    for bad in (b"", good[:64], good + b"\0", good[:64] + b"\0", mirrored, bytes(65)):
        with boa.reverts("bad signature"):
            world.registry.grant_by_signature(values, bad)


def test_replay_changes_nothing_and_old_seq_never_returns(world, edge, bank, fintech):
    first = world.grant(*edge, bank, fintech, seq=1, price=5)
    second = world.grant(*edge, bank, fintech, seq=3, price=9)
    late = world.grant(*edge, bank, fintech, seq=2, price=1)
    bring(world, bank, first)
    bring(world, bank, first)  # identical: a no-op
    assert not world.events(world.registry, "Granted")
    bring(world, bank, second)
    for old in (first, late):
        with boa.reverts("seq is not new"):
            bring(world, bank, old)
    same_seq = world.grant(*edge, bank, fintech, seq=3, price=8)
    other_terms = world.grant(*edge, bank, fintech, seq=3, price=9, terms_hash=b"\x08" * 32)
    for rival in (same_seq, other_terms):
        with boa.reverts("seq is not new"):
            bring(world, bank, rival)
    assert newest(world, edge)[0].price == 9


def test_newer_conditions_end_the_older_grant(world, edge, bank, fintech):
    first = world.grant(*edge, bank, fintech, seq=1)
    second = world.grant(*edge, bank, fintech, seq=2, decider=Account(b"\x0e" * 20))
    bring(world, bank, first)
    bring(world, bank, second)
    assert world.registry.grants(grant_key(first)) == 0
    assert newest(world, edge)[1] == grant_key(second)
    with boa.reverts("seq is not new"):
        bring(world, bank, first)


def test_revoking_voids_what_is_in_the_post(world, edge, bank, fintech, stranger):
    in_post = world.grant(*edge, bank, fintech, seq=7)
    with world.as_(stranger), boa.reverts("not the owner"):
        world.registry.revoke(*edge, 7)
    with world.as_(bank):
        world.registry.revoke(*edge, 7)
        with boa.reverts("seq too large"):
            world.registry.revoke(*edge, 2**31)
        with boa.reverts("seq is not new"):
            world.registry.revoke(*edge, 6)
    with boa.reverts("seq is not new"):
        bring(world, bank, in_post)
    bring(world, bank, world.grant(*edge, bank, fintech, seq=8))
    with world.as_(bank):
        with boa.reverts("seq is not new"):
            world.registry.revoke(*edge, 7)
        world.registry.revoke(*edge, MAX_SEQ)
    assert not newest(world, edge)[0].live
    with boa.reverts("seq is not new"):
        bring(world, bank, world.grant(*edge, bank, fintech, seq=MAX_SEQ))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seq": 2**31}, "seq too large"),
        ({"seq": 2**32 - 1}, "seq too large"),
        ({"seq": 0}, "seq is not new"),
        ({"expiry": 0}, "expired"),
        ({"max_uses": 0}, "no uses"),
        ({"price_unit": 3}, "unknown unit"),
        ({"market": Account(b"\x01" * 20)}, "another market"),
        ({"owner_epoch": 1}, "ownership has changed"),
        ({"owner": Account(b"\x55" * 20)}, "not the owner"),
    ],
)
def test_bad_grants_say_why(world, edge, bank, fintech, changes, reason):
    grant = replace(world.grant(*edge, bank, fintech), **changes)
    with boa.reverts(reason):
        bring(world, bank, grant)


def test_expiry_to_the_second(world, edge, bank, fintech):
    grant = world.grant(*edge, bank, fintech, expiry=world.now + 50)
    boa.env.time_travel(seconds=50)
    with boa.reverts("expired"):
        bring(world, bank, grant)


def test_a_former_owner_is_void_even_if_the_asset_returns(world, edge, bank, other_bank, fintech):
    child, _ = edge
    standing = world.grant(*edge, bank, fintech, seq=1)
    in_post = world.grant(*edge, bank, fintech, seq=2)
    bring(world, bank, standing)
    for giver, taker in ((bank, other_bank), (other_bank, bank)):
        with world.as_(giver):
            world.registry.offer_ownership(child, taker.address)
        with world.as_(taker):
            world.registry.accept_ownership(child)
        assert not newest(world, edge)[0].live
        with boa.reverts():
            bring(world, bank, in_post)
    with boa.reverts("ownership has changed"):
        bring(world, bank, in_post)
    bring(world, bank, world.grant(*edge, bank, fintech, seq=1, owner_epoch=2))
    assert newest(world, edge)[0].live


def test_a_batch_skips_the_bad_and_names_them(world, bank, other_bank, fintech, stranger):
    children = [world.register(bank, bytes([i]) * 32) for i in range(1, 5)]
    parent = world.compose(fintech, children)
    good = [world.grant(child, parent, bank, fintech) for child in children]
    forged = (world.values(good[1]), world.sign(stranger, world.registry, good[1]))
    expired = world.signed(bank, replace(good[2], expiry=world.now))
    batch = [world.signed(bank, good[0]), forged, expired, world.signed(bank, good[3])]
    world.registry.grant_many(batch)
    skipped = world.events(world.registry, "GrantSkipped")
    assert [event.reason for event in skipped] == ["bad signature", "expired"]
    assert len(world.events(world.registry, "Granted")) == 2
    world.registry.grant_many(batch)
    assert len(world.events(world.registry, "Granted")) == 0  # standing ones: no-ops
    with world.as_(bank):
        world.registry.revoke(children[0], parent, 1)
    world.registry.grant_many(batch)
    reasons = [event.reason for event in world.events(world.registry, "GrantSkipped")]
    assert reasons == ["seq is not new", "bad signature", "expired"]


def wallet_edge(world, wallet, execute, fintech):
    data = world.registry.register.prepare_calldata(DATA, b"\x01" * 32, "", 0)
    execute(world.registry.address, data)
    account = Account(bytes.fromhex(wallet.address[2:]))
    registry = world.raw(world.registry.address)
    child = cdt_id(world.chain_id, registry, account, DATA, b"\x01" * 32)
    return account, child, world.compose(fintech, [child])


@pytest.mark.parametrize("owners", [1, 2, 8])
def test_wallets_of_several_owners(world, fintech, owners):
    keys = [EthAccount.from_key((100 + i).to_bytes(32)) for i in range(owners)]
    wallet = world.load("Wallet", [key.address for key in keys])

    def execute(to, data):
        with world.as_(keys[0]):
            wallet.execute(to, data)

    account, child, parent = wallet_edge(world, wallet, execute, fintech)
    grant = replace(world.grant(child, parent, keys[0], fintech), owner=account)
    parts = [world.sign(key, world.registry, grant) for key in keys]
    if owners > 1:
        with boa.reverts("bad signature"):
            world.registry.grant_by_signature(world.values(grant), b"".join(parts[:-1]))
    world.registry.grant_many([(world.values(grant), b"".join(parts))])
    assert newest(world, (child, parent))[0].live


@pytest.mark.parametrize("mode", [1, 2, 3, 4], ids=["burns gas", "reverts", "wrong", "long"])
def test_a_hostile_wallet_spoils_nothing_but_itself(world, bank, fintech, mode):
    wallet = world.load("HostileWallet", mode)
    account, child, parent = wallet_edge(world, wallet, wallet.execute, fintech)
    mine = world.register(bank, b"\x02" * 32)
    my_parent = world.compose(fintech, [mine], proof=b"\xab" * 32)
    theirs = world.values(replace(world.grant(child, parent, bank, fintech), owner=account))
    good = world.signed(bank, world.grant(mine, my_parent, bank, fintech))
    world.registry.grant_many([(theirs, b"any"), good], gas=1_000_000)
    (skipped,) = world.events(world.registry, "GrantSkipped")
    assert skipped.reason == "bad signature"
    assert newest(world, (mine, my_parent))[0].live
