"""Trust on, off and on again over restarts, on a real chain: one transaction for each change."""

import secrets
import time

import pytest
import trio
from eth_account import Account as EthAccount

from chain import views
from chain.abi import read
from chain.devchain import fund
from chain.schema import MIGRATIONS
from node.attester_trust import tell_chain, trusted
from node.chain_link import ChainLink
from node.config import from_table
from node.engine import Engine
from node.signer import Signer
from node.store import open_store
from protocol import typed_data
from protocol.ids import Account, hexadecimal

D, E = Account(b"\x0d" * 20), Account(b"\x0e" * 20)


class Node:
    """One account whose node is started again and again over the same database."""

    def __init__(self, chain, path):
        self.chain, self.path = chain, path
        self.local = EthAccount.from_key(secrets.token_bytes(32))
        self.own = chain.account_of(self.local)

    async def start(self, wanted, *, patience=True):
        d = self.chain.deployment
        table = {
            "name": "bank-a",
            "network": "test",
            "chain": {
                "url": self.chain.url, "chain_id": d.chain_id, "registry": hexadecimal(d.registry),
                "market": hexadecimal(d.market), "token": hexadecimal(d.token),
                "confirmations": 0, "poll_s": 0.02,
            },
        }  # fmt: skip
        config = from_table(table, self.path.parent, "test").chain
        db = open_store(self.path, MIGRATIONS)
        engine = Engine(db, time.time)
        link = ChainLink(engine, config, lambda *_: None, lambda *_: None)
        domain = typed_data.registry_domain(d.chain_id, d.registry)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run, Signer(self.local, domain, domain))
            await tell_chain(engine, link, d.registry, self.own, wanted)
            if patience:
                assert await engine.until(lambda: trusted(engine, self.own) == wanted, 10)
            nursery.cancel_scope.cancel()
        db.close()

    async def sent(self):
        asked = ["eth_getTransactionCount", hexadecimal(self.own), "latest"]
        return int(await self.chain.provider.ask(*asked), 16)

    async def trusts(self, attester):
        registry = self.chain.deployment.registry
        return await read(self.chain.provider, registry, views.trusts(self.own, attester))


@pytest.fixture
async def node(chain, tmp_path, monkeypatch):
    monkeypatch.setattr("node.chain_link.RETRY_S", 0.05)
    made = Node(chain, tmp_path / "node.sqlite3")
    await fund(chain.url, chain.deployment, made.own)
    return made


async def test_on_off_and_on_again(node):
    for wanted, sent in [({D}, 1), ({D}, 1), ({D, E}, 2), ({E}, 3), (set(), 4), ({D}, 5)]:
        await node.start(wanted)
        assert await node.sent() == sent
        assert {each for each in (D, E) if await node.trusts(each)} == wanted


async def test_a_restart_before_it_happened_adds_nothing_and_comes_out_right(node):
    for wanted in ({D}, {D}, set(), {D}, set()):
        await node.start(wanted, patience=False)
    await node.start({E})
    assert (await node.trusts(D), await node.trusts(E)) == (False, True)


async def test_what_another_database_of_the_account_told_is_withdrawn(node):
    await node.start({D})
    node.path = node.path.with_name("restored.sqlite3")
    await node.start(set())
    assert await node.sent() == 2
    assert not await node.trusts(D)
