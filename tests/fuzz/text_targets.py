"""Documents of assets and organisations, content addresses, peer ids and addresses."""

from node.addresses import dialable, endpoint
from node.errors import Fault
from protocol import documents, organisation, peers
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import PEER_ID


def _document(kind: documents.AssetType, **parts: object) -> bytes:
    return documents.canonical(
        documents.Metadata(
            type=kind,
            name="facts",
            description="",
            author="bank-a",
            license="closed",
            created="2026-01-01T00:00:00Z",
            endpoint=PEER_ID,
            **parts,  # type: ignore[arg-type]
        )
    )


def _documents() -> tuple[bytes, ...]:
    schema = documents.Schema(
        columns=(documents.Column(name="Age", kind="number", width=1),), rows_about=1000
    )
    cdts = tuple("0x" + f"{number:064x}" for number in range(1, 5))
    steps = tuple(
        documents.Step(cdt=cdt, operation="committee-member", code="0x" + "00" * 32) for cdt in cdts
    )
    algorithm = documents.Algorithm(
        workflow=steps,
        pool=cdts[1:],
        seats=3,
        threshold=1,
        cohort_floor=100,
        recipient="0x" + "11" * 20,
        purpose="risk",
        labels="hidden",
        top_model="0x" + "00" * 32,
    )
    return (
        _document("data", schema=schema, extra={"note": "é\U0001f40d"}),
        _document("algorithm", children=cdts, algorithm=algorithm),
        _document("compute"),
    )


def _organisation() -> bytes:
    return organisation.canonical(
        organisation.Organisation(
            type="organisation",
            account="0x" + "11" * 20,
            name="bank-a",
            description="é",
            peer_id=PEER_ID,
            addresses=("/ip4/192.0.2.1/tcp/4001", "/dns4/a.test/tcp/65535"),
        )
    )


def texts() -> list[Target]:
    """Documents, content addresses, peer ids and addresses."""

    def document(body: bytes) -> None:
        metadata = documents.parse(body)
        if documents.canonical(metadata) != body:
            raise AssertionError("two encodings of one document")

    def record(body: bytes) -> None:
        found = organisation.parse(body)
        if organisation.canonical(found) != body or not organisation.is_one(body):
            raise AssertionError("two encodings of one organisation's document")

    def content_address(data: bytes) -> None:
        documents.proof_at(data.decode("utf-8", "replace"))

    def peer(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        if peers.is_peer_id(text) and peers.peer_id_of(peers.peer_key(text)) != text:
            raise AssertionError("two spellings of one peer id")
        peers.peer_key(text)

    def address(data: bytes) -> None:
        endpoint(dialable(data.decode("utf-8", "replace"), PEER_ID))

    path = documents.storage_path(bytes(range(32))).encode()
    return [
        Target("document", document, _documents()),
        Target("organisation", record, (_organisation(),)),
        Target("content-address", content_address, (path,)),
        Target("peer-id", peer, (PEER_ID.encode(),)),
        Target(
            "address",
            address,
            (b"/ip4/127.0.0.1/tcp/1", f"/dns4/a.test/tcp/65535/p2p/{PEER_ID}".encode()),
            (Fault,),
        ),
    ]
