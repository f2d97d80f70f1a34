"""Grants: the owner's signed yes for one edge, judged before it is given, kept by both sides.

What decides is this node's own configuration of today, its own view of the chain and its own
installed code; never what the publisher of the algorithm says of itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlite_utils import Database

from mpc import operations
from node import assets
from node.assets import Asset
from node.config import Chain, Config
from node.directory import Directory
from node.engine import Engine, Transaction
from node.errors import Fault
from node.rows import first, select
from node.signer import Signer
from protocol import codec, documents, privacy, terms_table, typed_data
from protocol.contract_request import facts_of, step_for
from protocol.documents import Algorithm, Metadata, Step
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.messages import ContractAgreement, ContractRequest, GrantTerms
from protocol.terms import USES, Finding, Terms, evaluate
from protocol.terms_table import TermsTable

DAY_S = 86_400
UNITS = {"edge": 0, "row": 1, "opening": 2}
CODE = "cdt:code"
POOL = "cdt:pool"
REVOKED = "cdt:revoked"


@dataclass(frozen=True, slots=True)
class KeptGrant:
    """A signed grant as this node keeps it, given or received.

    It is revoked by this node's own word, for good, or as long as the followed chain says so.
    """

    child: bytes
    parent: bytes
    seq: int
    owner: bytes
    body: bytes
    signature: bytes
    uses_counted: int
    revoked: int

    @property
    def terms(self) -> GrantTerms:
        """What the signature covers."""
        return codec.decode(self.body, GrantTerms)


def every(db: Database) -> list[KeptGrant]:
    """All grants, given and received."""
    return select(db, KeptGrant, "known_grants ORDER BY parent, child, seq")


def latest(db: Database, child: bytes, parent: bytes) -> KeptGrant | None:
    """The newest grant of one edge that is kept here, or None."""
    return first(
        db,
        KeptGrant,
        "known_grants WHERE child = ? AND parent = ? ORDER BY seq DESC",
        [child, parent],
    )


def uses_of_edge(db: Database, child: bytes, parent: bytes) -> int:
    """How many uses were counted on all grants of one edge: a renewed one does not begin anew."""
    row = db.execute(
        "SELECT coalesce(sum(uses_counted), 0) FROM grants WHERE child = ? AND parent = ?",
        [child, parent],
    ).fetchone()
    return int(row[0])


def block_time(db: Database) -> int:
    """The time of the newest block that the follower has taken, Unix seconds; 0 before any."""
    row = db.execute("SELECT timestamp FROM chain_blocks ORDER BY number DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 0


def typed(grant: GrantTerms) -> typed_data.Grant:
    """The EIP-712 message of the grant."""
    return typed_data.Grant(
        child=grant.child,
        parent=grant.parent,
        terms_hash=grant.terms,
        owner=Account(grant.owner),
        owner_epoch=grant.epoch,
        consumer=Account(grant.consumer),
        consumer_epoch=grant.consumer_epoch,
        market=Account(grant.market),
        token=Account(grant.token),
        decider=Account(grant.decider),
        price=int(grant.price),
        price_unit=grant.unit,
        max_uses=grant.max_uses,
        expiry=grant.expiry,
        seq=grant.seq,
    )


class Grants:
    """Judges requests for this node's own assets, gives grants, checks and keeps others'."""

    def __init__(self, engine: Engine, directory: Directory, config: Config, chain: Chain) -> None:
        self._engine = engine
        self._directory = directory
        self._config = config
        self._chain = chain
        self.signer: Signer | None = None

    # ------------------------------------------------------------------ judging

    def judge(self, request: ContractRequest) -> tuple[Finding, ...]:
        """A finding for each constraint of the terms and for each floor.

        Fault if the child is not this node's own, or the parent is not confirmed here yet.
        RemoteProtocolError if the parent says nothing of the child or belongs to somebody else.
        """
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

    def judge_again(self, request: ContractRequest) -> tuple[Finding, ...]:
        """What earlier grants of the same edge say of a new one, at negotiation alone.

        An owner's revocation stands: the consumer cannot ask it away. And uses add up, so that
        asking again gives no more of them than the terms allow.
        """
        edge = (request.child, request.parent)
        kept = latest(self._engine.db, *edge)
        if kept is None:
            return ()
        asset, _ = assets.confirmed(self._engine.db, request.child)
        most = self.terms_of(asset)[0].uses
        used = uses_of_edge(self._engine.db, *edge)
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

    # ------------------------------------------------------------------ giving and keeping

    def give(self, tx: Transaction, request: ContractRequest) -> ContractAgreement:
        """Afterwards a grant for exactly this request is signed and kept; judge it before.

        Fault `daemon-starting` while the account is still locked.
        """
        if self.signer is None:
            raise Fault("daemon-starting", "the account is not unlocked yet")
        child, _ = assets.confirmed(tx.db, request.child)
        table, terms = self.terms_of(child)
        grant = GrantTerms(
            child=request.child,
            parent=request.parent,
            terms=documents.terms_hash(terms),
            owner=self._directory.own.account,
            epoch=child.epoch,
            consumer=request.consumer,
            consumer_epoch=self._epoch(request.parent),
            market=self._chain.market,
            token=self._chain.token,
            decider=request.decider,
            price=str(table.price),
            unit=UNITS[table.price_unit],
            max_uses=request.uses,
            expiry=request.expires,
            seq=self._next_seq(tx.db, request.child, request.parent),
        )
        signature = self.signer.sign(self.signer.registry, typed(grant))
        self.keep(tx, grant, signature)
        return ContractAgreement(process=request.process, grant=grant, signature=signature)

    def check(
        self, request: ContractRequest, grant: GrantTerms, signature: bytes, owner: Account
    ) -> None:
        """RemoteProtocolError unless `grant` answers `request` and its owner has signed it."""
        asked = {
            "child": request.child,
            "parent": request.parent,
            "consumer": request.consumer,
            "decider": request.decider,
            "owner": owner,
            "market": self._chain.market,
            "token": self._chain.token,
        }
        for member, value in asked.items():
            if getattr(grant, member) != value:
                raise RemoteProtocolError(f"the grant states another {member} than was asked for")
        if int(grant.price) > int(request.pay_amount):
            raise RemoteProtocolError("the grant asks for more than was offered")
        if grant.max_uses < request.uses or grant.expiry < request.expires:
            raise RemoteProtocolError("the grant is for fewer uses or a shorter time")
        domain = typed_data.registry_domain(self._chain.chain_id, self._chain.registry)
        try:
            digest = typed_data.digest(domain, typed(grant))
        except LocalProtocolError as error:  # the peer chose the values
            raise RemoteProtocolError(f"no contract could hold the grant: {error}") from error
        signer = typed_data.recover(digest, signature)
        if signer != owner:
            raise RemoteProtocolError("the grant is not signed by the asset's owner")

    def keep(self, tx: Transaction, grant: GrantTerms, signature: bytes) -> None:
        """Afterwards the signed grant is kept; the same one twice changes nothing."""
        tx.db.execute(
            "INSERT OR IGNORE INTO grants (child, parent, seq, owner, body, signature) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [grant.child, grant.parent, grant.seq, grant.owner, codec.encode(grant), signature],
        )

    def count_use(self, tx: Transaction, child: bytes, parent: bytes) -> None:
        """Floor 13: uses are counted here too, and never come back with a reorganisation.

        Fault `grant-unusable` if the grant is gone, revoked, expired or used up by this count.
        """
        kept = self.require_alive(child, parent)
        if uses_of_edge(tx.db, child, parent) >= kept.terms.max_uses:
            raise Fault("grant-unusable", "the grant for this edge is used up")
        tx.db.execute(
            "UPDATE grants SET uses_counted = uses_counted + 1 "
            "WHERE child = ? AND parent = ? AND seq = ?",
            [child, parent, kept.seq],
        )

    def require_alive(self, child: bytes, parent: bytes) -> KeptGrant:
        """The newest grant of this edge; Fault `grant-unusable` if it is revoked or has expired.

        It expires by the time of the newest block that this node has taken, as on chain: clocks
        of nodes may be apart.
        """
        kept = latest(self._engine.db, child, parent)
        if kept is None or kept.revoked:
            raise Fault(
                "grant-unusable", "this node has given no grant that is alive for this edge"
            )
        if kept.terms.expiry <= block_time(self._engine.db):
            raise Fault("grant-unusable", "the grant for this edge has expired")
        return kept

    def _epoch(self, cdt: bytes) -> int:
        asset = assets.find(self._engine.db, cdt)
        return asset.epoch if asset else 0

    def _next_seq(self, db: Database, child: bytes, parent: bytes) -> int:
        kept = latest(db, child, parent)
        row = db.execute(
            "SELECT coalesce(max(seq), 0) FROM chain_grants WHERE child = ? AND parent = ?",
            [child, parent],
        ).fetchone()
        return 1 + max(kept.seq if kept else 0, int(row[0]))


def _pool_finding(algorithm: Algorithm) -> Finding:
    """Nobody may pick who sits (floor 1): so everybody in the pool does."""
    seats, pool = algorithm.seats, len(algorithm.pool)
    return Finding(POOL, f"{pool} members for {seats} seats", f"exactly {seats}", pool == seats)


def _code_finding(step: Step) -> Finding:
    """Only installed operations run, and only the very code that the workflow pins."""
    installed = operations.installed(step.operation)
    ours = hexadecimal(installed.code) if installed else "not installed here"
    return Finding(CODE, step.code, ours, passed=step.code == ours)
