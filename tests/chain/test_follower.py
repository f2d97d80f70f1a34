"""The follower on a real chain: reorganisations, endpoints that fail, resuming, hostile words."""

import json
import random
import sqlite3

import pytest
import trio

from chain import contracts, events, projection
from chain.devchain import DevAccounts
from chain.errors import ChainUnreachable, ReorganisedTooDeep
from chain.events import decode
from chain.follower import Follower, forget, stored_events
from chain.provider import TrioProvider
from chain.values import DATA
from protocol.ids import hexadecimal


class Watch:
    """A follower and what the node would make of its events."""

    def __init__(self, chain, db=None, confirmations=0):
        self.db = db or chain.database()
        self.db.execute("CREATE TABLE IF NOT EXISTS seen (block INTEGER, name TEXT)")
        self.provider = chain.provider
        self.follower = Follower(
            self.db,
            chain.provider,
            chain.deployment,
            confirmations,
            self.on_events,
            on_rollback=self.on_rollback,
            poll_s=0.01,
        )

    @staticmethod
    def on_events(db, batch):
        for event in batch:
            db.execute("INSERT INTO seen VALUES (?, ?)", [event.at.block, type(event).__name__])

    @staticmethod
    def on_rollback(db, block):
        db.execute("DELETE FROM seen WHERE block > ?", [block])

    async def catch_up(self):
        while not await self.follower.step():
            pass

    def tables(self):
        names = ("chain_logs", "seen", *projection.TABLES)
        return {name: list(self.db[name].rows) for name in names}


class Author:
    """Makes transactions whose events differ each time."""

    def __init__(self, chain):
        self.chain = chain
        self.accounts = DevAccounts(chain.provider)
        self.number = 0

    async def write(self, count=1):
        for _ in range(count):
            self.number += 1
            data = contracts.register(DATA, self.number.to_bytes(32), f"ipfs://{self.number}")
            registry = hexadecimal(self.chain.deployment.registry)
            await self.accounts.send(to=registry, data=hexadecimal(data))


async def truth(chain):
    addresses = [hexadecimal(chain.deployment.registry), hexadecimal(chain.deployment.market)]
    span = {"address": addresses, "fromBlock": "0x0", "toBlock": "latest"}
    return [decode(log) for log in await chain.provider.ask("eth_getLogs", span)]


async def agrees_with_a_fresh_one(watch, chain):
    await watch.catch_up()
    assert stored_events(watch.db) == await truth(chain)
    fresh = Watch(chain)
    await fresh.catch_up()
    assert watch.tables() == fresh.tables()


@pytest.mark.parametrize("reorganisations", [12, pytest.param(50, marks=pytest.mark.slow)])
async def test_random_reorganisations_while_syncing(chain, reorganisations):
    author, watch, chance = Author(chain), Watch(chain), random.Random(7)
    await author.write(20)
    for _ in range(reorganisations):
        await author.write(chance.randint(1, 4))
        for _ in range(chance.randint(0, 3)):
            await watch.follower.step()
        await chain.provider.ask("anvil_reorg", chance.randint(1, 8), [])
        if chance.random() < 0.4:
            await watch.follower.step()
    await agrees_with_a_fresh_one(watch, chain)


async def test_reorganised_with_other_transactions(chain):
    author, watch = Author(chain), Watch(chain)
    await author.write(6)
    await watch.catch_up()
    first = hexadecimal(await author.accounts.first())
    registry = hexadecimal(chain.deployment.registry)
    others = [
        [
            {
                "from": first,
                "to": registry,
                "data": hexadecimal(contracts.declare(f"other {i}", "")),
                "gas": "0x50000",
            },
            i,
        ]
        for i in range(3)
    ]
    await chain.provider.ask("anvil_reorg", 4, others)
    await agrees_with_a_fresh_one(watch, chain)
    names = [e.name for e in stored_events(watch.db) if isinstance(e, events.OrganisationDeclared)]
    assert len(names) == 3


async def test_snapshot_and_revert_to_a_longer_and_a_shorter_chain(chain):
    author, watch = Author(chain), Watch(chain)
    await author.write(5)
    for count in (6, 1):
        snapshot = await chain.provider.ask("evm_snapshot")
        await author.write(4)
        await watch.catch_up()
        await chain.provider.ask("evm_revert", snapshot)
        await author.write(count)
        await agrees_with_a_fresh_one(watch, chain)


async def test_confirmations_are_waited_for(chain):
    author, watch = Author(chain), Watch(chain, confirmations=3)
    await author.write(1)
    await watch.catch_up()
    assert stored_events(watch.db) == []
    await chain.provider.ask("anvil_mine", hex(3))
    await watch.catch_up()
    assert len(stored_events(watch.db)) == 1
    assert watch.follower.block_time() > 0


async def test_it_resumes_where_the_database_says(chain, tmp_path):
    path = tmp_path / "node.db"
    author, first = Author(chain), Watch(chain, chain.database(path))
    await author.write(4)
    await first.catch_up()
    head = first.follower.head()
    await author.write(3)
    second = Watch(chain, chain.database(path))
    assert second.follower.head() == head
    await agrees_with_a_fresh_one(second, chain)


async def test_far_behind_in_ranges(chain, monkeypatch):
    author = Author(chain)
    await author.write(30)
    await chain.provider.ask("anvil_mine", hex(300))
    await author.write(30)
    monkeypatch.setattr("chain.follower.RANGE_FIRST", 50)
    watch = Watch(chain)
    await agrees_with_a_fresh_one(watch, chain)
    assert len(stored_events(watch.db)) == 60
    # An endpoint that limits ranges is asked for smaller ones.
    asked = []
    whole = TrioProvider.ask

    async def limited(self, method, *params):
        if method == "eth_getLogs":
            span = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
            asked.append(span)
            if span > 40:
                return await whole(self, "eth_refuse_this")
        return await whole(self, method, *params)

    monkeypatch.setattr(TrioProvider, "ask", limited)
    limited_watch = Watch(chain)
    await limited_watch.catch_up()
    assert limited_watch.tables() == watch.tables()
    assert max(asked) > 40 >= asked[-1]


async def test_a_reorganisation_deeper_than_memory_stops_and_is_mended(chain, monkeypatch):
    monkeypatch.setattr("chain.follower.KEPT_HEADERS", 4)
    author, watch = Author(chain), Watch(chain)
    await author.write(12)
    await watch.catch_up()
    await chain.provider.ask("anvil_reorg", 8, [])
    with pytest.raises(ReorganisedTooDeep, match="last 4 blocks"):
        await watch.catch_up()
    with watch.db.atomic():
        forget(watch.db)
        watch.on_rollback(watch.db, -1)
    await agrees_with_a_fresh_one(watch, chain)


async def test_an_endpoint_behind_takes_nothing_back(chain):
    author, watch = Author(chain), Watch(chain)
    await author.write(3)
    snapshot = await chain.provider.ask("evm_snapshot")
    await author.write(3)
    await watch.catch_up()
    before = watch.tables()
    await chain.provider.ask("evm_revert", snapshot)
    await watch.catch_up()
    assert watch.tables() == before
    await author.write(1)  # now it is another branch
    await agrees_with_a_fresh_one(watch, chain)


async def test_a_full_disk_leaves_the_last_step_whole(chain, tmp_path):
    author = Author(chain)
    watch = Watch(chain, chain.database(tmp_path / "node.db"))
    await author.write(2)
    await watch.catch_up()
    before = watch.tables()
    (pages,) = watch.db.execute("PRAGMA page_count").fetchone()
    watch.db.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    await author.write(60)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await watch.catch_up()
    assert watch.tables() == before
    watch.db.execute("PRAGMA max_page_count = 1000000").fetchall()
    await agrees_with_a_fresh_one(watch, chain)


async def test_words_that_are_no_text_harm_only_their_author(chain):
    watch = Watch(chain)
    data = contracts.declare("AAAA", "BBBB").replace(b"AAAA", b"\xff\xfe\x00\x80")
    registry = hexadecimal(chain.deployment.registry)
    await DevAccounts(chain.provider).send(to=registry, data=hexadecimal(data))
    await watch.catch_up()
    (event,) = stored_events(watch.db)
    assert event.document == "BBBB"
    assert "\ufffd" in event.name


async def test_it_waits_for_an_endpoint_that_is_down_and_wakes(chain, nursery, monkeypatch):
    monkeypatch.setattr("chain.follower.RETRY_FIRST_S", 0.01)
    monkeypatch.setattr("chain.follower.RETRY_MOST_S", 0.02)
    watch = Watch(chain)
    working = watch.provider._urls
    watch.provider._urls = ["http://127.0.0.1:1"]
    nursery.start_soon(watch.follower.run)
    await trio.sleep(0.1)
    assert not watch.follower.reachable
    watch.provider._urls = working
    with trio.fail_after(10):
        await watch.follower.reached(1)
    assert watch.follower.reachable
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense", b"[1,2]", b'{"jsonrpc":"2.0"}', b"[" * 100_000, b"null"]
)
async def test_garbage_is_unreachable_and_nothing_worse(chain, monkeypatch, answer):
    watch = Watch(chain)

    async def garbage(url, response):
        return answer

    monkeypatch.setattr("chain.provider._bounded", garbage)
    with pytest.raises(ChainUnreachable):
        await watch.catch_up()


def test_deep_nesting_is_an_exception():
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000)


def twice(log):
    return [log, log]


def of_another_contract(log):
    return [log | {"address": "0x" + "99" * 20}]


def of_another_block(log):
    return [log | {"blockNumber": "0x1"}]


def of_another_branch(log):
    return [log | {"blockHash": "0x" + "99" * 32}]


@pytest.mark.parametrize("lie", [twice, of_another_contract, of_another_block, of_another_branch])
async def test_logs_that_were_not_asked_for_are_not_taken(chain, monkeypatch, lie):
    author, watch = Author(chain), Watch(chain)
    await watch.catch_up()
    await author.write(1)
    ask_many = watch.provider.ask_many

    async def lying(calls):
        answers = await ask_many(calls)
        return [
            [told for log in answer for told in lie(log)] if isinstance(answer, list) else answer
            for answer in answers
        ]

    with monkeypatch.context() as patch:
        patch.setattr(watch.provider, "ask_many", lying)
        with pytest.raises(ChainUnreachable, match="not asked for"):
            await watch.catch_up()
    await agrees_with_a_fresh_one(watch, chain)


async def test_only_what_the_chain_calls_finalized_counts(chain):
    author, watch = Author(chain), Watch(chain, confirmations="finalized")
    await author.write(2)
    await watch.catch_up()
    assert stored_events(watch.db) == []
    await chain.provider.ask("anvil_mine", hex(80))
    await watch.catch_up()
    assert len(stored_events(watch.db)) == 2
    finalized = await chain.provider.ask("eth_getBlockByNumber", "finalized", False)
    assert watch.follower.head()[0] == int(finalized["number"], 16)


async def test_a_chain_that_finalizes_nothing_is_told(chain, monkeypatch):
    watch = Watch(chain, confirmations="finalized")
    ask_many = watch.provider.ask_many

    async def without(calls):
        answers = await ask_many(calls)
        return [
            None if "finalized" in call[1] else a for call, a in zip(calls, answers, strict=True)
        ]

    monkeypatch.setattr(watch.provider, "ask_many", without)
    with pytest.raises(ChainUnreachable, match="no finalized block"):
        await watch.catch_up()
