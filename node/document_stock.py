"""The documents that are stored here, and a bound on those that nobody has registered.

A document whose asset is on chain, or which this node publishes, stays. Announcements cost nothing
and negotiations name documents before the chain shows them here, so of all others at most
SPARE_BYTES are kept, the youngest; a dropped one is fetched again once its asset is registered.
"""

from sqlite_utils import Database

from node import assets
from node.engine import Transaction
from protocol import documents
from protocol.ids import Digest

SPARE_BYTES = 64 << 20
SPARE_MOST = 4_096


def part(db: Database, proof: bytes, offset: int, size: int) -> tuple[int, bytes]:
    """The size of the document in bytes, 0 if it is not here, and at most `size` from `offset`."""
    row = db.execute(
        "SELECT length(body), substr(body, ?, ?) FROM documents WHERE proof = ?",
        [offset + 1, size, proof],
    ).fetchone()
    return (0, b"") if row is None else (int(row[0]), bytes(row[1]))


def has_room(db: Database) -> bool:
    """True if one more document that nobody registered drops none that is here."""
    spare, size = db.execute("SELECT count(*), total(size) FROM spare_documents").fetchone()
    return bool(spare < SPARE_MOST and size <= SPARE_BYTES - documents.MAX_DOCUMENT_BYTES)


def keep(tx: Transaction, body: bytes) -> None:
    """Afterwards the document is stored, and the bound on those that nobody registered holds.

    RemoteProtocolError, and nothing stored, if the document breaks a rule.
    """
    proof = assets.keep_document(tx, body)
    tx.db.execute(
        "INSERT OR IGNORE INTO spare_documents SELECT ?, ?, ? "
        "WHERE NOT EXISTS (SELECT 1 FROM needed_documents n WHERE n.proof = ?)",
        [proof, len(body), tx.now, proof],
    )
    _make_room(tx, proof)


def refuse(tx: Transaction, proof: bytes, why: str) -> None:
    """Afterwards every registered asset with this proof is invalid: its document breaks a rule."""
    tx.db.execute(
        "UPDATE assets SET state = 'invalid', reason = ? WHERE proof = ? AND state = 'registered'",
        [why, proof],
    )


def _make_room(tx: Transaction, newest: Digest) -> None:
    """Drop the oldest spare ones beyond the bound; those that somebody registered by now stay."""
    count, size = tx.db.execute("SELECT count(*), total(size) FROM spare_documents").fetchone()
    if count <= SPARE_MOST and size <= SPARE_BYTES:
        return
    tx.db.execute(
        "DELETE FROM spare_documents AS s "
        "WHERE EXISTS (SELECT 1 FROM needed_documents n WHERE n.proof = s.proof)"
    )
    oldest = tx.db.execute(
        "SELECT proof, size FROM spare_documents WHERE proof != ? ORDER BY stored_at", [newest]
    ).fetchall()
    count, size = tx.db.execute("SELECT count(*), total(size) FROM spare_documents").fetchone()
    for proof, its_size in oldest:
        if count <= SPARE_MOST and size <= SPARE_BYTES:
            return
        tx.db.execute("DELETE FROM spare_documents WHERE proof = ?", [proof])
        tx.db.execute("DELETE FROM documents WHERE proof = ?", [proof])
        count, size = count - 1, size - its_size
