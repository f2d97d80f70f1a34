"""The outbox on a real chain: crashes, stuck and dropped transactions, refusals, other hands."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio

from chain import contracts, events
from chain.errors import ChainRefused
from chain.events import decode
from chain.sender import Sender
from chain.values import DATA, NOBODY
from protocol.ids import hexadecimal

POINTS = (
    "before signing",
    "while storing",
    "after storing",
    "before sending",
    "after sending",
    "before the receipt is stored",
)


async def said(chain):
    """How often each name was declared: one event for each transaction that counted."""
    address = hexadecimal(chain.deployment.registry)
    span = {"address": address, "fromBlock": "0x0", "toBlock": "latest"}
    logs = [decode(log) for log in await chain.provider.ask("eth_getLogs", span)]
    return Counter(e.name for e in logs if isinstance(e, events.OrganisationDeclared))


def declare(sender, chain, name):
    return sender.enqueue(name, "declare", chain.deployment.registry, contracts.declare(name, ""))


async def until_done(sender, *names):
    refused = None
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.run)
            try:
                for name in names:
                    await sender.confirmed(name)
            except ChainRefused as error:
                refused = error
            nursery.cancel_scope.cancel()
    if refused:
        raise refused


def start_runner(url, key):
    program = Path(__file__).with_name("crash_sender.py")
    command = [sys.executable, str(program), url, key.key.hex(), "31337"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.slow)])
async def test_killed_at_every_step(chain, tmp_path, rounds):
    key = await chain.new_account()
    runner = start_runner(chain.url, key)
    names = []

    def run(point, count, path):
        runner.stdin.write(f"{point}\t{count}\t{path}\n")
        runner.stdin.flush()
        return int(runner.stdout.readline())

    path = tmp_path / "node.db"
    db = chain.database(path)
    db.enable_wal()
    try:
        for turn in range(rounds):
            for point in POINTS:
                sender = Sender(db, chain.provider, key, 31337)
                with db.atomic():
                    for number in range(3):
                        name = f"{point} {turn} {number}"
                        assert declare(sender, chain, name)
                        names.append(name)
                status = await trio.to_thread.run_sync(run, point, 1 + turn % 2, path)
                assert status == -signal.SIGKILL or turn % 2
        assert await trio.to_thread.run_sync(run, "end", 1, path) == 0
    finally:
        runner.stdin.close()
        runner.wait()
        runner.stdout.close()
    assert await said(chain) == Counter(dict.fromkeys(names, 1))
    states = db.execute("SELECT DISTINCT state, success FROM chain_outbox").fetchall()
    assert states == [("final", 1)]
    nonces = [row[0] for row in db.execute("SELECT nonce FROM chain_outbox ORDER BY nonce")]
    assert nonces == list(range(len(names)))


async def test_a_refusal_is_said_in_words_and_never_sent(chain):
    key = await chain.new_account()
    sender = Sender(chain.database(), chain.provider, key, 31337, poll_s=0.02)
    bad = contracts.compose(DATA, b"\x01" * 32, "", [b"\x02" * 32])
    assert sender.enqueue("bad", "compose", chain.deployment.registry, bad)
    with pytest.raises(ChainRefused, match="unknown child"):
        await until_done(sender, "bad")
    assert await chain.provider.ask("eth_getTransactionCount", key.address, "latest") == "0x0"
    assert not sender.enqueue("bad", "compose", chain.deployment.registry, bad)
    assert sender.withdraw("bad")
    assert not sender.withdraw("bad")
    with pytest.raises(KeyError):
        await sender.confirmed("bad")


async def test_what_waits_for_an_earlier_one_waits(chain):
    key = await chain.new_account()
    d = chain.deployment
    sender = Sender(chain.database(), chain.provider, key, 31337, poll_s=0.02)
    sender.enqueue("approve", "approve", d.token, contracts.approve(d.market, 5))
    sender.enqueue("bond", "bond", d.market, contracts.lodge_bond(5))
    sender.enqueue("bond again", "bond", d.market, contracts.lodge_bond(5))
    declare(sender, chain, "last")
    await until_done(sender, "approve", "bond", "last")
    with pytest.raises(ChainRefused, match="not approved"):
        await sender.confirmed("bond again")
    assert set(sender.gas_by_kind()) == {"approve", "bond", "declare"}


async def test_the_intent_lives_and_dies_with_the_callers_transaction(chain):
    key = await chain.new_account()
    db = chain.database()
    sender = Sender(db, chain.provider, key, 31337)
    db.begin()
    assert declare(sender, chain, "never")
    db.rollback()
    assert not await sender.step()
    with pytest.raises(KeyError):
        await sender.confirmed("never")


async def test_a_stuck_transaction_is_replaced_when_the_base_fee_leaps(chain):
    key = await chain.new_account()
    ask = chain.provider.ask
    now = [1000.0]
    db = chain.database()
    sender = Sender(db, chain.provider, key, 31337, poll_s=0.02, clock=lambda: now[0])
    await ask("evm_setAutomine", False)
    declare(sender, chain, "one")
    declare(sender, chain, "two")
    await sender.step()
    await ask("anvil_setNextBlockBaseFeePerGas", hex(20 * 10**9))
    await ask("evm_mine")
    await sender.step()
    assert await said(chain) == Counter()
    for _ in range(4):
        now[0] += 61
        await sender.step()
        await ask("evm_mine")
    await until_done(sender, "one", "two")
    assert await said(chain) == Counter(one=1, two=1)
    (attempts,) = db.execute("SELECT count(*) FROM chain_attempts").fetchone()
    assert attempts >= 3


async def test_the_fee_cap_is_never_passed(chain):
    key = await chain.new_account()
    ask = chain.provider.ask
    now = [1000.0]
    db = chain.database()
    sender = Sender(db, chain.provider, key, 31337, fee_cap_wei=3 * 10**9, clock=lambda: now[0])
    await ask("evm_setAutomine", False)
    declare(sender, chain, "one")
    await sender.step()
    await ask("anvil_setNextBlockBaseFeePerGas", hex(20 * 10**9))
    await ask("evm_mine")
    for _ in range(5):
        now[0] += 61
        await sender.step()
    fees = [int(fee) for (fee,) in db.execute("SELECT max_fee FROM chain_attempts")]
    assert max(fees) <= 3 * 10**9
    await ask("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    await ask("evm_setAutomine", True)
    await ask("evm_mine")
    await until_done(sender, "one")


async def test_a_dropped_transaction_is_sent_again(chain):
    key = await chain.new_account()
    ask = chain.provider.ask
    now = [1000.0]
    sender = Sender(chain.database(), chain.provider, key, 31337, poll_s=0.02, clock=lambda: now[0])
    await ask("evm_setAutomine", False)
    declare(sender, chain, "one")
    await sender.step()
    await ask("anvil_dropAllTransactions")
    await ask("evm_setAutomine", True)
    now[0] += 61
    await until_done(sender, "one")
    assert await said(chain) == Counter(one=1)


async def test_a_reorganised_transaction_is_sent_again(chain):
    key = await chain.new_account()
    ask = chain.provider.ask
    sender = Sender(chain.database(), chain.provider, key, 31337, confirmations=3, poll_s=0.02)
    declare(sender, chain, "one")
    await sender.step()
    await sender.step()
    assert await said(chain) == Counter(one=1)
    await ask("anvil_reorg", 1, [])
    assert await said(chain) == Counter()
    for _ in range(3):
        await sender.step()
    assert await said(chain) == Counter(one=1)
    await ask("anvil_mine", hex(4))
    await until_done(sender, "one")
    assert await said(chain) == Counter(one=1)


async def test_another_hand_on_the_key_refuses_and_never_doubles(chain):
    key = await chain.new_account()
    ask = chain.provider.ask
    sender = Sender(chain.database(), chain.provider, key, 31337, poll_s=0.02)
    await ask("evm_setAutomine", False)
    declare(sender, chain, "one")
    await sender.step()
    await ask("anvil_dropAllTransactions")
    foreign = key.sign_transaction(
        {
            "chainId": 31337,
            "nonce": 0,
            "to": hexadecimal(NOBODY),
            "data": b"",
            "value": 0,
            "gas": 21_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 1,
        }
    )
    await ask("eth_sendRawTransaction", hexadecimal(bytes(foreign.raw_transaction)))
    await ask("evm_setAutomine", True)
    await ask("anvil_mine", hex(14))
    with pytest.raises(ChainRefused, match="did not send"):
        await until_done(sender, "one")
    assert sender.withdraw("one")
    declare(sender, chain, "one")
    await until_done(sender, "one")
    assert await said(chain) == Counter(one=1)


async def test_a_full_disk_sends_nothing_unstored(chain, tmp_path):
    key = await chain.new_account()
    db = chain.database(tmp_path / "node.db")
    sender = Sender(db, chain.provider, key, 31337, poll_s=0.02)
    declare(sender, chain, "one")
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    with trio.move_on_after(0.3):
        await sender.run()
    before = await said(chain)
    db.execute("PRAGMA max_page_count = 1000000").fetchall()
    await until_done(sender, "one")
    assert await said(chain) == Counter(one=1)
    assert before in (Counter(), Counter(one=1))
