"""What this node knows of assets: rows of the database as typed values, and how they change.

An asset is `announced` (somebody says so), `registered` (the chain says so, the document is not
here yet), `confirmed` (the document hashes to the proof that its owner registered) or `invalid`.
Only confirmed ones count.
"""

from dataclasses import dataclass

from sqlite_utils import Database

from chain import tree
from chain.values import KINDS
from node.engine import Transaction
from node.errors import Fault
from node.rows import first, select
from protocol import documents
from protocol.documents import Metadata
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, CdtId, Digest, hexadecimal

KIND_NAMES = {number: name for name, number in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset as this node sees it; `children` are their ids, one after another.

    `epoch` counts changes of ownership; `salt` (decimal) is a part of the id.
    """

    cdt: CdtId
    owner: Account
    creator: Account
    kind: str
    proof: Digest
    children: bytes
    epoch: int
    salt: str
    name: str
    endpoint: str
    state: str
    reason: str

    @property
    def child_ids(self) -> tuple[CdtId, ...]:
        """The children in rising order."""
        return tuple(CdtId(self.children[at : at + 32]) for at in range(0, len(self.children), 32))


def find(db: Database, cdt: bytes) -> Asset | None:
    """The asset, or None if neither the chain nor a peer has spoken of it."""
    return first(db, Asset, "assets WHERE cdt = ?", [cdt])


def children(db: Database, cdt: bytes) -> tuple[CdtId, ...]:
    """The children of a confirmed asset, in rising order; Fault `cdt-unknown`."""
    return confirmed(db, cdt)[0].child_ids


def confirmed(db: Database, cdt: bytes) -> tuple[Asset, Metadata]:
    """The asset and its document; Fault `cdt-unknown` unless it is confirmed."""
    asset = find(db, cdt)
    if asset is None:
        raise Fault("cdt-unknown", f"no asset {hexadecimal(cdt)} is known here")
    if asset.state != "confirmed":
        why = f": {asset.reason}" if asset.reason else ""
        raise Fault("cdt-unknown", f"asset {hexadecimal(cdt)} is only {asset.state}{why}")
    return asset, documents.parse(body_of(db, asset.proof))


def search(db: Database, text: str = "") -> list[Asset]:
    """The assets whose name or kind contains `text`, confirmed ones first, then by name."""
    return select(
        db,
        Asset,
        "assets WHERE name LIKE ? OR kind = ? ORDER BY state != 'confirmed', name, cdt",
        [f"%{text}%", text],
    )


def body_of(db: Database, proof: bytes) -> bytes:
    """The canonical bytes of the document with this proof; Fault `document-unavailable`."""
    row = db.execute("SELECT body FROM documents WHERE proof = ?", [proof]).fetchone()
    if row is None:
        raise Fault("document-unavailable", f"document {documents.cid_of(proof)} is not here yet")
    return bytes(row[0])


def has_document(db: Database, proof: bytes) -> bool:
    """True if the document with this proof is stored here."""
    return bool(db.execute("SELECT 1 FROM documents WHERE proof = ?", [proof]).fetchone())


def keep_document(tx: Transaction, body: bytes) -> Digest:
    """Afterwards the document is stored and every asset that it proves is judged anew.

    RemoteProtocolError, and nothing stored, if the document breaks a rule.
    """
    documents.parse(body)
    proof = documents.proof_of(body)
    tx.db.execute("INSERT OR IGNORE INTO documents VALUES (?, ?, ?)", [proof, body, tx.now])
    for (cdt,) in tx.db.execute("SELECT cdt FROM assets WHERE proof = ?", [proof]).fetchall():
        judge(tx, cdt)
    return proof


def heard_of(
    tx: Transaction, cdt: bytes, owner: bytes, kind: str, proof: bytes, name: str, endpoint: str
) -> None:
    """Afterwards the asset is at least announced; what the chain said of it stays."""
    tx.db.execute(
        "INSERT INTO assets (cdt, owner, creator, kind, proof, children, name, endpoint, state, "
        "seen_at) VALUES (?, ?, ?, ?, ?, x'', ?, ?, 'announced', ?) "
        "ON CONFLICT (cdt) DO UPDATE SET endpoint = excluded.endpoint",
        [cdt, owner, owner, kind, proof, name, endpoint, tx.now],
    )


def unregistered(db: Database, owner: bytes) -> int:
    """How many assets of this owner were announced and are on no chain, as far as is known."""
    rows = db.execute(
        "SELECT count(*) FROM assets WHERE owner = ? AND state = 'announced'", [owner]
    )
    return int(rows.fetchone()[0])


def registered(
    tx: Transaction, cdt: bytes, owner: bytes, kind: str, proof: bytes, salt: int
) -> None:
    """Afterwards the asset is what the chain says, without children yet, and is to be judged."""
    tx.db.execute(
        "INSERT INTO assets (cdt, owner, creator, kind, proof, children, salt, state, seen_at) "
        "VALUES (?, ?, ?, ?, ?, x'', ?, 'registered', ?) "
        "ON CONFLICT (cdt) DO UPDATE SET owner = excluded.owner, creator = excluded.creator, "
        "kind = excluded.kind, proof = excluded.proof, salt = excluded.salt, "
        "state = 'registered', reason = ''",
        [cdt, owner, owner, kind, proof, str(salt), tx.now],
    )


def composed(tx: Transaction, cdt: bytes, children: tuple[bytes, ...]) -> None:
    """Afterwards the asset has these children, as the chain says."""
    tx.db.execute("UPDATE assets SET children = ? WHERE cdt = ?", [b"".join(children), cdt])


def transferred(tx: Transaction, cdt: bytes, owner: bytes, epoch: int) -> None:
    """Afterwards the asset has a new owner, and every grant of the former is void."""
    tx.db.execute("UPDATE assets SET owner = ?, epoch = ? WHERE cdt = ?", [owner, epoch, cdt])


def take_from_chain(tx: Transaction, cdt: bytes) -> Asset | None:
    """Afterwards the asset is what the followed chain says and its document makes of it.

    None, and no row, if the chain does not say anything of it (any more).
    """
    said = tree.asset(tx.db, cdt)
    if said is None:
        tx.db.execute("DELETE FROM assets WHERE cdt = ?", [cdt])
        return None
    kind = KIND_NAMES.get(said.kind, "unknown")
    registered(tx, cdt, said.creator, kind, said.proof, said.salt)
    composed(tx, cdt, said.children)
    transferred(tx, cdt, said.owner, said.epoch)
    judge(tx, cdt)
    return find(tx.db, cdt)


def judge(tx: Transaction, cdt: bytes) -> None:
    """Afterwards a registered asset whose document is here is `confirmed` or `invalid (why)`."""
    asset = find(tx.db, cdt)
    if asset is None or asset.state == "announced" or not has_document(tx.db, asset.proof):
        return
    try:
        metadata = documents.parse(body_of(tx.db, asset.proof))
        _check_against_chain(asset, metadata)
    except RemoteProtocolError as error:
        _set_state(tx, cdt, "invalid", str(error), asset.name, asset.endpoint)
        return
    _set_state(tx, cdt, "confirmed", "", metadata.name, metadata.endpoint)


def _check_against_chain(asset: Asset, metadata: Metadata) -> None:
    if metadata.type != asset.kind:
        raise RemoteProtocolError(
            f"the document is of type {metadata.type}, the registry says {asset.kind}"
        )
    if metadata.children != tuple(hexadecimal(child) for child in asset.child_ids):
        raise RemoteProtocolError("the document names other children than the registry")


def _set_state(
    tx: Transaction, cdt: bytes, state: str, reason: str, name: str, endpoint: str
) -> None:
    tx.db.execute(
        "UPDATE assets SET state = ?, reason = ?, name = ?, endpoint = ? WHERE cdt = ?",
        [state, reason, name, endpoint, cdt],
    )
