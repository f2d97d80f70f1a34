"""Helia, an IPFS node that nobody of this project wrote, gets documents of a node by their CID."""

import pytest
import trio

from chain.schema import MIGRATIONS
from node import assets
from node.bitswap import Bitswap
from node.document_quota import ServingQuota
from node.engine import Engine
from node.host import open_host
from node.store import open_store
from protocol import documents
from protocol.documents import Column, Metadata, Schema

ANY = "/ip4/127.0.0.1/tcp/0"

pytestmark = pytest.mark.slow


class Nobody:
    """A directory in which nobody stands."""

    everybody = ()


def document(name: str, size: int) -> bytes:
    metadata = Metadata(
        type="data",
        name=name,
        description="",
        author="bank-a",
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint="12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
        schema=Schema(columns=(Column(name="Age", kind="number", width=2),), rows_about=1000),
        extra={f"part-{number}": "x" * 1_000 for number in range(size // 1_000)},
    )
    return documents.canonical(metadata)


async def test_helia_gets_documents_by_their_cid_and_not_what_is_not_here(
    open_peer, tmp_path
) -> None:
    engine = Engine(open_store(tmp_path / "node.sqlite3", MIGRATIONS), trio.current_time)
    bodies = [document("small", 0), document("large", 250_000)]
    with engine.transaction() as tx:
        proofs = [assets.keep_document(tx, body) for body in bodies]
    cids = [documents.cid_of(proof) for proof in (*proofs, bytes(32))]
    async with open_host(bytes([1]) * 32, ANY, "test") as host:
        Bitswap(engine, host, ServingQuota(Nobody(), trio.current_time))
        async with open_peer("helia_peer", host.addresses[0], *cids) as helia:
            with trio.fail_after(60):
                for body, proof, cid in zip(bodies, proofs, cids, strict=False):
                    assert await helia.until("cid", cid) == {
                        "cid": cid,
                        "bytes": len(body),
                        "sha256": proof.hex(),
                    }
                assert "missing" in await helia.until("cid", cids[-1])
        (status,) = host.peers()
        assert (status.penalty, status.banned) == (0, None)
