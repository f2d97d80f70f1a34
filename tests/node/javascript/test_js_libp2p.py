"""A node's protocols and js-libp2p, a peer that nobody of this project wrote."""

import base64

import pytest
import trio
from nacl.signing import SigningKey

from chain.schema import MIGRATIONS
from node import assets
from node.bindings import Bindings
from node.directory import Directory, Organisation
from node.document_exchange import DocumentExchange
from node.engine import Engine
from node.errors import Fault
from node.host import Host, open_host
from node.store import open_store
from protocol import codec, documents, envelope
from protocol.documents import Column, Metadata, Schema
from protocol.envelope import Signed
from protocol.ids import Account, PeerId
from protocol.messages import Announcement
from protocol.typed_data import registry_domain

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"
SEED = bytes([1]) * 32

pytestmark = pytest.mark.slow


def document(name: str, endpoint: str) -> bytes:
    """A document of several parts."""
    metadata = Metadata(
        type="data",
        name=name,
        description="",
        author="bank-a",
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint=endpoint,
        schema=Schema(columns=(Column(name="Age", kind="number", width=2),), rows_about=1000),
        extra={f"part-{number}": "x" * 1_000 for number in range(150)},
    )
    return documents.canonical(metadata)


def exchange_of(host: Host, folder) -> tuple[Engine, DocumentExchange]:
    engine = Engine(open_store(folder / "node.sqlite3", MIGRATIONS), trio.current_time)
    own = Organisation("own", Account(b"\x01" * 20), host.peer_id, "own")
    bindings = Bindings(engine.db, registry_domain(1, "0x" + "11" * 20), engine.clock)
    return engine, DocumentExchange(engine, host, Directory(own, (), bindings))


def announcement(host: Host, name: str) -> Announcement:
    return Announcement(
        cdt=b"\x07" * 32,
        owner=b"\x08" * 20,
        proof=b"\x09" * 32,
        kind="data",
        name=name,
        endpoint=host.peer_id,
        addresses=host.addresses,
        seq=1_800_000_000_000,
        not_after=1_800_000_000,
    )


async def test_js_libp2p_pings_asks_and_answers(open_peer) -> None:
    async def echo(_peer: PeerId, request: bytes) -> bytes:
        return b"python " + request

    async with open_peer("js_peer") as js, open_host(SEED, ANY, "test") as host:
        with trio.fail_after(60):
            address, _, peer = (await js.until("address"))["address"].partition("/p2p/")
            host.serve(ECHO, echo)
            host.know(PeerId(peer), [address])
            assert await host.request(PeerId(peer), ECHO, b"hello", timeout_s=10) == b"js hello"
            assert (await js.until("ping"))["ping"] < 5_000
            await js.tell(ask="from js", peer=host.peer_id)
            assert await js.until("asked") == {"asked": "python from js"}


async def test_announcements_of_each_are_understood_by_the_other(open_peer) -> None:
    heard: list[bytes] = []
    something = trio.Event()

    def check(_author: PeerId, _payload: bytes) -> bool:
        return True

    async def receive(_author: PeerId, payload: bytes) -> None:
        heard.append(payload)
        something.set()

    async with open_peer("js_peer") as js, open_host(SEED, ANY, "test") as host:
        with trio.fail_after(60):
            address, _, peer = (await js.until("address"))["address"].partition("/p2p/")
            host.on_gossip(check, receive)
            host.know(PeerId(peer), [address])

            ours = announcement(host, "from python")
            sealed = codec.encode(envelope.seal(ours, SigningKey(SEED)))
            while not any("heard" in said for said in js.said):
                await host.publish(sealed)
                with trio.move_on_after(0.5):
                    await js.until("heard")
            assert await js.until("heard") == {
                "heard": "from python",
                "cdt": ours.cdt.hex(),
                "valid": True,
                "same": True,
            }

            theirs = announcement(host, "from js")
            plain = {field: getattr(theirs, field) for field in theirs.__struct_fields__}
            plain |= {field: value.hex() for field, value in plain.items() if type(value) is bytes}
            await js.tell(announce=plain)
            await something.wait()
            signed = codec.decode(heard[0], Signed)
            assert envelope.open_signed(signed, Announcement) == theirs
            assert signed.key.hex() == (await js.until("key"))["key"]


async def test_a_document_is_fetched_each_way_and_a_cut_transfer_goes_on(
    open_peer, tmp_path
) -> None:
    async with open_peer("js_peer") as js, open_host(SEED, ANY, "test") as host:
        with trio.fail_after(60):
            engine, exchange = exchange_of(host, tmp_path)
            address, _, peer = (await js.until("address"))["address"].partition("/p2p/")
            host.know(PeerId(peer), [address])

            ours = document("ours", host.peer_id)
            with engine.transaction() as tx:
                assets.keep_document(tx, ours)
            await js.until("ping")
            await js.tell(fetch=documents.cid_of(documents.proof_of(ours)), peer=host.peer_id)
            assert await js.until("fetched") == {
                "fetched": documents.cid_of(documents.proof_of(ours)),
                "bytes": len(ours),
                "parts": 3,
            }

            theirs = document("theirs", peer)
            proof = documents.proof_of(theirs)
            body = base64.b64encode(theirs).decode()
            await js.tell(hold=body, until=65_536)
            assert (await js.until("holds"))["holds"] == documents.cid_of(proof)
            with pytest.raises(Fault, match="no connected peer has"):
                await exchange.obtain(proof, [peer])
            await js.tell(hold=body, until=len(theirs))
            await js.until("until", len(theirs))
            await exchange.obtain(proof, [peer])
            assert assets.body_of(engine.db, proof) == theirs
