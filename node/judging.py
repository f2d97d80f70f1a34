"""Judging: what this node's terms and the floors of privacy say of a request for its assets.

What decides is this node's own configuration of today, its own view of the chain and its own
installed code; never what the publisher of the algorithm says of itself.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from mpc import operations
from node import assets, grant_records
from node.assets import Asset
from node.config import Config
from node.directory import Directory
from node.engine import Engine, Transaction
from node.errors import Fault
from node.grant_records import KeptGrant
from protocol import moments, privacy, terms_policy, terms_table
from protocol.contract_request import facts_of, step_for
from protocol.documents import Algorithm, Step
from protocol.errors import RemoteProtocolError
from protocol.ids import from_hexadecimal, hexadecimal
from protocol.judgement import Judgement, judged, nearest
from protocol.messages import ContractRequest
from protocol.terms import CODE, EXPIRY, USES, Constraint, Finding, Terms, evaluate
from protocol.terms_table import TermsTable

REVOKED = "cdt:revoked"
WITHDRAWN = "cdt:withdrawn"


class Judging:
    """Judges requests for this node's own assets."""

    def __init__(self, engine: Engine, directory: Directory, config: Config) -> None:
        self._engine = engine
        self._directory = directory
        self._config = config

    def adopt(self, tx: Transaction, config: Config) -> tuple[str, ...]:
        """Afterwards the terms of `config` are in force for new requests, and nothing else of it.

        Gives the names of the datasets and the compute asset whose terms are others now; datasets
        that came or went since the start are left to the next start.
        """
        changed = []
        datasets = []
        for each in self._config.datasets:
            new = next((other for other in config.datasets if other.name == each.name), each)
            datasets.append(msgspec.structs.replace(each, terms=new.terms))
            changed += [each.name] if new.terms != each.terms else []
        compute = self._config.compute
        if compute is not None and config.compute is not None:
            changed += [compute.name] if config.compute.terms != compute.terms else []
            compute = msgspec.structs.replace(compute, terms=config.compute.terms)
        self._config = msgspec.structs.replace(
            self._config, datasets=tuple(datasets), compute=compute
        )
        for name in changed:
            tx.note("terms", name.encode(), "changed by the administrator")
        return tuple(changed)

    def dataset_terms(self, name: str) -> Mapping[str, object]:
        """The table of terms of a dataset that is in force; Fault `dataset-unknown`."""
        return self._config.dataset(name).terms

    def compute_terms(self) -> Mapping[str, object]:
        """The table of terms of the compute asset; Fault `terms-invalid` if there is none."""
        if self._config.compute is None:
            raise Fault("terms-invalid", "northbund.toml has no [compute] any more")
        return self._config.compute.terms

    def judge(self, request: ContractRequest, waived: Collection[str] = frozenset()) -> Judgement:
        """What this node's terms of today say of a new request.

        `waived` are the operands that a person here has let pass for it; those that the terms
        do not refer to a person stay as they are. Fault if the child is
        not this node's own, or the parent is not confirmed here yet. RemoteProtocolError if the
        parent says nothing of the child or belongs to somebody else.
        """
        child, question = self._question(request)
        table, terms = self.terms_of(child)
        earlier, limits = self._earlier(request, table)
        now = self._engine.clock()
        return judged(
            (*question.said(terms), *earlier, *alive(request, now)),
            (*question.firm(terms), *_withdrawn(child), *self._revoked(request)),
            offer=nearest(terms, request, now=now, limits=limits),
            referable=lambda operand: terms_table.referable(table, operand),
            waived={each for each in waived if terms_table.referable(table, each)},
        )

    def judge_again(
        self, request: ContractRequest, waived: Collection[str] = frozenset()
    ) -> Judgement:
        """What they say of a request that was granted: what it has used is not asked again.

        Raises as `judge`.
        """
        child, question = self._question(request)
        _, terms = self.terms_of(child)
        return judged(question.said(terms), question.firm(terms), waived=waived)

    def judge_given(self, request: ContractRequest, kept: KeptGrant) -> Judgement:
        """What the terms that the grant was given under say of it, and every floor of today.

        A changed policy is for new requests: who was given a grant can rely on it until it is
        revoked. Raises as `judge`, and Fault `grant-unusable` if those terms are not kept here.
        """
        _, question = self._question(request)
        terms = grant_records.terms_given(self._engine.db, kept)
        said, firm = question.said(terms), question.firm(terms)
        return judged(said, firm, waived=kept.waived_operands)

    def given(self, child: bytes, parent: bytes) -> Terms:
        """The terms that this node's newest grant of the edge was given under.

        Fault `grant-unusable` if there is no grant, or its terms are not kept here.
        """
        kept = grant_records.latest(self._engine.db, child, parent)
        if kept is None:
            raise Fault("grant-unusable", "this node has given no grant for this edge")
        return grant_records.terms_given(self._engine.db, kept)

    def _question(self, request: ContractRequest) -> "tuple[Asset, Question]":
        child, own = assets.confirmed(self._engine.db, request.child)
        if child.owner != self._directory.own.account:
            raise RemoteProtocolError("the asset that is asked for belongs to somebody else")
        parent, metadata = assets.confirmed(self._engine.db, request.parent)
        if parent.owner != request.consumer or parent.proof != request.parent_proof:
            raise RemoteProtocolError("the parent is not the consumer's, or another document")
        algorithm, step = step_for(metadata, request.child)
        committee = self.committee_of(algorithm, metadata.children)
        if child.kind == "data" and step.parameters is None:
            raise RemoteProtocolError("the workflow states no parameters for this leaf")
        columns = own.schema.columns if own.schema else ()
        return child, Question(
            has_rows=child.kind == "data",
            numeric_columns=sum(1 for column in columns if column.kind == "number"),
            request=request,
            algorithm=algorithm,
            step=step,
            committee=committee,
        )

    def _earlier(
        self, request: ContractRequest, table: TermsTable
    ) -> tuple[tuple[Finding, ...], tuple[Constraint, ...]]:
        """Uses of one edge add up: asking again gives no more of them than the terms allow."""
        edge = (request.child, request.parent)
        if grant_records.newest(self._engine.db, *edge) is None:
            return (), ()
        used = grant_records.uses_of_edge(self._engine.db, *edge)
        finding = Finding(
            USES,
            f"{request.uses}, after {used} used",
            f"at most {table.uses} in all",
            passed=used + request.uses <= table.uses,
        )
        left = Constraint(leftOperand=USES, operator="lteq", rightOperand=table.uses - used)
        return (finding,), (left,)

    def _revoked(self, request: ContractRequest) -> tuple[Finding, ...]:
        """An owner's revocation stands: the consumer cannot ask it away."""
        kept = grant_records.newest(self._engine.db, request.child, request.parent)
        if kept is None:
            return ()
        return (Finding(REVOKED, "a grant again", "none after a revocation", not kept.revoked),)

    def terms_of(self, asset: Asset) -> tuple[TermsTable, Terms]:
        """Today's terms of one of this node's own assets, by its configuration.

        Fault `terms-invalid` for an asset that is neither rows nor compute: nothing is granted
        of an algorithm, only of what it is composed of.
        """
        dataset, published_at = self._published(asset.cdt)
        if asset.kind not in ("data", "compute"):
            raise Fault(
                "terms-invalid", f"{asset.name!r} is of type {asset.kind}: ask for what is below"
            )
        if asset.kind == "data":
            return self.terms_from(self.dataset_terms(dataset), published_at, data=True)
        return self.terms_from(self.compute_terms(), published_at, data=False)

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
        self,
        table: Mapping[str, object],
        published_at: float,
        *,
        data: bool,
        source: str = "northbund.toml",
    ) -> tuple[TermsTable, Terms]:
        """The table and its constraints; Fault `terms-invalid` says what is wrong in `source`."""
        try:
            read = terms_table.read(table, data=data)
            last = terms_table.until(read, published_at)
            build = terms_policy.for_data if data else terms_policy.for_compute
            return read, build(read, self._directory.accounts, last)
        except terms_table.TermsTableError as error:
            raise Fault("terms-invalid", f"{source}, {error}") from error

    def committee_of(self, algorithm: Algorithm, children: Iterable[str]) -> privacy.Committee:
        """The pool and the contributors as operators of this node's own configuration."""
        return privacy.Committee(
            members=tuple(self._operator_of(cdt) for cdt in algorithm.pool),
            contributors=tuple(self._operator_of(cdt) for cdt in children if self._is_data(cdt)),
            recipient=self._directory.operator(from_hexadecimal(algorithm.recipient, 20)),
            threshold=algorithm.threshold,
            seats=algorithm.seats,
        )

    def _operator_of(self, cdt: str) -> str | None:
        asset = assets.find(self._engine.db, from_hexadecimal(cdt, 32))
        return self._directory.operator(asset.owner) if asset else None

    def _is_data(self, cdt: str) -> bool:
        asset = assets.find(self._engine.db, from_hexadecimal(cdt, 32))
        return asset is not None and asset.kind == "data"


@dataclass(frozen=True, slots=True)
class Question:
    """What one request asks of one asset: everything that terms and floors judge by.

    `numeric_columns` counts the numeric source columns of the asset's rows.
    """

    has_rows: bool
    numeric_columns: int
    request: ContractRequest
    algorithm: Algorithm
    step: Step
    committee: privacy.Committee

    def said(self, terms: Terms) -> tuple[Finding, ...]:
        """What the terms say of it."""
        facts = facts_of(self.request, self.algorithm, self.step, self.committee)
        return evaluate(terms, facts).findings

    def firm(self, terms: Terms) -> tuple[Finding, ...]:
        """What nobody can waive: the code, and for rows the floors of privacy."""
        if not self.has_rows or self.step.parameters is None:
            return (_code_finding(self.step),)
        return (
            _code_finding(self.step),
            *privacy.floors(
                self.committee,
                self.step.parameters,
                cohort_floor=self.algorithm.cohort_floor,
                numeric_columns=self.numeric_columns,
                labels_consented=self.algorithm.labels == "seen-by-owners",
                leakage_accepted=terms.leakage == "accept",
            ),
        )


def _withdrawn(child: Asset) -> tuple[Finding, ...]:
    """Of what its owner has withdrawn nothing new is granted, whatever the terms say."""
    if not child.withdrawn:
        return ()
    return (Finding(WITHDRAWN, "a new grant", "none: its owner has withdrawn it", passed=False),)


def alive(request: ContractRequest, now: float) -> tuple[Finding, ...]:
    """A failure if a grant for the request would be over when it is given; else nothing."""
    if request.expires > now:
        return ()
    expires = moments.text(min(request.expires, moments.LAST))
    told = f"later than now, {moments.text(int(now))},"
    return (Finding(EXPIRY, expires, told, passed=False),)


def _code_finding(step: Step) -> Finding:
    """Only installed operations run, and only the very code that the workflow pins."""
    installed = operations.installed(step.operation)
    ours = hexadecimal(installed.code) if installed else "not installed here"
    return Finding(CODE, step.code, ours, passed=step.code == ours)
