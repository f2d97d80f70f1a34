"""The node's link to a real chain: what it says when the chain is down, lies, or is replaced."""

import time
from contextlib import asynccontextmanager

import pytest
import trio
from eth_account import Account as EthAccount

from chain.devchain import DevAccounts
from chain.schema import MIGRATIONS
from node.chain_link import ChainLink
from node.config import from_table
from node.engine import Engine
from node.errors import KINDS, Fault
from node.signer import Signer
from node.store import open_store
from protocol import typed_data
from protocol.ids import hexadecimal


@pytest.fixture
def link_to(chain, tmp_path, monkeypatch):
    monkeypatch.setattr("node.chain_link.RETRY_S", 0.05)
    d = chain.deployment

    @asynccontextmanager
    async def linked(*urls, **options):
        table = {
            "url": urls[0], "urls": list(urls[1:]), "chain_id": d.chain_id,
            "registry": hexadecimal(d.registry), "market": hexadecimal(d.market),
            "token": hexadecimal(d.token), "confirmations": 0, "poll_s": 0.02,
        }  # fmt: skip
        table = {"name": "bank-a", "network": "test", "chain": table | options}
        config = from_table(table, tmp_path, "test").chain
        db = open_store(tmp_path / "node.sqlite3", MIGRATIONS)
        link = ChainLink(Engine(db, time.time), config, lambda *_: None, lambda *_: None)
        domain = typed_data.registry_domain(d.chain_id, d.registry)
        signer = Signer(EthAccount.create(), domain, domain)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run, signer)
            with trio.fail_after(20):
                yield link
            nursery.cancel_scope.cancel()
        db.close()

    return linked


def faults_of(group):
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from faults_of(error)
        else:
            yield error


async def test_a_reorganisation_that_is_too_deep_ends_the_node_by_its_name(
    chain, link_to, monkeypatch
) -> None:
    monkeypatch.setattr("chain.follower.KEPT_HEADERS", 3)
    accounts = DevAccounts(chain.provider)
    first = hexadecimal(await accounts.first())
    snapshot = await chain.provider.ask("evm_snapshot")
    for _ in range(8):
        await accounts.send(to=first)
    with pytest.raises(BaseExceptionGroup) as ended:  # noqa: PT012  it ends while it runs
        async with link_to(chain.url) as link:
            await link.caught_up()
            await chain.provider.ask("evm_revert", snapshot)
            await chain.provider.ask("evm_increaseTime", 5)
            for _ in range(9):
                await accounts.send(to=first)
            await trio.sleep_forever()
    (fault,) = faults_of(ended.value)
    assert isinstance(fault, Fault)
    assert fault.kind == "chain-reorganised"
    assert "last 3 blocks" in fault.sentence
    assert "chain resync" in KINDS[fault.kind].remedy


async def test_the_second_endpoint_serves_while_the_first_is_down(chain, link_to) -> None:
    async with link_to("http://127.0.0.1:1", chain.url) as link:
        await link.caught_up()
        down, up = link.endpoints
    assert "does not answer" in down.trouble
    assert (up.url, up.trouble) == (chain.url, "")


async def test_nothing_happens_and_everything_is_told_while_all_are_down(link_to) -> None:
    async with link_to("http://127.0.0.1:1", "http://127.0.0.1:2") as link:
        while "does not answer" not in link.trouble:  # noqa: ASYNC110  the trouble tells no event
            await trio.sleep(0.01)
        with pytest.raises(Fault, match="does not answer") as refused:
            link.require()
    assert refused.value.kind == "chain-unreachable"


async def test_a_chain_that_finalizes_late_is_followed_late(chain, link_to) -> None:
    async with link_to(chain.url, confirmations="finalized") as link:
        await link.caught_up()
        before = link.block or 0
        await chain.provider.ask("anvil_mine", hex(80))
        while (link.block or 0) <= before:  # noqa: ASYNC110
            await trio.sleep(0.01)
        newest = int(await chain.provider.ask("eth_blockNumber"), 16)
        assert link.block is not None
        assert link.block < newest
