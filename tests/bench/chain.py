"""The chain side on a local anvil: gas of every function, following, sending, asking.

Gas stands beside what publishing one asset costs with Ocean's contracts, measured in the same
way. `python -m tests.bench.chain` prints the figures.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import trio
from sqlite_utils import Database

from chain import contracts, views
from chain.abi import read
from chain.deployment import Deployment
from chain.devchain import DevAccounts, deploy_on, devchain, provide_anvil
from chain.follower import Follower
from chain.provider import TrioProvider
from chain.schema import MIGRATIONS
from chain.sender import Sender
from protocol.ids import hexadecimal
from tests.chain.conftest import Chain, unused_port
from tests.chain.test_gas import measure_gas

OCEAN_PUBLISH_GAS = 1_180_000
BLOCKS, EVENTS = 3_000, 300
TRANSACTIONS, CALLS, IDLE_STEPS = 500, 300, 200

Figures = dict[str, dict[str, object]]


def measure() -> Figures:
    """name -> {value, unit, baseline, ratio, what}."""
    provide_anvil()
    return trio.run(_measure)


def figure(value, unit, what, baseline=None):
    ratio = None if baseline is None else value / baseline
    return {"value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "what": what}


async def _measure() -> Figures:
    async with devchain(unused_port()) as url:
        provider = TrioProvider(url)
        chain = Chain(url, provider, await deploy_on(url))
        figures = {
            f"chain.gas.{name.split(' ')[0]}": figure(
                gas, "gas", f"{name}; beside it Ocean's publish", OCEAN_PUBLISH_GAS
            )
            for name, gas in (await measure_gas(chain)).items()
        }
        figures["chain.call_ms"] = await _calls(chain)
        with tempfile.TemporaryDirectory() as folder:
            figures["chain.sender.tx_per_s"] = await _sending(chain, Path(folder) / "sender.db")
        await provider.aclose()
    async with devchain(unused_port()) as url:
        provider = TrioProvider(url)
        chain = Chain(url, provider, await deploy_on(url))
        with tempfile.TemporaryDirectory() as folder:
            figures |= await _following(chain, Path(folder) / "follower.db")
        await provider.aclose()
    return figures


def durable(path: Path) -> Database:
    db = Database(path)
    db.enable_wal()
    db.execute("PRAGMA synchronous = FULL")
    MIGRATIONS.apply(db)
    return db


async def _calls(chain):
    begun = time.perf_counter()
    for _ in range(CALLS):
        await read(chain.provider, chain.deployment.market, views.bond_amount())
    spent = (time.perf_counter() - begun) / CALLS * 1e3
    return figure(spent, "ms", "one view of a contract, encoded, asked and decoded")


async def _sending(chain, path):
    sender = Sender(durable(path), chain.provider, await chain.new_account(), 31337, poll_s=0.05)
    for number in range(TRANSACTIONS):
        data = contracts.declare(f"name {number}", "")
        sender.enqueue(str(number), "declare", chain.deployment.registry, data)
    begun = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        await sender.confirmed(str(TRANSACTIONS - 1))
        nursery.cancel_scope.cancel()
    rate = TRANSACTIONS / (time.perf_counter() - begun)
    what = "simulated, signed, stored at synchronous=FULL, sent and confirmed"
    return figure(rate, "tx/s", what)


async def _following(chain, path):
    accounts = DevAccounts(chain.provider)
    registry = hexadecimal(chain.deployment.registry)
    for part in range(3):
        for number in range(EVENTS // 3):
            data = contracts.declare(f"{part} {number}", "")
            await accounts.send(to=registry, data=hexadecimal(data))
        await chain.provider.ask("anvil_mine", hex((BLOCKS - EVENTS) // 3))
    follower = _follower(durable(path), chain.provider, chain.deployment)
    begun = time.perf_counter()
    while not await follower.step():
        pass
    backfill = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(IDLE_STEPS):
        await follower.step()
    idle = (time.perf_counter() - begun) / IDLE_STEPS * 1e3
    what = f"{BLOCKS} blocks with {EVENTS} events into an empty database"
    return {
        "chain.follower.backfill": figure(backfill, "s", what),
        "chain.follower.idle_ms": figure(idle, "ms", "a step that finds nothing new"),
    }


def _follower(db: Database, provider: TrioProvider, deployment: Deployment) -> Follower:
    return Follower(db, provider, deployment, 0, lambda _db, _events: None)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=1) + "\n")
