"""Documents by content address: obtained from peers, served to peers."""

from collections.abc import Iterable

from node import assets
from node.directory import Directory
from node.engine import Again, Engine, Owed, Transaction
from node.errors import Fault
from node.host import Host
from node.log import get_logger
from protocol import codec, documents
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.messages import DOCUMENT_PROTOCOL, DocumentAnswer, DocumentRequest

log = get_logger("documents")

FETCH = "fetch-document"

FETCH_LIFE_S = 24 * 3600
FETCH_TIMEOUT_S = 10.0


class DocumentExchange:
    """Fetches the documents that this node misses, and serves those that it has."""

    def __init__(self, engine: Engine, host: Host, directory: Directory) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        engine.perform(FETCH, self._fetch)
        host.serve(DOCUMENT_PROTOCOL, self._serve_document, limit=256)

    def want(self, tx: Transaction, cdt: bytes, proof: bytes) -> None:
        """Owe the fetching of the asset's document unless it is here already."""
        if not assets.has_document(tx.db, proof):
            tx.owe(FETCH, cdt, not_after=tx.now + FETCH_LIFE_S)

    async def _fetch(self, owed: Owed) -> Again | None:
        asset = assets.find(self._engine.db, owed.key)
        if asset is not None and not assets.has_document(self._engine.db, asset.proof):
            await self.obtain(asset.proof, [asset.endpoint])
        return None

    async def obtain(self, proof: bytes, holders: Iterable[str]) -> None:
        """Afterwards the document with this proof is stored.

        The `holders` (peer ids) are asked first, then every connected peer. Fault
        `document-unavailable` if nobody gives it. A wrong document is dropped, its sender scored.
        """
        asked = dict.fromkeys([*filter(None, holders), *self._connected()])
        for peer_id in asked:
            if assets.has_document(self._engine.db, proof):
                return
            if peer_id != self._directory.own.peer_id:
                await self._ask(peer_id, proof)
        if not assets.has_document(self._engine.db, proof):
            cid = documents.cid_of(proof)
            raise Fault("document-unavailable", f"no connected peer has the document {cid}")

    def _connected(self) -> list[PeerId]:
        return [peer.peer_id for peer in self._host.peers() if peer.connected]

    async def _ask(self, peer_id: str, proof: bytes) -> None:
        request = DocumentRequest(cid=documents.cid_of(proof))
        try:
            data = await self._host.request(
                PeerId(peer_id), DOCUMENT_PROTOCOL, codec.encode(request), timeout_s=FETCH_TIMEOUT_S
            )
            answer = codec.decode(data, DocumentAnswer, limit=documents.MAX_DOCUMENT_BYTES + 64)
            if not answer.body:
                return
            if documents.proof_of(answer.body) != proof:
                raise RemoteProtocolError("the document does not hash to its content address")
            with self._engine.transaction() as tx:
                assets.keep_document(tx, answer.body)
        except (RemoteProtocolError, Fault) as error:
            log.info("document not fetched", peer=peer_id, why=str(error))

    async def _serve_document(self, _peer_id: str, data: bytes) -> bytes:
        request = codec.decode(data, DocumentRequest)
        proof = documents.proof_in(request.cid)
        held = assets.has_document(self._engine.db, proof)
        body = assets.body_of(self._engine.db, proof) if held else b""
        return codec.encode(DocumentAnswer(body=body))
