"""Judging: what this node's terms and the floors of privacy say of a request for its assets.

What decides is this node's own configuration of today, its own view of the chain and its own
installed code; never what the publisher of the algorithm says of itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mpc import operations
from node import assets, grant_records
from node.assets import Asset
from node.config import Config
from node.directory import Directory
from node.engine import Engine
from node.errors import Fault
from protocol import privacy, terms_table
from protocol.contract_request import facts_of, step_for
from protocol.documents import Algorithm, Metadata, Step
from protocol.errors import RemoteProtocolError
from protocol.ids import from_hexadecimal, hexadecimal
from protocol.messages import ContractRequest
from protocol.terms import USES, Finding, Terms, evaluate
from protocol.terms_table import TermsTable

DAY_S = 86_400
CODE = "cdt:code"
POOL = "cdt:pool"
REVOKED = "cdt:revoked"

Verdict = Literal["permit", "refuse"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A finding for each constraint and each floor, and what follows from them."""

    findings: tuple[Finding, ...]
    verdict: Verdict

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed, in the order of the terms."""
        return tuple(finding for finding in self.findings if not finding.passed)


class Judging:
    """Judges requests for this node's own assets."""

    def __init__(self, engine: Engine, directory: Directory, config: Config) -> None:
        self._engine = engine
        self._directory = directory
        self._config = config

    def judge(self, request: ContractRequest) -> Judgement:
        """What this node's terms of today say of a new request.

        Fault if the child is not this node's own, or the parent is not confirmed here yet.
        RemoteProtocolError if the parent says nothing of the child or belongs to somebody else.
        """
        return _judged((*self._examined(request), *self._examined_again(request)))

    def judge_given(self, request: ContractRequest) -> Judgement:
        """What they say of a request that was granted: what it has used is not asked again.

        Raises as `judge`.
        """
        return _judged(self._examined(request))

    def _examined(self, request: ContractRequest) -> tuple[Finding, ...]:
        """A finding for each constraint of the terms and for each floor."""
        child, _ = assets.confirmed(self._engine.db, request.child)
        if child.owner != self._directory.own.account:
            raise RemoteProtocolError("the asset that is asked for belongs to somebody else")
        parent, metadata = assets.confirmed(self._engine.db, request.parent)
        if parent.owner != request.consumer or parent.proof != request.parent_proof:
            raise RemoteProtocolError("the parent is not the consumer's, or another document")
        algorithm, step = step_for(metadata, request.child)
        table, terms = self.terms_of(child)
        facts = facts_of(request, algorithm, step, self._contributors(metadata))
        findings = [*evaluate(terms, facts).findings, _code_finding(step)]
        if child.kind == "data":
            findings += self._floors(child, table, metadata, step)
        return tuple(findings)

    def _examined_again(self, request: ContractRequest) -> tuple[Finding, ...]:
        """What earlier grants of the same edge say of a new one, at negotiation alone.

        An owner's revocation stands: the consumer cannot ask it away. And uses add up, so that
        asking again gives no more of them than the terms allow.
        """
        edge = (request.child, request.parent)
        kept = grant_records.latest(self._engine.db, *edge)
        if kept is None:
            return ()
        asset, _ = assets.confirmed(self._engine.db, request.child)
        most = self.terms_of(asset)[0].uses
        used = grant_records.uses_of_edge(self._engine.db, *edge)
        asked = f"{request.uses}, after {used} used"
        return (
            Finding(REVOKED, "a grant again", "none after a revocation", not kept.revoked),
            Finding(USES, asked, f"at most {most} in all", passed=used + request.uses <= most),
        )

    def terms_of(self, asset: Asset) -> tuple[TermsTable, Terms]:
        """Today's terms of one of this node's own assets, by its configuration."""
        dataset, published_at = self._published(asset.cdt)
        if asset.kind == "data":
            return self.terms_from(self._config.dataset(dataset).terms, published_at, data=True)
        if self._config.compute is None:
            raise Fault("terms-invalid", "northbund.toml has no [compute] any more")
        return self.terms_from(self._config.compute.terms, published_at, data=False)

    def terms_of_leaf(self, cdt: bytes) -> tuple[TermsTable, Terms]:
        """As `terms_of`, by the asset's id."""
        asset, _ = assets.confirmed(self._engine.db, cdt)
        return self.terms_of(asset)

    def dataset_of(self, cdt: bytes) -> str:
        """The name of the dataset that was published as this asset; Fault `cdt-unknown`."""
        return self._published(cdt)[0]

    def _published(self, cdt: bytes) -> tuple[str, float]:
        row = self._engine.db.execute(
            "SELECT dataset, published_at FROM own_assets WHERE cdt = ?", [cdt]
        ).fetchone()
        if row is None:
            raise Fault("cdt-unknown", f"{hexadecimal(cdt)} was not published by this node")
        return str(row[0]), float(row[1])

    def terms_from(
        self, table: Mapping[str, object], published_at: float, *, data: bool
    ) -> tuple[TermsTable, Terms]:
        """The table and its constraints; Fault `terms-invalid` says what is wrong with it."""
        try:
            read = terms_table.read(table)
            until = int(published_at) + read.valid_for_days * DAY_S
            build = terms_table.for_data if data else terms_table.for_compute
            return read, build(read, self._directory.accounts, until)
        except terms_table.TermsTableError as error:
            raise Fault("terms-invalid", f"northbund.toml, {error}") from error

    def committee_of(self, metadata: Metadata) -> privacy.Committee:
        """The pool and the contributors as operators of this node's own configuration."""
        algorithm = metadata.algorithm
        if algorithm is None:
            raise RemoteProtocolError("the parent is no algorithm")
        return privacy.Committee(
            members=tuple(self._operator_of(cdt) for cdt in algorithm.pool),
            contributors=tuple(
                self._operator_of(cdt) for cdt in metadata.children if self._is_data(cdt)
            ),
            recipient=self._directory.operator(from_hexadecimal(algorithm.recipient, 20)),
            threshold=algorithm.threshold,
        )

    def _floors(
        self, child: Asset, table: TermsTable, metadata: Metadata, step: Step
    ) -> tuple[Finding, ...]:
        algorithm = metadata.algorithm
        if step.parameters is None or algorithm is None:
            raise RemoteProtocolError("the workflow states no parameters for this leaf")
        _, own = assets.confirmed(self._engine.db, child.cdt)
        columns = own.schema.columns if own.schema else ()
        return (
            _pool_finding(algorithm),
            *privacy.floors(
                self.committee_of(metadata),
                step.parameters,
                cohort_floor=algorithm.cohort_floor,
                numeric_columns=sum(1 for column in columns if column.kind == "number"),
                labels_consented=algorithm.labels == "seen-by-owners",
                leakage_accepted=table.leakage == "accept",
            ),
        )

    def _contributors(self, metadata: Metadata) -> int:
        committee = self.committee_of(metadata)
        return len(set(committee.contributors) - {committee.recipient, None})

    def _operator_of(self, cdt: str) -> str | None:
        asset = assets.find(self._engine.db, from_hexadecimal(cdt, 32))
        return self._directory.operator(asset.owner) if asset else None

    def _is_data(self, cdt: str) -> bool:
        asset = assets.find(self._engine.db, from_hexadecimal(cdt, 32))
        return asset is not None and asset.kind == "data"


def _judged(findings: tuple[Finding, ...]) -> Judgement:
    permitted = all(finding.passed for finding in findings)
    return Judgement(findings, "permit" if permitted else "refuse")


def _pool_finding(algorithm: Algorithm) -> Finding:
    """Nobody may pick who sits (floor 1): so everybody in the pool does."""
    seats, pool = algorithm.seats, len(algorithm.pool)
    return Finding(POOL, f"{pool} members for {seats} seats", f"exactly {seats}", pool == seats)


def _code_finding(step: Step) -> Finding:
    """Only installed operations run, and only the very code that the workflow pins."""
    installed = operations.installed(step.operation)
    ours = hexadecimal(installed.code) if installed else "not installed here"
    return Finding(CODE, step.code, ours, passed=step.code == ours)
