"""The signed grants that this node keeps, given and received, as plain rows."""

from dataclasses import dataclass

from sqlite_utils import Database

from node.rows import first, select
from protocol import codec
from protocol.messages import GrantTerms


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
