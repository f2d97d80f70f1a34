"""A node makes itself known on a real chain; another that has only the chain finds it."""

import time
from types import SimpleNamespace

import pytest
import trio

from chain.schema import MIGRATIONS
from node import assets, chain_events, organisation_records
from node.acquaintances import Acquaintances
from node.bindings import Bindings
from node.chain_link import ChainLink
from node.config import from_table
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine
from node.errors import Fault
from node.introducing import RENEW_S, Introducing, addresses_to_tell
from node.keys import PeerKey
from node.signer import Signer
from node.store import open_store
from protocol import binding, typed_data
from protocol.ids import PeerId, hexadecimal
from tests.node.rooms.conftest import MemoryHost, MemoryNetwork

ADDRESS = "/ip4/192.0.2.1/tcp/4001"


class Node:
    """One organisation's rooms over the real chain; the network between nodes is in memory."""

    def __init__(self, chain, path, local, seed, network, name):
        d = chain.deployment
        table = {
            "name": name,
            "network": "test",
            "chain": {
                "url": chain.url, "chain_id": d.chain_id, "registry": hexadecimal(d.registry),
                "market": hexadecimal(d.market), "token": hexadecimal(d.token),
                "confirmations": 0, "poll_s": 0.02,
            },
        }  # fmt: skip
        self.config = from_table(table, path.parent, "test")
        self.late_s = 0.0
        self.account, self.key = chain.account_of(local), PeerKey(bytes([seed]) * 32)
        self.engine = Engine(open_store(path, MIGRATIONS), lambda: time.time() + self.late_s)
        domain = typed_data.registry_domain(d.chain_id, d.registry)
        self.signer = Signer(local, domain, domain)
        self.bindings = Bindings(self.engine.db, domain, self.engine.clock)
        self.directory = Directory.of(self.config, self.account, self.key.peer_id, self.bindings)
        self.host = MemoryHost(network, PeerId(self.key.peer_id))
        exchange = DocumentExchange(self.engine, self.host, self.directory)
        self.acquaintances = Acquaintances(self.engine, self.host, self.directory, exchange)
        self.link = ChainLink(self.engine, self.config.chain, self.follow, self.take_back)
        house = SimpleNamespace(
            engine=self.engine, directory=self.directory, chain=self.config.chain, key=self.key
        )
        self.introducing = Introducing(house, self.link)

    def follow(self, tx, found):
        self.acquaintances.follow(tx, chain_events.introduced(found))

    def take_back(self, tx):
        chain_events.take_back(tx, self.bindings)

    async def run(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.engine.run)
            nursery.start_soon(self.link.run, self.signer)

    def learned(self, other):
        return self.host.learned.get(other.key.peer_id)


@pytest.fixture
async def both(chain, tmp_path):
    network, made = MemoryNetwork(), []
    for seed, name in enumerate(("bank-a", "bank-b"), start=1):
        local = await chain.new_account()
        made.append(Node(chain, tmp_path / f"{name}.sqlite3", local, seed, network, name))
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            for node in made:
                nursery.start_soon(node.run)
                await node.link.caught_up()
            yield made
        nursery.cancel_scope.cancel()


async def test_bound_and_recorded_on_chain_it_is_found_by_who_was_told_nothing(both) -> None:
    a, b = both
    assert b.directory.of_account(a.account) is None
    done = await a.introducing.publish(30, "a bank", [ADDRESS])
    assert done.gas_used > 0
    assert await b.engine.until(lambda: b.learned(a) == (ADDRESS,), 20)
    known = b.directory.of_peer(a.key.peer_id)
    assert (known.account, known.source, known.operator) == (a.account, "chain", None)
    assert known.name == f"bank-a ({hexadecimal(a.account)})"
    assert b.directory.bound(a.account, a.key.public)
    assert not b.directory.bound(a.account, b.key.public)
    assert b.bindings.of_account(a.account).valid_until == done.valid_until
    assert a.introducing.renew(a.signer) is False  # the chain has it: gossip need not
    said = organisation_records.find(b.engine.db, a.account)
    again = await a.introducing.publish(60, "a bank", [ADDRESS])
    assert again.seq > done.seq
    assert again.gas_used < done.gas_used  # the record stands already
    assert await b.engine.until(
        lambda: b.bindings.of_account(a.account).valid_until == again.valid_until, 20
    )
    assert organisation_records.find(b.engine.db, a.account) == said
    await a.introducing.end()
    assert await b.engine.until(lambda: b.directory.of_account(a.account) is None, 20)
    assert a.introducing.renew(a.signer) is False  # that was its own last word
    await a.introducing.publish(60, "a bank", [ADDRESS])
    assert await b.engine.until(lambda: b.directory.bound(a.account, a.key.public), 20)


async def test_without_a_transaction_a_binding_is_signed_for_gossip(both) -> None:
    a, b = both
    assert a.introducing.renew(a.signer) is True
    assert a.introducing.renew(a.signer) is False
    signed = a.bindings.signed(a.account)
    binding.check(signed, a.signer.registry)
    with b.engine.transaction() as tx:
        assert not b.bindings.hear(tx, signed)  # it owns nothing yet
        assets.registered(tx, bytes(32), a.account, "data", bytes(32), 0)
        assert b.bindings.hear(tx, signed)
        assert not b.bindings.hear(tx, signed)
    assert b.directory.of_account(a.account).source == "gossip"
    a.late_s = signed.valid_until - RENEW_S - time.time() + 1
    assert a.introducing.renew(a.signer) is True
    assert a.bindings.signed(a.account).seq > signed.seq


async def test_what_no_record_holds_is_refused_before_anything_is_sent(both, chain) -> None:
    a, _ = both
    for description, addresses in (("x" * 2000, ()), ("", ("http://evil",)), ("", (ADDRESS,) * 9)):
        with pytest.raises(Fault, match="organisation's document") as refused:
            await a.introducing.publish(30, description, addresses)
        assert refused.value.kind == "input-invalid"
    asked = ["eth_getTransactionCount", hexadecimal(a.account), "latest"]
    assert await chain.provider.ask(*asked) == "0x0"
    await chain.provider.ask("anvil_setBalance", hexadecimal(a.account), "0x0")
    with pytest.raises(Fault) as poor:
        await a.introducing.publish(30, "", [])
    assert poor.value.kind == "funds-missing"
    assert assets.counted(a.engine.db) == {}


def test_addresses_that_others_may_find_it_at() -> None:
    open_, inside = "/ip4/192.0.2.1/tcp/1/p2p/x", "/ip4/127.0.0.1/tcp/1/p2p/x"
    assert addresses_to_tell([inside, open_]) == ("/ip4/192.0.2.1/tcp/1",)
    assert addresses_to_tell([inside]) == ("/ip4/127.0.0.1/tcp/1",)
    assert addresses_to_tell([]) == ()
