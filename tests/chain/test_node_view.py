"""What a node makes of the chain, under reorganisations of a real one: equal to a fresh node's."""

import hashlib
import json
import random
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from chain import contracts, tree, views
from chain.abi import read
from chain.errors import ChainRefused, ReorganisedTooDeep
from chain.follower import Follower
from chain.identities import cdt_id, task_id
from chain.schema import MIGRATIONS
from chain.sender import Sender
from chain.values import ALGORITHM, DATA, TaskTerms
from node import assets, chain_events, grant_records, grants, task_records
from node.acquaintances import Acquaintances
from node.bindings import Bindings
from node.catalogue_rooms import CatalogueRooms
from node.config import from_table, load
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine, Transaction
from node.errors import Fault
from node.folder import create_folder, instance_lock, write_private
from node.keys import PeerKey
from node.resync import resync
from node.search import Query, Search
from node.store import open_store
from protocol import binding, codec, documents, envelope
from protocol.documents import Metadata
from protocol.ids import Account, hexadecimal
from protocol.messages import Announcement, GrantTerms
from protocol.typed_data import Grant, registry_domain

DECIDER = Account(b"\x05" * 20)
TERMS = b"\x07" * 32


class SilentHost:
    """A host that nobody calls."""

    def serve(self, *_args, **_options):
        pass

    def on_gossip(self, *_args):
        pass

    def learn(self, *_args):
        pass

    def on_connected(self, *_args):
        pass


class View:
    """A node's rooms on the real follower; documents and announcements are heard at the start."""

    def __init__(self, chain, path, world):
        self.db = open_store(path, MIGRATIONS)
        self.engine = Engine(self.db, time.time)
        table = {
            "name": "bank-a",
            "network": "test",
            "organisations": [
                {"name": "fintech-c", "account": hexadecimal(world.c),
                 "peer_id": world.key.peer_id}
            ],
        }  # fmt: skip
        config = from_table(table, path.parent, "test")
        own = PeerKey(b"\x02" * 32)
        domain = registry_domain(chain.deployment.chain_id, chain.deployment.registry)
        bindings = Bindings(self.db, domain, self.engine.clock)
        directory = Directory.of(config, world.a, own.peer_id, bindings)
        host = SilentHost()
        exchange = DocumentExchange(self.engine, host, directory)
        rooms = CatalogueRooms.of(self.engine, host, directory, own, exchange)
        keeper = grants.Grants(self.engine, directory, config, None)
        with self.engine.transaction() as tx:
            for document in world.documents:
                assets.keep_document(tx, document)
            for kept in world.signed:
                keeper.keep(tx, kept, bytes(65))
        self.hear = rooms.catalogue.receive
        acquaintances = Acquaintances(self.engine, host, directory, exchange)

        def apply(tx, found):
            acquaintances.follow(tx, chain_events.introduced(found))
            chain_events.apply(tx, found, rooms.announcing, exchange, directory)

        self.follower = Follower(
            self.db,
            chain.provider,
            chain.deployment,
            0,
            lambda db, found: apply(self.tx(db), found),
            on_rollback=lambda db, _: chain_events.take_back(self.tx(db), bindings),
            poll_s=0.01,
        )

    def tx(self, db):
        return Transaction(db, self.engine.clock())

    async def catch_up(self):
        while not await self.follower.step():
            pass

    def told(self):
        """Everything that the node would answer, times of hearing left out."""
        found = sorted((replace(each, id=0) for each in assets.every(self.db)), key=lambda a: a.cdt)
        return (
            found,
            task_records.every(self.db),
            grant_records.every(self.db),
            self.introduced(),
            self.listed(),
        )

    def introduced(self):
        """Who speaks for whom by the chain, and whose records are wanted."""
        return [
            sorted(self.db.execute(question).fetchall())
            for question in ("SELECT * FROM bindings", "SELECT * FROM organisations")
        ]

    def listed(self):
        """What is found in each standing, by the index of words."""
        search = Search(self.db, lambda _: [])
        return {
            (state, text): {
                each.cdt for each in search.page(Query(text, state=state), "", 200).assets
            }
            for state in assets.STATES
            for text in ("", "asset")
        }


class World:
    """Three unlocked accounts that register, compose, grant, bind, revoke, open, attest, cancel."""

    def __init__(self, chain, accounts, seed):
        self.chain, self.chance = chain, random.Random(seed)
        self.a, self.c, self.r = accounts
        self.key = PeerKey(b"\x01" * 32)
        self.documents = [self.document(f"asset {number}") for number in range(40)]
        self.number = self.number_bound = 0
        self.leaf = self.id_of(self.a, DATA, 0)
        self.top = self.id_of(self.c, ALGORITHM, 0, (self.leaf,))
        self.registered = []
        self.opened = []
        self.seq = 0
        self.signed = [self.kept(seq) for seq in range(1, 60)]

    @staticmethod
    def document(name):
        plain = Metadata(
            type="compute", name=name, description="", author="x", license="closed",
            created="2026-01-01T00:00:00Z", endpoint="x",
        )  # fmt: skip
        return documents.canonical(plain)

    def proof(self, number):
        return hashlib.sha256(self.documents[number]).digest()

    def id_of(self, owner, kind, number, children=()):
        d = self.chain.deployment
        return cdt_id(d.chain_id, d.registry, owner, kind, self.proof(number), children)

    def grant(self, seq, **changes):
        plain = Grant(
            child=self.leaf, parent=self.top, terms_hash=TERMS, owner=self.a, consumer=self.c,
            market=self.chain.deployment.market, token=self.chain.deployment.token,
            decider=DECIDER, price=5, price_unit=0, max_uses=3, expiry=2**39, seq=seq,
        )  # fmt: skip
        return replace(plain, **changes)

    def kept(self, seq):
        g = self.grant(seq)
        return GrantTerms(
            child=g.child, parent=g.parent, terms=TERMS, owner=g.owner, epoch=0,
            consumer=g.consumer, consumer_epoch=0, market=g.market, token=g.token,
            decider=g.decider, price="5", unit=0, max_uses=3, expiry=g.expiry, seq=seq,
        )  # fmt: skip

    async def send(self, sender, to, data):
        """Mined afterwards; what the contract refuses on this branch is left out."""
        request = {"from": hexadecimal(sender), "to": hexadecimal(to), "data": hexadecimal(data)}
        ask = self.chain.provider.ask
        with suppress(ChainRefused):
            sent = await ask("eth_sendTransaction", request)
            while await ask("eth_getTransactionReceipt", sent) is None:  # noqa: ASYNC110
                await trio.sleep(0.002)

    async def begin(self):
        d = self.chain.deployment
        bond = await read(self.chain.provider, d.market, views.bond_amount())
        for account in (self.c, self.r):
            await self.send(self.a, d.token, contracts.transfer(account, 10 * bond))
            await self.send(account, d.token, contracts.approve(d.market, 10 * bond))
        await self.send(self.r, d.market, contracts.lodge_bond(bond))
        await self.send(self.a, d.registry, contracts.trust(self.r, True))

    async def act(self):
        acts = (self.register, self.compose, self.transfer, self.bind, self.declare, self.give,
                self.revoke, self.open, self.open, self.attest, self.attest,
                self.cancel)  # fmt: skip
        await self.chance.choice(acts)()

    async def compose(self):
        registry = self.chain.deployment.registry
        await self.send(self.a, registry, contracts.register(DATA, self.proof(0), "x"))
        data = contracts.compose(ALGORITHM, self.proof(0), "x", (self.leaf,))
        await self.send(self.c, registry, data)

    async def register(self):
        self.number = min(self.number + 1, 38)
        owner = self.chance.choice((self.a, self.c))
        data = contracts.register(2, self.proof(self.number), "x")
        await self.send(owner, self.chain.deployment.registry, data)
        self.registered.append((owner, self.id_of(owner, 2, self.number)))

    async def transfer(self):
        if self.registered:
            owner, cdt = self.chance.choice(self.registered)
            registry = self.chain.deployment.registry
            await self.send(owner, registry, contracts.offer_ownership(cdt, self.r))
            await self.send(self.r, registry, contracts.accept_ownership(cdt))

    async def bind(self):
        """By the right peer's signature, by none, or to nobody."""
        self.number_bound += 1
        d, account = self.chain.deployment, self.chance.choice((self.a, self.c, self.r))
        message = binding.bind_to(self.key.signing_key, account, 2**40, self.number_bound)
        domain = registry_domain(d.chain_id, d.registry)
        right = binding.sign_as_peer(self.key.signing_key, domain, message)
        peer, signature = self.chance.choice(
            [(message.peer_id, right), (message.peer_id, bytes(64)), (b"", b"")]
        )
        data = contracts.bind(peer, signature, message.valid_until, message.seq)
        await self.send(account, d.registry, data)

    async def declare(self):
        path = self.chance.choice(("nowhere", documents.storage_path(self.chance.randbytes(32))))
        account = self.chance.choice((self.a, self.c, self.r))
        await self.send(
            account, self.chain.deployment.registry, contracts.declare("\x1bname", path)
        )

    async def give(self):
        self.seq += 1
        data = contracts.grant(self.grant(self.seq))
        await self.send(self.a, self.chain.deployment.registry, data)

    async def revoke(self):
        data = contracts.revoke(self.leaf, self.top, self.seq)
        await self.send(self.a, self.chain.deployment.registry, data)

    async def open(self):
        block = await self.chain.provider.ask("eth_getBlockByNumber", "latest", False)
        terms = TaskTerms(
            cdt=self.top, consumer=self.c, opener=self.c, recipient=self.c, decider=DECIDER,
            token=self.chain.deployment.token, budget=100,
            deadline=int(block["timestamp"], 16) + 3600, salt=self.chance.randbytes(32),
        )  # fmt: skip
        self.opened.append(terms)
        await self.send(self.c, self.chain.deployment.market, contracts.open_task(terms))

    async def attest(self):
        if self.opened:
            node = tree.Node(self.c, ALGORITHM, self.proof(0), 0, (self.leaf,), (TERMS,))
            data = contracts.attest(self.opened[-1], (node,), b"\x09" * 32)
            await self.send(self.r, self.chain.deployment.market, data)

    async def cancel(self):
        if self.opened:
            data = contracts.cancel(self.chance.choice(self.opened))
            await self.send(self.c, self.chain.deployment.market, data)

    def announcement(self):
        """An asset of the fintech's that somebody announces, whether or not it is registered."""
        announced = Announcement(
            cdt=self.id_of(self.c, 2, 1), owner=self.c, proof=self.proof(1), kind="compute",
            name="asset 1", endpoint=self.key.peer_id, addresses=(), seq=1,
            not_after=int(time.time()) + 3600,
        )  # fmt: skip
        return codec.encode(envelope.seal(announced, self.key.signing_key))


async def world_of(chain, seed):
    answer = await chain.provider.ask("eth_accounts")
    accounts = [Account(bytes.fromhex(each[2:])) for each in answer[:3]]
    return World(chain, accounts, seed)


async def agrees_with_a_fresh_node(view, chain, world, path):
    await view.catch_up()
    fresh = View(chain, path, world)
    await fresh.hear("", world.announcement())
    await fresh.catch_up()
    assert view.told() == fresh.told()
    fresh.db.close()


@pytest.mark.parametrize(
    ("seed", "rounds"), [(1, 8), (2, 8), pytest.param(3, 50, marks=pytest.mark.slow)]
)
async def test_random_reorganisations(chain, tmp_path: Path, seed: int, rounds: int) -> None:
    world = await world_of(chain, seed)
    view, chance = View(chain, tmp_path / "node.sqlite3", world), world.chance
    await view.hear("", world.announcement())
    await world.begin()
    await world.compose()
    await world.give()
    await chain.provider.ask("anvil_mine", hex(8))  # deeper than any reorganisation below
    states: set[str] = set()
    for number in range(rounds):
        snapshot = await chain.provider.ask("evm_snapshot")
        for _ in range(chance.randint(1, 6)):
            await world.act()
        for _ in range(chance.randint(0, 4)):
            await view.follower.step()
        if chance.random() < 0.5:
            await chain.provider.ask("evm_revert", snapshot)
            for _ in range(chance.randint(1, 8)):
                await world.act()
        else:
            await chain.provider.ask("anvil_reorg", chance.randint(1, 6), [])
        await agrees_with_a_fresh_node(view, chain, world, tmp_path / f"{number}.sqlite3")
        states |= {str(task.state) for task in task_records.every(view.db)}
    assert "OPEN" in states
    if rounds > 8:
        assert states >= {"OPEN", "ATTESTED", "CANCELLED"}


async def test_an_attestation_that_is_reorganised_away_is_gone_and_moves_to_its_new_block(
    chain, tmp_path: Path
) -> None:
    world = await world_of(chain, 1)
    view = View(chain, tmp_path / "node.sqlite3", world)
    await world.begin()
    await world.compose()
    await world.give()
    await world.open()
    snapshot = await chain.provider.ask("evm_snapshot")
    await world.attest()
    await view.catch_up()
    task = task_id(chain.deployment.chain_id, chain.deployment.market, world.opened[0])
    before = task_records.known(view.db, task)
    assert (before.state, before.attester) == ("ATTESTED", world.r)
    await chain.provider.ask("evm_revert", snapshot)
    await world.register()
    await view.catch_up()
    assert task_records.known(view.db, task).state == "OPEN"
    assert task_records.known(view.db, task).attested_in is None
    await world.attest()
    await view.catch_up()
    after = task_records.known(view.db, task)
    assert after.state == "ATTESTED"
    assert after.attested_in != before.attested_in


async def test_a_revocation_counts_as_long_as_the_chain_says_so(chain, tmp_path: Path) -> None:
    world = await world_of(chain, 1)
    view = View(chain, tmp_path / "node.sqlite3", world)
    await world.begin()
    await world.compose()
    await world.give()
    snapshot = await chain.provider.ask("evm_snapshot")
    await world.revoke()
    await view.catch_up()
    assert [kept.revoked for kept in grant_records.every(view.db)][:2] == [1, 0]
    await chain.provider.ask("evm_revert", snapshot)
    await world.register()
    await view.catch_up()
    assert not any(kept.revoked for kept in grant_records.every(view.db))


async def test_following_afresh_gives_the_same_and_sends_nothing_twice(
    chain, tmp_path: Path, monkeypatch
) -> None:
    folder = create_folder(tmp_path / "node")
    d = chain.deployment
    table = {"chain_id": d.chain_id, "url": chain.url} | {
        each: hexadecimal(getattr(d, each)) for each in ("registry", "market", "token")
    }
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
    text = f'name = "bank-a"\nnetwork = "test"\n[chain]\n{lines}'
    write_private(folder.config_file, text.encode())
    world = await world_of(chain, 1)
    view = View(chain, folder.database, world)
    sender = Sender(view.db, chain.provider, await chain.new_account(), 31337)
    await world.begin()
    await world.compose()
    await world.give()
    await world.open()
    await world.attest()
    for _ in range(4):
        await world.bind()
        await world.declare()
    trust = contracts.trust(world.c, True)
    sender.enqueue("kept", "trust", chain.deployment.registry, trust)
    while sender.gas_by_kind() == {}:
        await sender.step()
    await view.catch_up()
    before = view.told()
    monkeypatch.setattr("chain.follower.KEPT_HEADERS", 2)
    snapshot = await chain.provider.ask("evm_snapshot")
    for _ in range(4):
        await world.register()
    await view.catch_up()
    await chain.provider.ask("evm_revert", snapshot)
    await chain.provider.ask("evm_increaseTime", 5)
    await chain.provider.ask("anvil_mine", hex(1))
    with pytest.raises(ReorganisedTooDeep):
        await view.catch_up()
    configured = load(folder.path)
    with instance_lock(folder), pytest.raises(Fault, match="already runs"):
        resync(configured)
    forgotten = resync(configured)
    assert forgotten.transactions == 1
    assert forgotten.events > 8
    assert view.told()[:4] == ([], [], before[2], [[], []])
    assert not any(view.told()[4].values())
    assert all(before[3])
    await view.catch_up()
    assert view.told() == before
    count = ["eth_getTransactionCount", hexadecimal(sender.address), "latest"]
    assert await sender.step()
    assert sender.gas_by_kind()["trust"][0] == 1
    assert await chain.provider.ask(*count) == "0x1"
