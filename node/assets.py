"""What this node knows of assets: rows of the database as typed values, and how they change.

An asset is `announced` (somebody says so), `registered` (the chain says so, the document is not
here yet), `confirmed` (the document hashes to the proof that its owner registered) or `invalid`.
Only confirmed ones count. Its owner may withdraw it: then it is shown as `withdrawn`, nothing new
is granted for it, and what was granted goes on.
"""

from dataclasses import dataclass
from typing import Final

from sqlite_utils import Database

from chain import tree
from chain.values import KINDS
from node import asset_terms, asset_words
from node.engine import Transaction
from node.errors import Fault
from node.rows import first, select
from protocol import documents, organisation
from protocol.documents import Metadata
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, CdtId, Digest, hexadecimal

KIND_NAMES: Final = {number: name for name, number in KINDS.items()}
STATES: Final = ("announced", "registered", "confirmed", "withdrawn", "invalid")
WITHDRAWN: Final = "its owner has withdrawn it"

_FROM_CHAIN: Final = (
    "INSERT INTO assets (cdt, owner, creator, kind, proof, children, salt, epoch, state, seen_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'registered', ?) "
    "ON CONFLICT (cdt) DO UPDATE SET owner = excluded.owner, creator = excluded.creator, "
    "kind = excluded.kind, proof = excluded.proof, salt = excluded.salt, "
    "children = excluded.children, epoch = excluded.epoch, state = 'registered', reason = '', "
    "withdrawn = withdrawn AND owner = excluded.owner"
)
_ANNOUNCED: Final = (
    "INSERT INTO assets (cdt, owner, creator, kind, proof, children, name, title, endpoint, "
    "withdrawn, state, seen_at) VALUES (?, ?, ?, ?, ?, x'', ?, ?, ?, ?, 'announced', ?) "
    "ON CONFLICT (cdt) DO UPDATE SET withdrawn = excluded.withdrawn, endpoint = "
    "CASE state WHEN 'confirmed' THEN endpoint ELSE excluded.endpoint END "
    "WHERE owner = excluded.owner"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset as this node sees it; `children` are their ids, one after another.

    `epoch` counts changes of ownership; `salt` (decimal) is a part of the id; `id` is this
    database's own number of it, higher for those heard of later.
    """

    id: int
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
    withdrawn: int

    @property
    def child_ids(self) -> tuple[CdtId, ...]:
        """The children in rising order."""
        return tuple(CdtId(self.children[at : at + 32]) for at in range(0, len(self.children), 32))

    @property
    def standing(self) -> str:
        """One of STATES: what a person is shown."""
        return "withdrawn" if self.withdrawn and self.state != "invalid" else self.state

    @property
    def why(self) -> str:
        """The reason for its standing, where there is one."""
        return WITHDRAWN if self.standing == "withdrawn" else self.reason


def find(db: Database, cdt: bytes) -> Asset | None:
    """The asset, or None if neither the chain nor a peer has spoken of it."""
    return first(db, Asset, "assets WHERE cdt = ?", [cdt])


def children(db: Database, cdt: bytes) -> tuple[CdtId, ...]:
    """The children of a confirmed asset, in rising order; Fault `cdt-unknown`."""
    return confirmed(db, cdt)[0].child_ids


JUDGED_AT_ONCE = 8
"""So many assets of one document are judged in one transaction."""


def confirmed(db: Database, cdt: bytes) -> tuple[Asset, Metadata]:
    """The asset and its document; Fault `cdt-unknown` unless it is confirmed.

    A withdrawn one is: what was granted of it may still be used.
    """
    asset = find(db, cdt)
    if asset is None:
        raise Fault("cdt-unknown", f"no asset {hexadecimal(cdt)} is known here")
    if asset.state != "confirmed":
        why = asset.reason or "its registration is not confirmed here yet"
        raise Fault("cdt-unknown", f"asset {hexadecimal(cdt)} is only {asset.state}: {why}")
    return asset, documents.parse(body_of(db, asset.proof))


def every(db: Database) -> list[Asset]:
    """All assets, in the order in which they were heard of."""
    return select(db, Asset, "assets ORDER BY id")


def counted(db: Database) -> dict[str, int]:
    """How many assets are shown in each of STATES; those with none left out."""
    rows = db.execute(
        "SELECT CASE WHEN withdrawn AND state != 'invalid' THEN 'withdrawn' ELSE state END, "
        "count(*) FROM assets GROUP BY 1"
    )
    return {str(state): int(count) for state, count in rows.fetchall()}


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
    """Afterwards the document is stored, and the assets that it proves are judged anew.

    Only JUDGED_AT_ONCE of them: one document may be registered for thousands, and each takes a
    search index's time. `unjudged` names the rest. It is an asset's or an organisation's.
    RemoteProtocolError, and nothing stored, if it breaks a rule.
    """
    if not organisation.is_one(body):
        documents.parse(body)
    proof = documents.proof_of(body)
    tx.db.execute("INSERT OR IGNORE INTO documents VALUES (?, ?, ?)", [proof, body, tx.now])
    rows = tx.db.execute(
        "SELECT cdt FROM assets WHERE proof = ? ORDER BY state = 'registered' DESC LIMIT ?",
        [proof, JUDGED_AT_ONCE],
    )
    for (cdt,) in rows.fetchall():
        judge(tx, cdt)
    return proof


def unjudged(db: Database, proof: bytes) -> list[bytes]:
    """The registered assets whose document is here, and which nobody has judged by it yet."""
    rows = db.execute("SELECT cdt FROM assets WHERE proof = ? AND state = 'registered'", [proof])
    return [cdt for (cdt,) in rows.fetchall()]


def heard_of(
    tx: Transaction,
    cdt: bytes,
    owner: bytes,
    kind: str,
    proof: bytes,
    name: str,
    endpoint: str,
    *,
    withdrawn: bool = False,
) -> None:
    """Afterwards the asset is at least announced; what chain and document say of it stays.

    Where its owner is another than the announced one, nothing is changed: only an owner moves or
    withdraws its asset.
    """
    values = [cdt, owner, owner, kind, proof, name, asset_words.spelled(name), endpoint]
    tx.db.execute(_ANNOUNCED, [*values, withdrawn, tx.now])


def unregistered(db: Database, owner: bytes) -> int:
    """How many assets of this owner were announced and are on no chain, as far as is known."""
    rows = db.execute(
        "SELECT count(*) FROM assets WHERE owner = ? AND state = 'announced'", [owner]
    )
    return int(rows.fetchone()[0])


def offered(tx: Transaction, cdt: bytes, *, withdrawn: bool) -> None:
    """Afterwards the asset is withdrawn, or is not any more, as its owner wishes."""
    tx.db.execute("UPDATE assets SET withdrawn = ? WHERE cdt = ?", [withdrawn, cdt])


def forget_unannounced(tx: Transaction) -> None:
    """Afterwards no asset is here that neither the chain nor an announcement speaks of."""
    tx.db.execute(
        "DELETE FROM assets WHERE state = 'announced' AND NOT EXISTS "
        "(SELECT 1 FROM announcements n WHERE n.cdt = assets.cdt)"
    )


def registered(
    tx: Transaction,
    cdt: bytes,
    owner: bytes,
    kind: str,
    proof: bytes,
    salt: int,
    children: tuple[bytes, ...] = (),
    *,
    creator: bytes | None = None,
    epoch: int = 0,
) -> None:
    """Afterwards the asset is what the chain says, and is judged by its document."""
    values = [owner, creator or owner, kind, proof, b"".join(children), str(salt), epoch, tx.now]
    tx.db.execute(_FROM_CHAIN, [cdt, *values])
    judge(tx, cdt)


def take_from_chain(tx: Transaction, cdt: bytes) -> Asset | None:
    """Afterwards the asset is what the followed chain says and its document makes of it.

    None, and no row, if the chain does not say anything of it (any more).
    """
    said = tree.asset(tx.db, cdt)
    if said is None:
        tx.db.execute("DELETE FROM assets WHERE cdt = ?", [cdt])
        return None
    kind = KIND_NAMES.get(said.kind, "unknown")
    registered(
        tx,
        cdt,
        said.owner,
        kind,
        said.proof,
        said.salt,
        said.children,
        creator=said.creator,
        epoch=said.epoch,
    )
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
        tx.db.execute(
            "UPDATE assets SET state = 'invalid', reason = ? WHERE cdt = ?", [str(error), cdt]
        )
        return
    title, body = asset_words.spelled(metadata.name), asset_terms.words(metadata)
    tx.db.execute(
        "UPDATE assets SET state = 'confirmed', reason = '', name = ?, endpoint = ?, title = ?, "
        "body = ?, terms = ? WHERE cdt = ?",
        [metadata.name, metadata.endpoint, title, body, asset_terms.tokens(metadata), cdt],
    )


def _check_against_chain(asset: Asset, metadata: Metadata) -> None:
    if metadata.type != asset.kind:
        raise RemoteProtocolError(
            f"the document is of type {metadata.type}, the registry says {asset.kind}"
        )
    if metadata.children != tuple(hexadecimal(child) for child in asset.child_ids):
        raise RemoteProtocolError("the document names other children than the registry")
