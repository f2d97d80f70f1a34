"""One node's documents: a real database and engine, and peers that do as a test says."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from sqlite_utils import Database

from chain.schema import MIGRATIONS
from node import assets
from node.bindings import Bindings
from node.directory import Directory, Organisation
from node.document_exchange import DocumentExchange
from node.engine import Engine
from node.errors import Fault
from node.host import PeerStatus, PeerTimeout
from node.keys import PeerKey
from node.store import open_store
from protocol import codec, documents
from protocol.documents import Column, Metadata, Schema
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, PeerId
from protocol.messages import DocumentAnswer, DocumentRequest
from protocol.typed_data import registry_domain

Holder = Callable[[DocumentRequest], Awaitable[DocumentAnswer | bytes]]
OWN = PeerId(PeerKey(b"\x01" * 32).peer_id)


def document(name: str, size: int = 0) -> bytes:
    """A document that follows the rules, of about `size` bytes."""
    extra = {f"part-{number}": "x" * 1_000 for number in range(size // 1_012)}
    metadata = Metadata(
        type="data",
        name=name,
        description="",
        author="bank-a",
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint=OWN,
        schema=Schema(columns=(Column(name="Age", kind="number", width=2),), rows_about=1000),
        extra=extra,
    )
    return documents.canonical(metadata)


def clock() -> float:
    """Unix time that moves with trio's clock, so that autojump moves deadlines too."""
    try:
        return 1_800_000_000.0 + trio.current_time()
    except RuntimeError:  # while the scene is made, before trio runs
        return 1_800_000_000.0


@dataclass
class ScriptedHost:
    """A host whose peers are the holders of a test; what is told of them is kept."""

    holders: dict[str, Holder] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    served: dict[str, Callable[[PeerId, bytes], Awaitable[bytes]]] = field(default_factory=dict)
    welcomes: list[Callable[[PeerId], Awaitable[None]]] = field(default_factory=list)
    streams: dict[str, Callable[..., Awaitable[None]]] = field(default_factory=dict)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    gone: bool = False

    def serve(self, protocol, handler, **_options) -> None:
        self.served[protocol] = handler

    def serve_stream(self, protocol, handler) -> None:
        self.streams[protocol] = handler

    async def send(self, peer_id, _protocol, data, *, timeout_s) -> None:
        await trio.lowlevel.checkpoint()
        if self.gone:
            raise Fault("peer-unreachable", "it left")
        self.sent.append((peer_id, data))

    def on_connected(self, action) -> None:
        self.welcomes.append(action)

    def report(self, peer_id: PeerId, _reason: str) -> None:
        self.reported.append(peer_id)

    def peers(self) -> list[PeerStatus]:
        return [
            PeerStatus(PeerId(each), "", True, None, 0, True, None, 0.0, None)
            for each in self.holders
        ]

    async def request(self, peer_id, _protocol, payload, *, timeout_s) -> bytes:
        request = codec.decode(payload, DocumentRequest)
        self.asked.append((peer_id, request.offset))
        if peer_id not in self.holders:
            raise Fault("peer-unreachable", "nobody is there")
        with trio.move_on_after(timeout_s):
            answer = await self.holders[peer_id](request)
            if isinstance(answer, bytes):
                return answer
            return codec.encode(answer)
        raise PeerTimeout(peer_id, "", timeout_s)


@dataclass
class Scene:
    """The rooms that deal with documents, of one node that knows the organisation `bank-a`."""

    engine: Engine
    host: ScriptedHost
    directory: Directory
    exchange: DocumentExchange

    @property
    def db(self) -> Database:
        return self.engine.db

    def has(self, body: bytes) -> bool:
        return assets.has_document(self.db, documents.proof_of(body))

    def announced(self, cdt: bytes, proof: bytes, endpoint: str = "") -> None:
        with self.engine.transaction() as tx:
            assets.heard_of(tx, cdt, bytes(20), "data", proof, "facts", endpoint)

    def registered(self, cdt: bytes, proof: bytes) -> None:
        with self.engine.transaction() as tx:
            assets.registered(tx, cdt, bytes(20), "data", proof, 0)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    engine = Engine(open_store(tmp_path / "node.sqlite3", MIGRATIONS), clock)
    own = Organisation("own", Account(b"\x01" * 20), OWN, "own")
    bank = Organisation("bank-a", Account(b"\x02" * 20), PeerId("bank"), "configuration")
    bindings = Bindings(engine.db, registry_domain(1, "0x" + "11" * 20), clock)
    directory = Directory(own, (bank,), bindings)
    host = ScriptedHost()
    return Scene(engine, host, directory, DocumentExchange(engine, host, directory))


def part(body: bytes, offset: int, size: int = 65_536) -> DocumentAnswer:
    """An honest holder's answer."""
    return DocumentAnswer(total=len(body), part=body[offset : offset + size], wait_s=0)


@pytest.fixture
def gives() -> Callable[..., Holder]:
    """gives(body, until=n): a holder that has the document and breaks off at byte n."""

    def make(body: bytes, until: int = 1 << 30, pause_s: float = 0.0) -> Holder:
        async def holder(request: DocumentRequest) -> DocumentAnswer:
            await trio.sleep(pause_s)
            if request.offset >= until:
                raise Fault("peer-unreachable", "it left")
            return part(body, request.offset)

        return holder

    return make


@pytest.fixture
def make_document() -> Callable[..., bytes]:
    return document


@pytest.fixture
def refuses() -> Holder:
    """A holder that breaks the framing, as the host tells it."""

    async def holder(_request: DocumentRequest) -> DocumentAnswer:
        raise RemoteProtocolError("garbage")

    return holder
