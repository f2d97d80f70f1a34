"""Registry: identities, composition, anchored leaves, ownership, organisations."""

import boa
import pytest

from chain.identities import cdt_id, leaf_hash, merkle_branch, merkle_root
from chain.values import ALGORITHM, COMPUTE, DATA, Item, unpack_head


def test_the_id_is_known_in_advance(world, bank):
    made = world.register(bank, b"\x01" * 32)
    registry = world.raw(world.registry.address)
    assert made == cdt_id(world.chain_id, registry, world.account(bank), DATA, b"\x01" * 32)
    assert unpack_head(world.registry.heads(made)).owner == world.account(bank)
    with boa.reverts("already registered"):
        world.register(bank, b"\x01" * 32)


def test_a_stranger_cannot_take_an_id(world, bank, stranger):
    assert world.register(stranger, b"\x01" * 32) != world.register(bank, b"\x01" * 32)


@pytest.mark.parametrize("kind", [0, 4, 2**200])
def test_unknown_type(world, bank, kind):
    with boa.reverts("unknown type"):
        world.register(bank, b"\x01" * 32, kind)


def test_register_many_is_all_or_none(world, bank):
    items = [(DATA, bytes([i]) * 32, "ipfs://x", 0) for i in range(1, 4)]
    with world.as_(bank):
        with boa.reverts("already registered"):
            world.registry.register_many([*items, items[0]])
        world.registry.register_many(items)
    assert len(world.events(world.registry, "Registered")) == 3


@pytest.mark.parametrize(
    ("kind", "child", "fine"),
    [
        (DATA, DATA, True),
        (DATA, COMPUTE, False),
        (DATA, ALGORITHM, False),
        (COMPUTE, COMPUTE, True),
        (COMPUTE, DATA, False),
        (ALGORITHM, DATA, True),
        (ALGORITHM, COMPUTE, True),
        (ALGORITHM, ALGORITHM, True),
    ],
)
def test_what_is_made_of_what(world, bank, kind, child, fine):
    part = world.register(bank, b"\x01" * 32, child)
    if fine:
        made = world.compose(bank, [part], kind)
        registry = world.raw(world.registry.address)
        owner = world.account(bank)
        assert made == cdt_id(world.chain_id, registry, owner, kind, b"\xaa" * 32, [part])
        head = unpack_head(world.registry.heads(made))
        assert (head.height, head.composites, head.edges) == (1, 1, 1)
    else:
        with boa.reverts("child of another type"):
            world.compose(bank, [part], kind)


def test_children_are_known_sorted_and_unique(world, bank):
    one, two = sorted(world.register(bank, bytes([i]) * 32) for i in (1, 2))
    compose = world.registry.compose
    with world.as_(bank):
        for children, reason in [
            ([two, one], "children not sorted"),
            ([one, one], "children not sorted"),
            ([], "no children"),
            ([b"\x99" * 32], "unknown child"),
            ([b"\0" * 32], "children not sorted"),
        ]:
            with boa.reverts(reason):
                compose(ALGORITHM, b"\xaa" * 32, "", children, 0)


def test_bounds_of_a_tree(world, bank):
    top = world.register(bank, b"\x01" * 32)
    for level in range(4):
        top = world.compose(bank, [top], DATA, bytes([level + 10]) * 32)
    with boa.reverts("too deep"):
        world.compose(bank, [top], DATA, b"\x20" * 32)


def test_bound_of_composites(world, bank):
    leaf = world.register(bank, b"\x01" * 32)
    parts = [world.compose(bank, [leaf], DATA, bytes([i + 10]) * 32) for i in range(16)]
    world.compose(bank, parts[:15], DATA)
    with boa.reverts("too many composites"):
        world.compose(bank, parts, DATA)


def test_bound_of_edges(world, bank):
    leaves = [world.register(bank, bytes([i + 1]) * 32) for i in range(16)]
    parts = [world.compose(bank, leaves, DATA, bytes([i + 30]) * 32) for i in range(4)]
    with boa.reverts("too many edges"):
        world.compose(bank, parts, DATA)
    world.compose(bank, [*parts[:3], *leaves[:13]], DATA)  # 3 * 16 + 16 = 64


def test_anchored_leaves(world, bank, stranger):
    items = [Item(DATA, bytes([i + 1]) * 32, f"ipfs://{i}", i) for i in range(5)]
    hashes = [leaf_hash(item) for item in items]
    root = merkle_root(hashes)
    owner = bank.address
    values = [world.values(item) for item in items]
    with boa.reverts("not anchored"):
        world.registry.prove(owner, root, values[0], list(merkle_branch(hashes, 0)))
    with world.as_(stranger):  # front-runs the anchor: it becomes his own, and harms nobody
        world.registry.anchor(root, 5, "ipfs://list")
    with world.as_(bank):
        world.registry.anchor(root, 5, "ipfs://list")
        with boa.reverts("already anchored"):
            world.registry.anchor(root, 5, "ipfs://list")
        with boa.reverts("no leaves"):
            world.registry.anchor(b"\x01" * 32, 0, "")
    registry = world.raw(world.registry.address)
    for index, item in enumerate(items):
        made = world.registry.prove(owner, root, values[index], list(merkle_branch(hashes, index)))
        expected = cdt_id(
            world.chain_id, registry, world.account(bank), DATA, item.proof, salt=item.salt
        )
        assert made == expected
        assert unpack_head(world.registry.heads(made)).owner == world.account(bank)
    with boa.reverts("already registered"):
        world.registry.prove(owner, root, values[0], list(merkle_branch(hashes, 0)))
    with boa.reverts("not a leaf of this root"):
        world.registry.prove(owner, root, values[0], list(merkle_branch(hashes, 1)))
    with boa.reverts("not a leaf of this root"):
        world.registry.prove(owner, root, (DATA, b"\x77" * 32, "", 0), [])
    theirs = world.registry.prove(stranger.address, root, values[0], list(merkle_branch(hashes, 0)))
    assert unpack_head(world.registry.heads(theirs)).owner == world.account(stranger)


def test_ownership_in_two_steps(world, bank, other_bank, stranger):
    cdt = world.register(bank, b"\x01" * 32)
    with world.as_(stranger), boa.reverts("not the owner"):
        world.registry.offer_ownership(cdt, stranger.address)
    with world.as_(bank):
        world.registry.offer_ownership(cdt, other_bank.address)
        with boa.reverts("not offered"):
            world.registry.accept_ownership(cdt)
    with world.as_(stranger), boa.reverts("not offered"):
        world.registry.accept_ownership(cdt)
    before = unpack_head(world.registry.heads(cdt))
    with world.as_(other_bank):
        world.registry.accept_ownership(cdt)
        with boa.reverts("not offered"):
            world.registry.accept_ownership(cdt)
    after = unpack_head(world.registry.heads(cdt))
    assert (after.owner, after.epoch) == (world.account(other_bank), before.epoch + 1)
    assert (after.kind, after.height) == (before.kind, before.height)
    with world.as_(bank), boa.reverts("not the owner"):
        world.registry.offer_ownership(cdt, bank.address)


def test_an_offer_can_be_taken_back(world, bank, other_bank):
    cdt = world.register(bank, b"\x01" * 32)
    with world.as_(bank):
        world.registry.offer_ownership(cdt, other_bank.address)
        world.registry.offer_ownership(cdt, "0x" + "00" * 20)
    with world.as_(other_bank), boa.reverts("not offered"):
        world.registry.accept_ownership(cdt)


def test_bindings_only_rise(world, bank):
    with world.as_(bank):
        world.registry.bind(b"peer", b"s" * 64, 2**40, 5)
        for seq in (0, 4, 5):
            with boa.reverts("seq is not new"):
                world.registry.bind(b"other", b"s" * 64, 2**40, seq)
        world.registry.bind(b"", b"", 0, 6)
    assert world.registry.binding_seq(bank.address) == 6


def test_trust_is_each_owners_own(world, bank, other_bank, regulator):
    with world.as_(bank):
        world.registry.trust(regulator.address, True)
    assert world.registry.trusts(bank.address, regulator.address)
    assert not world.registry.trusts(other_bank.address, regulator.address)
    with world.as_(bank):
        world.registry.trust(regulator.address, False)
    assert not world.registry.trusts(bank.address, regulator.address)
