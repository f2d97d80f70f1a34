"""A host with a catalogue and a database in a process of its own, driven by lines of JSON.

`python catalogue_process.py JOB` with the JSON {"seed", "folder", "listen", "seeds", "known",
"loss", "scheduled"}: the node of organisation `seed` among `seeds`, which keeps connections to the
addresses `known` and loses the part `loss` of gossip; without `scheduled` it reconciles only when
it is told to. It prints {"address", "peer"} once it listens, then one line for each command:
{"publish": name}, {"withdraw": cdt}, {"know": [address, …]}, {"reconcile": peer}, {"held": 1},
{"connected": 1}, {"memory": 1}. The end of the input ends it.
"""

import json
import random
import resource
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import trio

from chain.schema import MIGRATIONS
from node import assets, log
from node.announcements import Announcements
from node.bindings import Bindings
from node.catalogue import Catalogue
from node.catalogue_rooms import CatalogueRooms
from node.config import from_table
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine
from node.host import Host, open_host
from node.keys import PeerKey
from node.reconcile_service import ReconcileService
from node.reconciling import Reconciling
from node.store import open_store
from node.unwanted import Unwanted
from protocol import documents, typed_data
from protocol.documents import Column, Metadata, Schema
from protocol.ids import Account, PeerId

REGISTRY = Account(b"\x11" * 20)


def key_of(seed: int) -> PeerKey:
    return PeerKey(bytes([seed]) * 32)


def account_of(seed: int) -> Account:
    return Account(bytes([seed]) * 20)


def directory_of(seed: int, seeds: list[int], engine: Engine) -> Directory:
    table = {
        "name": f"organisation-{seed}",
        "network": "test",
        "organisations": [
            {
                "name": f"organisation-{each}",
                "account": "0x" + account_of(each).hex(),
                "peer_id": key_of(each).peer_id,
            }
            for each in seeds
            if each != seed
        ],
    }
    config = from_table(table, Path(), "test")
    bindings = Bindings(engine.db, typed_data.registry_domain(31337, REGISTRY), engine.clock)
    return Directory.of(config, account_of(seed), key_of(seed).peer_id, bindings)


class Node:
    """The rooms, with the schedule or without."""

    def __init__(self, job: dict[str, Any], host: Host) -> None:
        self.seed = int(job["seed"])
        self.host = host
        self.engine = Engine(
            open_store(Path(job["folder"]) / "node.sqlite3", MIGRATIONS), time.time
        )
        directory = directory_of(self.seed, job["seeds"], self.engine)
        exchange = DocumentExchange(self.engine, host, directory)
        self.rooms: CatalogueRooms | None = None
        if job["scheduled"]:
            self.rooms = CatalogueRooms.of(
                self.engine, host, directory, key_of(self.seed), exchange
            )
            self.announcements = self.rooms.announcements
            return
        self.announcements, unwanted = Announcements(self.engine), Unwanted(trio.current_time)
        catalogue = Catalogue(self.engine, host, directory, exchange, self.announcements)
        self.reconciling = Reconciling(host, catalogue, self.announcements, unwanted)
        ReconcileService(host, catalogue, self.announcements, unwanted)

    def publish(self, name: str) -> str:
        """As if the chain had confirmed an own asset of this name."""
        metadata = Metadata(
            type="data",
            name=name,
            description="",
            author=f"organisation-{self.seed}",
            license="closed",
            created="2026-01-01T00:00:00Z",
            endpoint=self.host.peer_id,
            schema=Schema(columns=(Column(name="Age", kind="number", width=2),), rows_about=1000),
        )
        assert self.rooms is not None
        cdt = sha256(name.encode()).digest()
        with self.engine.transaction() as tx:
            proof = assets.keep_document(tx, documents.canonical(metadata))
            assets.registered(tx, cdt, account_of(self.seed), "data", proof, 0)
            self.rooms.announcing.announce(tx, cdt)
        return cdt.hex()

    def withdraw(self, cdt: str) -> str:
        assert self.rooms is not None
        with self.engine.transaction() as tx:
            self.rooms.announcing.withdraw(tx, bytes.fromhex(cdt))
        return cdt

    def know(self, addresses: list[str]) -> int:
        for address in addresses:
            self.host.know(PeerId(address.rpartition("/")[2]), [address])
        return len(addresses)

    async def reconcile(self, peer_id: str) -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        exchange = await self.reconciling.with_peer(PeerId(peer_id))
        return {
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
            "requests": exchange.requests,
            "range_bytes": exchange.range_bytes,
            "news": exchange.news,
            "given": exchange.given,
            "finished": exchange.finished,
        }

    async def do(self, command: dict[str, Any]) -> Any:
        match command:
            case {"publish": name}:
                return self.publish(name)
            case {"withdraw": cdt}:
                return self.withdraw(cdt)
            case {"know": addresses}:
                return self.know(addresses)
            case {"reconcile": peer_id}:
                return await self.reconcile(peer_id)
            case _:
                return self.figure(*command)

    def figure(self, name: str) -> Any:
        figures: dict[str, Callable[[], Any]] = {
            "held": self.held,
            "connected": lambda: sum(peer.connected for peer in self.host.peers()),
            "memory": lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024,
        }
        return figures[name]()

    def held(self) -> dict[str, Any]:
        entries = self.announcements.entries()
        rows = self.engine.db.execute("SELECT cdt FROM announcements WHERE withdrawn").fetchall()
        return {
            "count": len(entries),
            "fingerprint": entries.fingerprint("").hex(),
            "withdrawn": sorted(cdt.hex() for (cdt,) in rows),
        }


def lossy(host: Host, loss: float) -> Host:
    listen, chance = host.on_gossip, random.Random()

    def on_gossip(check: Any, receive: Any) -> None:
        listen(lambda author, data: chance.random() >= loss and check(author, data), receive)

    host.on_gossip = on_gossip  # type: ignore[method-assign]
    return host


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def main(job: dict[str, Any]) -> None:
    known = {PeerId(address.rpartition("/")[2]): [address] for address in job["known"]}
    async with open_host(key_of(job["seed"]).seed, job["listen"], "test", known) as host:
        node = Node(job, lossy(host, job["loss"]))
        say({"address": host.addresses[0], "peer": host.peer_id})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.engine.run)
            if node.rooms is not None:
                nursery.start_soon(node.rooms.run)
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                say(await node.do(json.loads(line)))
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    log.configure("warning")
    trio.run(main, json.loads(sys.argv[1]))
