"""The daemon as it is composed, alive in a thread: what it serves is fed with any bytes.

Everything is real but the way of a stream's bytes: the handlers that the rooms give to libp2p are
called with a stream in memory, for any peer. Nothing is connected, and the chain does not answer.
"""

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import structlog
import trio
import trio.testing
from eth_account import Account as Accounts

from chain.schema import MIGRATIONS
from node import assets, daemon, log
from node.config import FolderConfig, from_table
from node.engine import Engine
from node.errors import Fault
from node.folder import create_folder, write_private
from node.keys import Password, PeerKey, create_keystore
from node.libp2p_guard import Guard
from node.store import open_store
from node.streams import StreamBroken
from protocol import documents
from protocol.documents import Metadata
from protocol.errors import RemoteProtocolError
from protocol.ids import Account
from tests.fuzz.frame_targets import Scripted
from tests.node.rooms import contracts
from tests.node.rooms.conftest import table_of

NAMES = ("bank-a", "bank-b", "fintech-c", "regulator-d")
PASSWORD = Password("fuzz")
STARTED_S = 30.0
PATIENCE_S = 0.5
"""After this a peer leaves; a handler that makes it wait has done what it may."""

Handler = Callable[[str, Any], Awaitable[None]]


class OursError(AssertionError):
    """The daemon logged a failure of its own: an exception that no peer may cause."""


class Heard(Scripted):
    """A stream whose peer has said everything; `written` is what it was told."""

    def __init__(self, said: bytes) -> None:
        super().__init__(said)
        self.written = bytearray()

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.written += data


@dataclass
class Identity:
    """One of the four organisations; `registered` does nothing but at the one that is alive."""

    name: str
    key: PeerKey
    account: Account
    engine: Any = None
    alive: bool = False

    def registered(self, cdt: bytes, owner: Account, metadata: Metadata) -> None:
        if self.alive:
            body = documents.canonical(metadata)
            children = tuple(bytes.fromhex(child[2:]) for child in metadata.children)
            with self.engine.transaction() as tx:
                proof = assets.keep_document(tx, body)
                assets.registered(tx, cdt, owner, metadata.type, proof, 0, children)


class _Failures(logging.Handler):
    """Keeps what the daemon says of its own failures."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        told = record.getMessage()
        if record.levelno >= logging.ERROR or "gossip check failed" in told:
            self.found.append(told)


@dataclass
class LiveRooms:
    """bank-a's node; all methods are called from outside of its thread."""

    nodes: dict[str, Identity]
    handlers: dict[str, Handler] = field(default_factory=dict)
    gossip: list[Callable[[str, bytes], bool]] = field(default_factory=list)
    gossiped: list[Any] = field(default_factory=list)
    rooms: Any = None
    answers: Callable[[str], bytes] | None = None
    """protocol -> what every peer answers; without it nobody is connected."""
    token: trio.lowlevel.TrioToken | None = None
    failures: _Failures = field(default_factory=_Failures)
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def peers(self) -> dict[str, str]:
        """name -> peer id, a stranger among them."""
        known = {name: str(node.key.peer_id) for name, node in self.nodes.items()}
        return known | {"stranger": str(PeerKey(bytes([99]) * 32).peer_id)}

    def call(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """What `action` gives on the daemon's thread. OursError if it logged a failure there."""
        run = trio.from_thread.run_sync
        return self._checked(run, action, *arguments)

    def ask(self, action: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """`action`, which asks peers; it may end in a Fault or in a peer's error only."""
        self._checked(trio.from_thread.run, self._ask, action, *arguments)

    async def _ask(self, action: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        with trio.move_on_after(PATIENCE_S), suppress(Fault, RemoteProtocolError):
            await action(*arguments)

    def feed(self, protocol: str, peer: str, data: bytes) -> bytes:
        """What the daemon answers to these bytes of `peer` on a stream of `protocol`."""
        return bytes(self._checked(trio.from_thread.run, self._feed, protocol, peer, data))

    def hear(self, author: str, data: bytes) -> bool:
        """Whether the gossip was good enough to be relayed; if so it was taken in too."""
        return bool(self._checked(trio.from_thread.run, self._hear, author, data))

    async def _feed(self, protocol: str, peer: str, data: bytes) -> bytes:
        stream = Heard(data)
        with trio.move_on_after(PATIENCE_S):
            await self.handlers[protocol](self.peers[peer], stream)
        return bytes(stream.written)

    async def _hear(self, author: str, data: bytes) -> bool:
        accepted = all(check(self.peers[author], data) for check in self.gossip)
        if accepted:
            for channel in self.gossiped:
                await channel.send((self.peers[author], data))
            await trio.testing.wait_all_tasks_blocked(0.001)
        return accepted

    def _checked(self, run: Any, action: Callable[..., Any], *arguments: Any) -> Any:
        found = run(action, *arguments, trio_token=self.token)
        if self.failures.found:
            told, self.failures.found = self.failures.found, []
            raise OursError("\n".join(told))
        return found

    def rows(self) -> dict[str, int]:
        """table -> how many rows it has."""

        def count() -> dict[str, int]:
            db = self.rooms.house.engine.db
            return {
                name: db.execute(f"SELECT count(*) FROM [{name}]").fetchone()[0]  # noqa: S608
                for name in db.table_names()
            }

        counted: dict[str, int] = self.call(count)
        return counted


@contextmanager
def live_rooms(folder: Path) -> Iterator[LiveRooms]:
    """The node of bank-a in `folder`, which knows the others, their assets and one algorithm."""
    configured, nodes = _configured(folder)
    live = LiveRooms(nodes)
    before = structlog.get_config()
    log.configure("warning", console="none")
    logging.getLogger().addHandler(live.failures)
    started = threading.Event()
    thread = threading.Thread(target=trio.run, args=(_run, live, configured, started), daemon=True)
    try:
        with _recorded(live):
            thread.start()
            assert started.wait(STARTED_S), "the daemon did not start"
            live.call(_populate, live)
            yield live
    finally:
        if live.token is not None:
            live.token.run_sync_soon(live.ended.set)
        thread.join(STARTED_S)
        logging.getLogger().removeHandler(live.failures)
        structlog.configure(**before)
    assert not thread.is_alive()


def _configured(path: Path) -> tuple[FolderConfig, dict[str, Identity]]:
    folder = create_folder(path)
    write_private(folder.peer_key, bytes([1]) * 32)
    own = create_keystore(folder.keystore, PASSWORD, light=True)
    nodes = {}
    for number, name in enumerate(NAMES, start=1):
        address = Accounts.from_key(bytes([number]) * 32).address
        account = own if name == "bank-a" else Account(bytes.fromhex(address[2:]))
        nodes[name] = Identity(name, PeerKey(bytes([number]) * 32), account)
    known = [(each.name, each.key, each.account) for each in nodes.values()]
    config = from_table(table_of("bank-a", known), path, "bank-a")
    return FolderConfig(folder, config), nodes


async def _run(live: LiveRooms, configured: FolderConfig, started: threading.Event) -> None:
    async with trio.open_nursery() as nursery:
        live.token = trio.lowlevel.current_trio_token()
        nursery.start_soon(daemon._serve, configured, PASSWORD)
        while live.rooms is None or live.rooms.unlocked_tasks is None:  # noqa: ASYNC110
            await trio.sleep(0.01)
        started.set()
        await live.ended.wait()
        nursery.cancel_scope.cancel()


@contextmanager
def _recorded(live: LiveRooms) -> Iterator[None]:
    """Inside, what the rooms give to the guard is kept in `live` too."""
    handle, table = Guard.handle, daemon.table

    def keep_handler(guard: Guard, protocol: str, handler: Handler) -> None:
        live.handlers[protocol] = handler
        handle(guard, protocol, handler)

    async def keep_check(_guard: Guard, check: Callable[[str, bytes], bool]) -> Any:
        sender, receiver = trio.open_memory_channel[tuple[str, bytes]](0)
        live.gossip.append(check)
        live.gossiped.append(sender)
        async for author, data in receiver:
            yield author, data

    async def answer(_guard: Guard, _peer_id: str, protocol: str) -> Heard:
        if live.answers is None:
            raise StreamBroken("nobody is connected")
        return Heard(live.answers(protocol))

    def is_connected(_guard: Guard, _peer_id: str) -> bool:
        return live.answers is not None

    def keep_rooms(rooms: Any) -> Any:
        live.rooms = rooms
        return table(rooms)

    with (
        mock.patch.object(Guard, "handle", keep_handler),
        mock.patch.object(Guard, "gossip", keep_check),
        mock.patch.object(Guard, "open_stream", answer),
        mock.patch.object(Guard, "is_connected", is_connected),
        mock.patch.object(daemon, "table", keep_rooms),
    ):
        yield


def _populate(live: LiveRooms) -> None:
    spare = open_store(live.rooms.house.folder.path / "others.sqlite3", MIGRATIONS)
    for node in live.nodes.values():
        node.engine = Engine(spare, time.time)
    own = live.nodes["bank-a"]
    own.engine, own.alive = live.rooms.house.engine, True
    contracts.everybody_knows(live.nodes, contracts.algorithm(live.nodes))
