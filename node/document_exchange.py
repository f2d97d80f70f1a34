"""Documents by content address: obtained from peers, in parts and resumed, and served to them.

Adversary: any holder, any asker. A holder can withhold a document, never pass off another one; a
transfer that stops in the middle goes on with the next holder, and whoever gave wrong bytes loses
standing. An asker gets what its quota allows. Leaks: every peer that is asked learns which
document is wanted here, and anyone may fetch any document of which it knows the address.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio

from node import assets, document_stock
from node.directory import Directory
from node.document_holders import Holders
from node.document_quota import ServingQuota
from node.document_transfer import Transfer
from node.engine import Again, Engine, Owed, Transaction
from node.errors import Fault
from node.host import Host
from node.log import get_logger
from protocol import codec, documents
from protocol.errors import RemoteProtocolError
from protocol.ids import Digest, PeerId
from protocol.messages import DOCUMENT_PROTOCOL, MAX_PART_BYTES, DocumentAnswer, DocumentRequest

log = get_logger("documents")

FETCH = "fetch-document"

LANES = 8
RETRY_FIRST_S = 0.5
RETRY_MOST_S = 600.0
HURRY_S = 5.0
TRANSFERS_MOST = 32
BROKEN_MOST = 1_000


class _Joined:
    """A transfer and everybody who waits for it; `asked` are the holders that were no help."""

    def __init__(self, proof: Digest) -> None:
        self.transfer = Transfer(proof)
        self.lock = trio.Lock()
        self.waiting = 0
        self.asked: set[str] = set()


class DocumentExchange:
    """Fetches the documents that this node misses, and serves those that it has."""

    def __init__(self, engine: Engine, host: Host, directory: Directory) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        self.quota = ServingQuota(directory, trio.current_time)
        self._joined: OrderedDict[bytes, _Joined] = OrderedDict()
        self._broken: OrderedDict[bytes, str] = OrderedDict()
        self._holders = Holders(host, directory)
        engine.perform(FETCH, self._fetch_lane)
        host.serve(DOCUMENT_PROTOCOL, self._serve, limit=256)
        host.on_connected(self._hurry)

    # ------------------------------------------------------------------ fetching

    def want(self, tx: Transaction, cdt: bytes, proof: bytes) -> None:
        """Owe the fetching of the asset's document, unless it is here, owed already, or broken."""
        if proof in self._broken:
            document_stock.refuse(tx, proof, self._broken[proof])
        elif not assets.has_document(tx.db, proof):
            self._owe(tx, cdt)

    def _owe(self, tx: Transaction, cdt: bytes) -> None:
        lane = cdt[-1] % LANES
        row = [cdt, lane, tx.now]
        if tx.db.execute(
            "INSERT OR IGNORE INTO wanted_documents VALUES (?, ?, 0, ?)", row
        ).rowcount:
            tx.owe(FETCH, bytes([lane]))

    async def obtain(self, proof: bytes, holders: Iterable[str]) -> None:
        """Afterwards the document with this proof is stored.

        The `holders` (peer ids) are asked first, then connected peers, organisations before
        strangers; not those that let this node wait a moment ago. Fault `document-unavailable` if
        nobody gives it, `document-invalid` if it breaks a rule of documents.
        """
        if assets.has_document(self._engine.db, proof):
            return
        if proof in self._broken:
            raise _invalid(proof, self._broken[proof])
        async with self._join(Digest(proof)) as joined:
            for peer_id in self._holders.candidates(holders):
                if assets.has_document(self._engine.db, proof):
                    return
                if peer_id not in joined.asked:
                    await self._draw(joined.transfer, PeerId(peer_id))
                    joined.asked.add(peer_id)
        if not assets.has_document(self._engine.db, proof):
            cid = documents.cid_of(proof)
            raise Fault("document-unavailable", f"no connected peer has the document {cid}")

    @asynccontextmanager
    async def _join(self, proof: Digest) -> AsyncIterator[_Joined]:
        """The one transfer of this document, in turn; what came of it outlives a failure."""
        joined = self._joined.setdefault(proof, _Joined(proof))
        self._joined.move_to_end(proof)
        joined.waiting += 1
        try:
            async with joined.lock:
                yield joined
        finally:
            joined.waiting -= 1
            self._forget(joined)

    def _forget(self, joined: _Joined) -> None:
        """Of the transfers that nobody waits for, the youngest that can be resumed are kept."""
        if not joined.waiting:
            joined.asked.clear()
            if not joined.transfer.offset:
                del self._joined[joined.transfer.proof]
        idle = [proof for proof, each in self._joined.items() if not each.waiting]
        for proof in idle[: max(0, len(self._joined) - TRANSFERS_MOST)]:
            del self._joined[proof]

    async def _draw(self, transfer: Transfer, peer_id: PeerId) -> None:
        """Afterwards the document is stored, or what this peer gives of it is in `transfer`.

        Fault `document-invalid` if the right document breaks a rule.
        """
        try:
            body = None
            while body is None:
                answer = await self._holders.ask(peer_id, transfer)
                if answer is None:
                    return
                body = transfer.take(peer_id, answer)
        except RemoteProtocolError as error:
            self._host.report(peer_id, f"{DOCUMENT_PROTOCOL}: {error}")
            return
        for liar in transfer.liars(body):
            self._host.report(PeerId(liar), f"{DOCUMENT_PROTOCOL}: a part of a wrong document")
        self._keep(transfer.proof, body)

    def _keep(self, proof: Digest, body: bytes) -> None:
        try:
            with self._engine.transaction() as tx:
                document_stock.keep(tx, body)
                for cdt in assets.unjudged(tx.db, proof):
                    tx.db.execute("DELETE FROM wanted_documents WHERE cdt = ?", [cdt])
                    self._owe(tx, cdt)  # due now, however long its document was not to be had
        except RemoteProtocolError as error:
            self._broken[proof] = str(error)
            if len(self._broken) > BROKEN_MOST:
                self._broken.popitem(last=False)
            with self._engine.transaction() as tx:
                document_stock.refuse(tx, proof, str(error))
            raise _invalid(proof, str(error)) from error

    async def _fetch_lane(self, owed: Owed) -> Again | None:
        """What is wanted in this lane and due, one after another; then until the next is due.

        An effect for each document was rejected: a node that joins wants very many at once, and
        the engine looks at all that is due each time that one of them is done.
        """
        lane = owed.key[0]
        while (row := self._due(lane)) is not None:
            cdt, attempts = row
            settled = await self._fetch(cdt)
            with self._engine.transaction() as tx:
                if settled:
                    tx.db.execute("DELETE FROM wanted_documents WHERE cdt = ?", [cdt])
                else:
                    wait_s = min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** min(attempts, 16))
                    tx.db.execute(
                        "UPDATE wanted_documents SET attempts = ?, due_at = ? WHERE cdt = ?",
                        [attempts + 1, tx.now + wait_s, cdt],
                    )
            await trio.lowlevel.checkpoint()
        (due_at,) = self._engine.db.execute(
            "SELECT min(due_at) FROM wanted_documents WHERE lane = ?", [lane]
        ).fetchone()
        return None if due_at is None else Again(max(0.0, due_at - self._engine.clock()))

    def _due(self, lane: int) -> tuple[bytes, int] | None:
        """(cdt, attempts) of the asset in this lane that is due for longest."""
        row: tuple[bytes, int] | None = self._engine.db.execute(
            "SELECT cdt, attempts FROM wanted_documents WHERE lane = ? AND due_at <= ? "
            "ORDER BY due_at LIMIT 1",
            [lane, self._engine.clock()],
        ).fetchone()
        return row

    async def _fetch(self, cdt: bytes) -> bool:
        """True if nothing is left to try: the document is here or broken, or there is no need."""
        asset = assets.find(self._engine.db, cdt)
        if asset is None:
            return True
        if assets.has_document(self._engine.db, asset.proof):
            if asset.state == "registered":  # one of very many that share the document
                with self._engine.transaction() as tx:
                    assets.judge(tx, cdt)
            return True
        if asset.state == "announced" and not document_stock.has_room(self._engine.db):
            return True
        try:
            await self.obtain(asset.proof, [asset.endpoint])
        except Fault as fault:
            log.debug("document not fetched", cdt=cdt.hex(), why=fault.sentence)
            return fault.kind == "document-invalid"
        return True

    async def _hurry(self, peer_id: PeerId) -> None:
        """An organisation is here: what it is to have, and what was put off, is due at once."""
        if self._directory.of_peer(peer_id) is None:
            return
        with self._engine.transaction() as tx:
            hurried = tx.db.execute(
                "UPDATE wanted_documents AS w SET attempts = 0, due_at = ? WHERE due_at > ? "
                "AND EXISTS (SELECT 1 FROM assets a WHERE a.cdt = w.cdt AND a.endpoint = ?)",
                [tx.now, tx.now + HURRY_S, peer_id],
            ).rowcount
            for lane in range(LANES if hurried else 0):
                tx.owe(FETCH, bytes([lane]))

    # ------------------------------------------------------------------ serving

    async def _serve(self, peer_id: PeerId, data: bytes) -> bytes:
        request = codec.decode(data, DocumentRequest)
        proof = documents.proof_in(request.cid)
        total, part, wait_s = 0, b"", self.quota.asked(peer_id)
        if not wait_s:
            total, part = document_stock.part(
                self._engine.db, proof, request.offset, MAX_PART_BYTES
            )
            wait_s = self.quota.served(peer_id, len(part))
        if wait_s:
            return codec.encode(DocumentAnswer(total=0, part=b"", wait_s=int(wait_s) + 1))
        return codec.encode(DocumentAnswer(total=total, part=part, wait_s=0))


def _invalid(proof: bytes, why: str) -> Fault:
    return Fault("document-invalid", f"the document {documents.cid_of(proof)} breaks a rule: {why}")
