"""Publishing: from rows or a plan to a document, a registered CDT and an announcement.

Everything that can be wrong is found before anything is written: the rows are checked in a worker
process, the document against its own rules, the transaction by simulating it, the account's coins.
Document, asset and intent are then stored in one transaction; if the contract refuses all the same,
they are taken out again in one, at the next start if this one does not live to see it.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from chain import contracts, identities
from chain.values import KINDS
from mpc.supervisor import open_worker
from node import assets, terms_review
from node.announcing import Announcing
from node.assets import Asset
from node.chain_link import ChainLink
from node.dataset_spec import DATASET_REPORTS, CheckDataset, DatasetProfile, DatasetRefused
from node.engine import Transaction
from node.errors import Fault
from node.house import House
from node.log import get_logger
from node.session_jobs import spec_of
from protocol import documents, terms_table
from protocol.documents import Algorithm, Column, Metadata, Schema, Service
from protocol.errors import LocalProtocolError
from protocol.ids import Account, CdtId, from_hexadecimal, hexadecimal
from protocol.terms import EXPIRY

log = get_logger("publishing")

LICENSE = "proprietary; used under the terms of this document only"
PROFILE_LIMIT = 1 << 20

Draft = Callable[[int], Metadata]
"""The document as it would be if it were made at that Unix time."""


@dataclass(frozen=True, slots=True)
class Published:
    """A CDT of this node's own that the chain has confirmed."""

    cdt: CdtId
    proof: bytes
    cid: str
    block: int
    gas_used: int


class Publishing:
    """Publishes this node's datasets, its compute asset and its algorithms."""

    def __init__(self, house: House, announcing: Announcing, link: ChainLink) -> None:
        self._engine = house.engine
        self._config = house.config
        self._chain = house.chain
        self._folder = house.folder
        self._directory = house.directory
        self._judging = house.judging
        self._announcing = announcing
        self._link = link

    async def check_dataset(self, name: str) -> DatasetProfile:
        """The profile of the rows; Fault as the worker process tells it. Nothing is written."""
        request = CheckDataset(dataset=spec_of(self._config.dataset(name)))
        async with open_worker(
            "node.workers.dataset",
            reports=DATASET_REPORTS,
            limit=PROFILE_LIMIT,
            stderr_path=self._folder.path / "dataset.log",
        ) as worker:
            await worker.send(request)
            report = await worker.report()
        if isinstance(report, DatasetRefused):
            raise Fault(report.kind, report.sentence, **json.loads(report.data))
        if not isinstance(report, DatasetProfile):
            raise Fault("worker-failed", f"the check of {name!r} ended without an answer")
        return report

    async def publish_dataset(self, name: str) -> Published:
        """Afterwards the dataset is a confirmed CDT. The same dataset and terms again: the same."""
        self._link.require()
        dataset = self._config.dataset(name)
        if not dataset.features:
            raise Fault("dataset-label-invalid", f"dataset {name!r} has no features to publish")
        profile = await self.check_dataset(name)
        schema = Schema(
            columns=tuple(
                Column(name=each.name, kind=each.kind, width=each.width) for each in profile.columns
            ),
            rows_about=documents.rounded_rows(profile.rows),
        )

        def draft(at: int) -> Metadata:
            service = self._service(self._judging.dataset_terms(name), at, data=True)
            return self._metadata(
                "data", name, dataset.description, at, services=(service,), schema=schema
            )

        return await self._publish(draft, name)

    async def publish_compute(self) -> Published:
        """Afterwards this node's compute asset is a confirmed CDT. The same terms: the same."""
        self._link.require()
        compute = self._config.compute
        if compute is None:
            raise Fault("terms-invalid", "northbund.toml has no [compute] to publish")

        def draft(at: int) -> Metadata:
            service = self._service(self._judging.compute_terms(), at, data=False)
            return self._metadata(
                "compute", compute.name, compute.description, at, services=(service,)
            )

        return await self._publish(draft, compute.name)

    async def publish_algorithm(
        self,
        name: str,
        description: str,
        algorithm: Algorithm,
        children: tuple[str, ...],
        terms: Mapping[str, Any] | None = None,
    ) -> Published:
        """Afterwards the algorithm is a confirmed CDT over these children. The same: the same.

        `terms` is the table of the composer's own, on top of the children's. Fault
        `composition-invalid` names the child that allows less than they promise.
        """
        self._link.require()
        below = tuple(sorted(children))

        def draft(at: int) -> Metadata:
            own = () if terms is None else (self._composers(terms, at),)
            parts = {"children": below, "algorithm": algorithm, "services": own}
            return self._metadata("algorithm", name, description, at, **parts)

        return await self._publish(draft, name)

    def offer(self, cdt: bytes, *, withdrawn: bool) -> Asset:
        """Afterwards this node's own asset is withdrawn, or offered again; everybody is told.

        What was granted of it stays. Fault `cdt-unknown` unless it is confirmed and this node's.
        """
        asset, _ = assets.confirmed(self._engine.db, cdt)
        if asset.owner != self._directory.own.account:
            owner = self._directory.name(asset.owner)
            raise Fault("cdt-unknown", f"{hexadecimal(cdt)} is not this node's: {owner} owns it")
        with self._engine.transaction() as tx:
            assets.offered(tx, cdt, withdrawn=withdrawn)
            tx.note("offer", cdt, "withdrawn" if withdrawn else "offered")
            tell = self._announcing.withdraw if withdrawn else self._announcing.offer
            tell(tx, cdt)
        return dataclasses.replace(asset, withdrawn=int(withdrawn))

    async def resume(self) -> None:
        """Afterwards what a former run of this node was publishing is confirmed or taken back."""
        await self._link.usable()
        rows = self._engine.db.execute(
            "SELECT cdt, proof, transaction_key FROM own_assets WHERE cdt NOT IN "
            "(SELECT cdt FROM assets WHERE state != 'announced')"
        )
        for cdt, proof, key in rows.fetchall():
            try:
                await self._concluded(cdt, proof, key)
            except Fault as fault:
                log.warning("not published", cdt=cdt.hex(), why=fault.sentence)

    # ------------------------------------------------------------------ one way for all

    def _metadata(
        self,
        kind: Literal["data", "compute", "algorithm"],
        name: str,
        description: str,
        at: int,
        **parts: Any,
    ) -> Metadata:
        return Metadata(
            type=kind,
            name=name,
            description=description,
            author=self._config.name,
            license=LICENSE,
            created=datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            endpoint=self._directory.own.peer_id,
            **parts,
        )

    def _service(self, table: Mapping[str, Any], at: int, *, data: bool) -> Service:
        read, terms = self._judging.terms_from(table, at, data=data)
        return Service(terms=terms, price=terms_table.price_of(read))

    def _composers(self, table: Mapping[str, Any], at: int) -> Service:
        read, terms = self._judging.terms_from(table, at, data=True, source="the composition")
        return Service(terms=terms, price=terms_table.price_of(read))

    async def _publish(self, draft: Draft, name: str) -> Published:
        now = int(self._engine.clock())
        kind = draft(now).type
        at = self._published_before(draft, kind, name) or now
        metadata = draft(at)
        terms_review.check_promise(self._engine.db, metadata)
        body = _canonical(metadata)
        proof = documents.proof_of(body)
        children = tuple(from_hexadecimal(child, 32) for child in metadata.children)
        cdt = identities.cdt_id(
            self._chain.chain_id,
            self._chain.registry,
            self._directory.own.account,
            KINDS[kind],
            proof,
            children,
        )
        key = f"publish:{hexadecimal(cdt)}"
        transaction = self._transaction(kind, proof, children)
        if not self._link.is_wanted(key):
            await self._link.foresee(*transaction[1:])
        with self._engine.transaction() as tx:
            assets.keep_document(tx, body)
            tx.db.execute(
                "INSERT OR IGNORE INTO own_assets VALUES (?, ?, ?, ?, ?, ?)",
                [cdt, kind, name, proof, key, at],
            )
            self._link.enqueue(key, *transaction)
        done = await self._concluded(cdt, proof, key)
        before = assets.find(self._engine.db, cdt)
        if before is not None and before.withdrawn:
            self.offer(cdt, withdrawn=False)  # to publish again is to offer again
        return done

    def _published_before(self, draft: Draft, kind: str, name: str) -> int | None:
        """When this very document was published, unless that is so long ago that it has expired."""
        rows = self._engine.db.execute(
            "SELECT proof, published_at FROM own_assets WHERE kind = ? AND dataset = ? "
            "ORDER BY published_at DESC",
            [kind, name],
        )
        for proof, published_at in rows.fetchall():
            at = int(published_at)
            if documents.proof_of(_canonical(draft(at))) == proof and not self._expired(draft(at)):
                return at
        return None

    def _expired(self, metadata: Metadata) -> bool:
        return any(
            constraint.leftOperand == EXPIRY
            and float(str(constraint.rightOperand)) <= self._engine.clock()
            for service in metadata.services
            for constraint in service.terms.permission
        )

    async def _concluded(self, cdt: bytes, proof: bytes, key: str) -> Published:
        def take_back(tx: Transaction) -> None:
            tx.db.execute("DELETE FROM own_assets WHERE cdt = ?", [cdt])
            tx.db.execute(
                "DELETE FROM documents WHERE proof = ? AND proof NOT IN (SELECT proof FROM assets)",
                [proof],
            )

        done = await self._link.confirmed(key, undo=take_back)
        cid = documents.cid_of(proof)
        return Published(CdtId(cdt), proof, cid, done.block, done.gas_used)

    def _transaction(
        self, kind: str, proof: bytes, children: tuple[bytes, ...]
    ) -> tuple[str, Account, bytes]:
        path = documents.storage_path(proof)
        registry = self._chain.registry
        if children:
            data = contracts.compose(KINDS[kind], proof, path, children)
            return "compose", registry, data
        return "register", registry, contracts.register(KINDS[kind], proof, path)


def _canonical(metadata: Metadata) -> bytes:
    try:
        return documents.canonical(metadata)
    except LocalProtocolError as error:
        raise Fault("document-invalid", str(error)) from error
