"""One process of the negotiation benchmark: the owner's node, or the node that asks it.

Host, database (every commit synced to a disk), judging, signing and both sides of the table are
the product's own; only the chain is made up: all assets are confirmed from the start. Talks to
its parent (negotiation.py) by lines of JSON.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from eth_account import Account as Accounts

from chain.schema import MIGRATIONS
from node import assets, log, negotiation_records
from node.bindings import Bindings
from node.config import from_table
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine
from node.grants import Grants
from node.host import open_host
from node.judging import Judging
from node.keys import PeerKey
from node.negotiations import Negotiations
from node.signer import Signer
from node.store import open_memory, open_store
from protocol import documents, typed_data
from protocol.documents import Metadata
from protocol.ids import Account
from protocol.negotiation import State
from tests.node.rooms.conftest import table_of
from tests.node.rooms.contracts import DATA, algorithm, everybody_knows, request_for

NAMES = ("bank-a", "bank-b", "fintech-c", "regulator-d")
OWNER, CONSUMER = "bank-b", "fintech-c"
WITHIN_S = 10.0


@dataclass
class Party:
    """An organisation with its keys; `own` is the one whose node runs in this process."""

    name: str
    key: PeerKey
    account: Account
    engine: Engine
    own: bool

    def registered(self, cdt: bytes, owner: Account, metadata: Metadata) -> None:
        """As if the chain had confirmed the asset and the document had been fetched."""
        if not self.own:
            return
        children = tuple(bytes.fromhex(child[2:]) for child in metadata.children)
        with self.engine.transaction() as tx:
            proof = assets.keep_document(tx, documents.canonical(metadata))
            assets.registered(tx, cdt, owner, metadata.type, proof, 0, children)


def parties(me: str, folder: Path) -> dict[str, Party]:
    made = {}
    for number, name in enumerate(NAMES, start=1):
        account = Account(bytes.fromhex(Accounts.from_key(bytes([number]) * 32).address[2:]))
        own = name == me
        db = open_store(folder / "node.sqlite3", MIGRATIONS) if own else open_memory()
        key = PeerKey(bytes([number]) * 32)
        made[name] = Party(name, key, account, Engine(db, time.time), own)
    everybody_knows(made, algorithm(made))
    return made


async def main(me: str, folder: Path, peer: str) -> None:
    made = parties(me, folder)
    own, other = made[me], made[CONSUMER if me == OWNER else OWNER]
    public = [(each.name, each.key, each.account) for each in made.values()]
    config = from_table(table_of(me, public), folder, me)
    assert config.chain is not None
    registry = typed_data.registry_domain(31337, config.chain.registry)
    market = typed_data.market_domain(31337, config.chain.market)
    directory = Directory.of(
        config, own.account, own.key.peer_id, Bindings(own.engine.db, registry, time.time)
    )
    known = {other.key.peer_id: [peer]} if peer else {}
    async with (
        open_host(own.key.seed, "/ip4/127.0.0.1/tcp/0", "bench", known) as host,
        trio.open_nursery() as nursery,
    ):
        exchange = DocumentExchange(own.engine, host, directory)
        judging = Judging(own.engine, directory, config)
        grants = Grants(own.engine, directory, judging, config.chain)
        local = Accounts.from_key(bytes([NAMES.index(me) + 1]) * 32)
        grants.signer = Signer(local, registry, market)
        rooms = Negotiations(own.engine, host, directory, exchange, judging, grants)
        nursery.start_soon(own.engine.run)
        tell(address=host.addresses[0])
        if me == CONSUMER:
            while not any(each.connected for each in host.peers()):  # noqa: ASYNC110
                await trio.sleep(0.05)
        async for line in trio.wrap_file(sys.stdin):
            await trio.sleep(float(json.loads(line)["after_s"]))
            tell(seconds=await negotiated(made, rooms))
        nursery.cancel_scope.cancel()


async def negotiated(made: dict[str, Party], rooms: Negotiations) -> float:
    """Seconds from the request until the consumer knows that it is finalized."""
    consumer = made[CONSUMER].engine
    request = request_for(made, DATA[OWNER])

    def finalized() -> bool:
        return negotiation_records.known(consumer.db, request.process).state is State.FINALIZED

    began = time.perf_counter()
    rooms.consumer.start(request)
    if not await consumer.until(finalized, WITHIN_S):
        raise RuntimeError(f"not finalized: {negotiation_records.every(consumer.db)[0]}")
    return time.perf_counter() - began


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    log.configure("warning", console=False, file=Path(sys.argv[2]) / "node.log")
    trio.run(main, sys.argv[1], Path(sys.argv[2]), sys.argv[3])
