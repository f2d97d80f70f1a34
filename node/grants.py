"""Grants: the owner's signed yes for one edge, given after it was judged, kept by both sides."""

from collections.abc import Collection

from sqlite_utils import Database

from node import assets, grant_records
from node.config import Chain
from node.directory import Directory
from node.engine import Engine, Transaction
from node.errors import Fault
from node.grant_records import KeptGrant
from node.judging import Judging
from node.signer import Signer
from protocol import codec, terms_table, typed_data
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import Account
from protocol.messages import ContractAgreement, ContractRequest, GrantTerms

UNITS = {"edge": 0, "row": 1, "opening": 2}


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
    """Gives this node's own grants, checks and keeps others'."""

    def __init__(
        self, engine: Engine, directory: Directory, judging: Judging, chain: Chain
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._judging = judging
        self._chain = chain
        self.signer: Signer | None = None

    def give(
        self, tx: Transaction, request: ContractRequest, waived: Collection[str] = ()
    ) -> ContractAgreement:
        """Afterwards a grant for exactly this request is signed and kept; judge it before.

        The terms and the operands that a person `waived` are kept with it: a run is judged by
        them. Fault `daemon-starting` while the account is still locked.
        """
        if self.signer is None:
            raise Fault("daemon-starting", "the account is not unlocked yet")
        child, _ = assets.confirmed(tx.db, request.child)
        table, terms = self._judging.terms_of(child)
        grant = GrantTerms(
            child=request.child,
            parent=request.parent,
            terms=grant_records.keep_terms(tx, terms),
            owner=self._directory.own.account,
            epoch=child.epoch,
            consumer=request.consumer,
            consumer_epoch=self._epoch(request.parent),
            market=self._chain.market,
            token=self._chain.token,
            decider=request.decider,
            price=terms_table.price_of(table).amount,
            unit=UNITS[table.price_unit],
            max_uses=request.uses,
            expiry=request.expires,
            seq=self._next_seq(tx.db, request.child, request.parent),
        )
        signature = self.signer.sign(self.signer.registry, typed(grant))
        self.keep(tx, grant, signature, waived)
        return ContractAgreement(process=request.process, grant=grant, signature=signature)

    def check(
        self, request: ContractRequest, grant: GrantTerms, signature: bytes, owner: Account
    ) -> None:
        """RemoteProtocolError unless `grant` answers `request` and its owner has signed it.

        Fault if the child is not confirmed here any more.
        """
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
        if grant.unit != self._unit(request.child):
            raise RemoteProtocolError("the grant is priced by another unit than the document says")
        domain = typed_data.registry_domain(self._chain.chain_id, self._chain.registry)
        try:
            digest = typed_data.digest(domain, typed(grant))
        except LocalProtocolError as error:  # the peer chose the values
            raise RemoteProtocolError(f"no contract could hold the grant: {error}") from error
        signer = typed_data.recover(digest, signature)
        if signer != owner:
            raise RemoteProtocolError("the grant is not signed by the asset's owner")

    def keep(
        self, tx: Transaction, grant: GrantTerms, signature: bytes, waived: Collection[str] = ()
    ) -> None:
        """Afterwards the signed grant is kept; the same one twice changes nothing."""
        tx.db.execute(
            "INSERT OR IGNORE INTO grants (child, parent, seq, owner, body, signature, waived) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                *(grant.child, grant.parent, grant.seq, grant.owner),
                *(codec.encode(grant), signature, " ".join(sorted(waived))),
            ],
        )

    def void(self, tx: Transaction, grant: GrantTerms) -> None:
        """Afterwards the grant is no yes of this node any more: its consumer does not want it."""
        tx.db.execute(
            "UPDATE grants SET withdrawn = 1 WHERE child = ? AND parent = ? AND seq = ?",
            [grant.child, grant.parent, grant.seq],
        )

    def count_use(self, tx: Transaction, child: bytes, parent: bytes) -> None:
        """Floor 13: uses are counted here too, and never come back with a reorganisation.

        Fault `grant-unusable` if the grant is gone, revoked, expired or used up by this count.
        """
        kept = self.require_alive(child, parent)
        if grant_records.uses_of_edge(tx.db, child, parent) >= kept.terms.max_uses:
            raise Fault("grant-unusable", "the grant for this edge is used up")
        tx.db.execute(
            "UPDATE grants SET uses_counted = uses_counted + 1 "
            "WHERE child = ? AND parent = ? AND seq = ?",
            [child, parent, kept.seq],
        )

    def require_alive(self, child: bytes, parent: bytes) -> KeptGrant:
        """The newest grant of this edge; Fault `grant-unusable` if it is revoked or has expired.

        It expires by the time of the newest block that this node has taken, as on chain: clocks
        of nodes may be apart (`grant_records.chain_time`). It ends for good when either asset
        changes hands, as on chain.
        """
        kept = grant_records.latest(self._engine.db, child, parent)
        if kept is None or kept.revoked:
            raise Fault(
                "grant-unusable", "this node has given no grant that is alive for this edge"
            )
        now = grant_records.chain_time(self._engine.db, self._engine.clock())
        if kept.terms.expiry <= now:
            raise Fault("grant-unusable", "the grant for this edge has expired")
        epochs = self._epoch(child), self._epoch(parent)
        if epochs != (kept.terms.epoch, kept.terms.consumer_epoch):
            raise Fault("grant-unusable", "an asset of this edge has changed hands since the grant")
        return kept

    def _epoch(self, cdt: bytes) -> int:
        asset = assets.find(self._engine.db, cdt)
        return asset.epoch if asset else 0

    def _unit(self, child: bytes) -> int:
        _, metadata = assets.confirmed(self._engine.db, child)
        return UNITS[metadata.services[0].price.unit] if metadata.services else UNITS["edge"]

    def _next_seq(self, db: Database, child: bytes, parent: bytes) -> int:
        """One more than any that was ever signed: withdrawn ones count, and what the chain has."""
        row = db.execute(
            "SELECT coalesce(max(seq), 0) FROM (SELECT child, parent, seq FROM grants "
            "UNION ALL SELECT child, parent, seq FROM chain_grants) WHERE child = ? AND parent = ?",
            [child, parent],
        ).fetchone()
        return 1 + int(row[0])
