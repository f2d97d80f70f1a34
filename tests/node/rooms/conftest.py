"""Rooms of several nodes in one process: real databases and engines, the network in memory."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import pytest
import trio
from eth_account import Account as Accounts

from chain.schema import MIGRATIONS
from node import assets
from node.bindings import Bindings
from node.catalogue import Catalogue
from node.catalogue_rooms import CatalogueRooms
from node.config import Config, from_table
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine
from node.errors import Fault
from node.grants import Grants
from node.host import PeerStatus
from node.judging import Judging
from node.keys import PeerKey
from node.negotiations import Negotiations
from node.signer import Signer
from node.store import open_store
from protocol import documents, typed_data
from protocol.documents import Metadata
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, PeerId
from tests.node.rooms.session_world import world  # noqa: F401  a fixture

Handler = Callable[[PeerId, bytes], Awaitable[bytes]]
CHAIN = {
    "url": "http://127.0.0.1:9",
    "chain_id": 31337,
    "registry": "0x" + "11" * 20,
    "market": "0x" + "22" * 20,
    "token": "0x" + "33" * 20,
}
ARBITER = "0x" + "ab" * 20
PARTIES = {
    "operations": ["shared-features"],
    "counterparties": ["fintech-c"],
    "recipients": ["fintech-c"],
    "purposes": ["risk"],
    "attesters": ["regulator-d"],
    "deciders": [ARBITER],
    "valid_for_days": 30,
    "uses": 2,
}


@dataclass
class MemoryNetwork:
    """Requests between nodes in memory; `lose` says which one is lost, before or after it acted."""

    hosts: dict[str, "MemoryHost"] = field(default_factory=dict)
    lose: Callable[[], str] = lambda: ""
    lose_gossip: Callable[[], bool] = lambda: False


class MemoryHost:
    """What the rooms use of a host."""

    def __init__(self, network: MemoryNetwork, peer_id: PeerId) -> None:
        self.peer_id = peer_id
        self.addresses = ("/ip4/127.0.0.1/tcp/1",)
        self.published: list[bytes] = []
        self.reported: list[tuple[PeerId, str]] = []
        self.learned: dict[PeerId, tuple[str, ...]] = {}
        self.requests: list[tuple[str, int, int]] = []
        self.welcomes: list[Callable[[PeerId], Awaitable[None]]] = []
        self.served: dict[str, Handler] = {}
        self.gone: set[str] = set()
        self._network = network
        self._gossip: list[tuple[Callable[..., bool], Callable[..., Awaitable[None]]]] = []
        network.hosts[peer_id] = self

    def serve(self, protocol: str, handler: Handler, **_: object) -> None:
        self.served[protocol] = handler

    def serve_stream(self, protocol: str, handler: Callable[..., Awaitable[None]]) -> None:
        """Nobody opens streams here."""

    def on_gossip(
        self, check: Callable[..., bool], receive: Callable[..., Awaitable[None]]
    ) -> None:
        self._gossip.append((check, receive))

    async def request(
        self, peer_id: PeerId, protocol: str, payload: bytes, *, timeout_s: float
    ) -> bytes:
        await trio.lowlevel.checkpoint()
        fate = self._network.lose()
        if fate == "before":
            raise Fault("peer-timeout", "the request was lost")
        if peer_id not in self._network.hosts:
            raise Fault("peer-unreachable", "nobody is there")
        try:
            answer = await self._network.hosts[peer_id].served[protocol](self.peer_id, payload)
        except (Fault, RemoteProtocolError) as error:
            if isinstance(error, RemoteProtocolError):
                self._network.hosts[peer_id].report(self.peer_id, str(error))
            raise Fault("peer-refused", str(error)) from error
        self.requests.append((protocol, len(payload), len(answer)))
        if fate == "after":
            raise Fault("peer-timeout", "the answer was lost")
        return answer

    def on_connected(self, action: Callable[[PeerId], Awaitable[None]]) -> None:
        self.welcomes.append(action)

    def report(self, peer_id: PeerId, reason: str) -> None:
        self.reported.append((peer_id, reason))

    def learn(self, peer_id: PeerId, addresses: Iterable[str], _source: str) -> None:
        self.learned[peer_id] = tuple(addresses)

    async def publish(self, payload: bytes) -> None:
        self.published.append(payload)
        for peer_id, host in self._network.hosts.items():
            if peer_id != self.peer_id and not self._network.lose_gossip():
                await host.hear(self.peer_id, payload)

    async def hear(self, author: PeerId, payload: bytes) -> bool:
        accepted = True
        for check, receive in self._gossip:
            accepted = accepted and check(author, payload)
            if accepted:
                await receive(author, payload)
        return accepted

    def peers(self) -> list[PeerStatus]:
        return [
            PeerStatus(PeerId(each), "", each not in self.gone, None, 0, True, None, 0.0, None)
            for each in self._network.hosts
            if each != self.peer_id
        ]


@dataclass
class Node:
    """The rooms of one organisation."""

    name: str
    key: PeerKey
    account: Account
    config: Config
    directory: Directory
    engine: Engine
    host: MemoryHost
    exchange: DocumentExchange
    rooms: CatalogueRooms
    judging: Judging
    grants: Grants
    negotiations: Negotiations

    @property
    def catalogue(self) -> Catalogue:
        """Where announcements are heard."""
        return self.rooms.catalogue

    def registered(self, cdt: bytes, owner: Account, metadata: Metadata) -> None:
        """As if the chain had confirmed the asset and the document had been fetched."""
        body = documents.canonical(metadata)
        children = tuple(bytes.fromhex(child[2:]) for child in metadata.children)
        with self.engine.transaction() as tx:
            proof = assets.keep_document(tx, body)
            assets.registered(tx, cdt, owner, metadata.type, proof, 0, children)


def table_of(name: str, others: Iterable[tuple[str, PeerKey, Account]]) -> dict[str, object]:
    table: dict[str, object] = {
        "name": name,
        "network": "test",
        "chain": CHAIN,
        "trust": {"attesters": ["0x" + {n: a for n, _, a in others}["regulator-d"].hex()],
                  "decider": ARBITER},
        "organisations": [
            {"name": other, "account": "0x" + account.hex(), "peer_id": key.peer_id}
            for other, key, account in others
            if other != name
        ],
    }  # fmt: skip
    if name.startswith("bank"):
        terms = PARTIES | {"price": 10**18, "parameters": {"width": {"max": 4}}}
        features = [{"name": "Age", "kind": "number"}, {"name": "Income", "kind": "number"}]
        dataset = {"name": "facts", "path": "rows.csv", "id": "id", "features": features}
        table["datasets"] = [dataset | {"terms": terms}]
    if name != "fintech-c":
        compute_terms = PARTIES | {"operations": ["committee-member"]}
        table["compute"] = {"name": f"compute-{name}", "terms": compute_terms}
    return table


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


@pytest.fixture
def names() -> tuple[str, ...]:
    """Whose rooms `nodes` makes."""
    return ("bank-a", "bank-b", "fintech-c", "regulator-d")


@pytest.fixture
def nodes(
    tmp_path: Path, network: MemoryNetwork, names: tuple[str, ...], autojump_clock: object
) -> dict[str, Node]:
    """The rooms of all `names`, who all know each other."""
    who = []
    for number, name in enumerate(names, start=1):
        local = Accounts.from_key(bytes([number]) * 32)
        who.append((name, PeerKey(bytes([number]) * 32), local))
    public = [(name, key, Account(bytes.fromhex(local.address[2:]))) for name, key, local in who]
    made = {}
    for (name, key, local), (_, _, account) in zip(who, public, strict=True):
        config = from_table(table_of(name, public), tmp_path, name)
        assert config.chain is not None
        engine = Engine(open_store(tmp_path / f"{name}.sqlite3", MIGRATIONS), trio_clock)
        registry = typed_data.registry_domain(31337, config.chain.registry)
        bindings = Bindings(engine.db, registry, engine.clock)
        directory = Directory.of(config, account, key.peer_id, bindings)
        host = MemoryHost(network, key.peer_id)
        exchange = DocumentExchange(engine, host, directory)
        rooms = CatalogueRooms.of(engine, host, directory, key, exchange)
        judging = Judging(engine, directory, config)
        grants = Grants(engine, directory, judging, config.chain)
        grants.signer = Signer(
            local, registry, typed_data.market_domain(31337, config.chain.market)
        )
        negotiations = Negotiations(engine, host, directory, exchange, judging, grants)
        made[name] = Node(
            name,
            key,
            account,
            config,
            directory,
            engine,
            host,
            exchange,
            rooms,
            judging,
            grants,
            negotiations,
        )
    return made


STARTED: "WeakKeyDictionary[object, float]" = WeakKeyDictionary()


def trio_clock() -> float:
    """Unix time that moves with trio's clock, so that autojump moves deadlines too.

    It begins alike in every run: trio's own clock begins anywhere.
    """
    try:
        now = trio.current_time()
    except RuntimeError:  # while the rooms are made, before trio runs
        return 1_800_000_000.0
    return 1_800_000_000.0 + now - STARTED.setdefault(trio.lowlevel.current_trio_token(), now)
