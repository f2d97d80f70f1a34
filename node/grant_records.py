"""The signed grants that this node keeps, given and received, as plain rows."""

from dataclasses import dataclass

import msgspec
from sqlite_utils import Database

from node.engine import Transaction
from node.errors import Fault
from node.rows import first, select
from protocol import codec, documents
from protocol.ids import Digest
from protocol.messages import GrantTerms
from protocol.terms import Terms

BEHIND_MOST_S = 600.0
"""How far the newest block's time may be behind this node's clock and still count."""


@dataclass(frozen=True, slots=True)
class KeptGrant:
    """A signed grant as this node keeps it, given or received.

    It is revoked by this node's own word, for good, or as long as the followed chain says so. It
    is withdrawn if its consumer gave the negotiation up before it held the grant.
    """

    child: bytes
    parent: bytes
    seq: int
    owner: bytes
    body: bytes
    signature: bytes
    uses_counted: int
    revoked: int
    waived: str
    withdrawn: int

    @property
    def terms(self) -> GrantTerms:
        """What the signature covers."""
        return codec.decode(self.body, GrantTerms)

    @property
    def waived_operands(self) -> frozenset[str]:
        """The operands that a person let pass when the grant was given."""
        return frozenset(self.waived.split())


def every(db: Database) -> list[KeptGrant]:
    """All grants, given and received."""
    return select(db, KeptGrant, "known_grants ORDER BY parent, child, seq")


def latest(db: Database, child: bytes, parent: bytes) -> KeptGrant | None:
    """The newest grant of one edge that is kept here and not withdrawn, or None."""
    return first(
        db,
        KeptGrant,
        "known_grants WHERE child = ? AND parent = ? AND NOT withdrawn ORDER BY seq DESC",
        [child, parent],
    )


def newest(db: Database, child: bytes, parent: bytes) -> KeptGrant | None:
    """As `latest`, but those that their consumer gave up count too: the signature is out.

    Who asks what was revoked or used of an edge asks this: else giving up would wash it off.
    """
    return first(
        db,
        KeptGrant,
        "known_grants WHERE child = ? AND parent = ? ORDER BY seq DESC",
        [child, parent],
    )


def keep_terms(tx: Transaction, terms: Terms) -> Digest:
    """Afterwards the terms are kept under their hash, which a grant's signature covers."""
    digest = documents.terms_hash(terms)
    body = msgspec.json.encode(terms)
    tx.db.execute("INSERT OR IGNORE INTO given_terms VALUES (?, ?)", [digest, body])
    return digest


def terms_given(db: Database, kept: KeptGrant) -> Terms:
    """The terms that the grant was given under; Fault `grant-unusable` if they are not here."""
    row = db.execute("SELECT body FROM given_terms WHERE hash = ?", [kept.terms.terms]).fetchone()
    if row is None:
        raise Fault("grant-unusable", "the terms that this grant was given under are not kept here")
    return msgspec.json.decode(row[0], type=Terms)


def uses_of_edge(db: Database, child: bytes, parent: bytes) -> int:
    """How many uses were counted on all grants of one edge: a renewed one does not begin anew."""
    row = db.execute(
        "SELECT coalesce(sum(uses_counted), 0) FROM grants WHERE child = ? AND parent = ?",
        [child, parent],
    ).fetchone()
    return int(row[0])


def chain_time(db: Database, clock: float) -> float:
    """The time by which grants end: the newest block's, but never long before this node's clock.

    Clocks may be minutes apart; an endpoint that holds blocks back keeps no grant alive.
    """
    return max(float(block_time(db)), clock - BEHIND_MOST_S)


def block_time(db: Database) -> int:
    """The time of the newest block that the follower has taken, Unix seconds; 0 before any."""
    row = db.execute("SELECT timestamp FROM chain_blocks ORDER BY number DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 0
