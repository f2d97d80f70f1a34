"""The catalogue: announcements by gossip, judged by the chain.

An announcement is a signed hint. It is accepted only from the peer that this node's own
configuration binds to the asset's owner, at a bounded rate for each AUTHOR (a forwarder may carry
many), and it decides nothing: an asset counts only when its document hashes to the proof that its
owner registered on chain.
"""

from node import assets
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Again, Engine, Owed, Transaction
from node.errors import Fault
from node.host import Host
from node.keys import PeerKey
from node.log import get_logger
from node.standing import AuthorRate
from protocol import codec, envelope
from protocol.envelope import Signed
from protocol.errors import RemoteProtocolError
from protocol.messages import (
    MAX_ANNOUNCEMENT_BYTES,
    Announcement,
)
from protocol.peers import peer_key

log = get_logger("catalogue")

ANNOUNCE = "announce"

ANNOUNCEMENT_LIFE_S = 24 * 3600
REANNOUNCE_S = 20.0
AUTHOR_PER_SECOND = 2.0
AUTHOR_BURST = 120
UNREGISTERED_MOST = 1000


class Catalogue:
    """Announces this node's assets and hears of others'."""

    def __init__(
        self,
        engine: Engine,
        host: Host,
        directory: Directory,
        key: PeerKey,
        exchange: DocumentExchange,
    ) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        self._key = key
        self._exchange = exchange
        self._rate = AuthorRate(AUTHOR_PER_SECOND, AUTHOR_BURST)
        engine.perform(ANNOUNCE, self._announce)
        host.on_gossip(self.acceptable, self.receive)

    def acceptable(self, author: str, data: bytes) -> bool:
        """True if the gossip message is worth keeping and passing on. Never raises."""
        try:
            signed, announcement = _opened(data)
            self._check_author(signed, announcement)
        except RemoteProtocolError as error:
            log.debug("announcement refused", author=author, why=str(error))
            return False
        return self._rate.allows(signed.key.hex(), self._engine.clock())

    async def receive(self, _author: str, data: bytes) -> None:
        """An announcement that `acceptable` let through: newer ones are kept, documents fetched."""
        signed, announcement = _opened(data)
        try:
            with self._engine.transaction() as tx:
                if self._is_news(tx, signed, announcement):
                    self._keep(tx, signed, announcement, data)
        except Fault as fault:  # it will be announced again
            log.warning("announcement not kept", why=fault.sentence)

    def _check_author(self, signed: Signed, announcement: Announcement) -> None:
        now = self._engine.clock()
        if not now < announcement.not_after <= now + 2 * ANNOUNCEMENT_LIFE_S:
            raise RemoteProtocolError("the announcement is past, or valid for too long")
        owner = self._directory.of_account(announcement.owner)
        if owner is None or signed.key != peer_key(owner.peer_id):
            raise RemoteProtocolError("the author is not bound to the owner it names")
        db = self._engine.db
        known = assets.find(db, announcement.cdt)
        if known is not None and known.owner != announcement.owner:
            raise RemoteProtocolError("the asset is another owner's")
        if known is None and assets.unregistered(db, announcement.owner) >= UNREGISTERED_MOST:
            raise RemoteProtocolError("too many assets of this owner are on no chain")

    def _is_news(self, tx: Transaction, signed: Signed, announcement: Announcement) -> bool:
        row = tx.db.execute(
            "SELECT seq FROM announcements WHERE cdt = ? AND author = ?",
            [announcement.cdt, signed.key],
        ).fetchone()
        return row is None or announcement.seq > row[0]

    def _keep(
        self, tx: Transaction, signed: Signed, announcement: Announcement, data: bytes
    ) -> None:
        tx.db.execute(
            "INSERT OR REPLACE INTO announcements VALUES (?, ?, ?, ?, ?)",
            [announcement.cdt, signed.key, announcement.seq, announcement.not_after, data],
        )
        _hear(tx, announcement)
        self._exchange.want(tx, announcement.cdt, announcement.proof)

    def announce(self, tx: Transaction, cdt: bytes) -> None:
        """Owe the gossiping of one of this node's own confirmed assets, now and periodically."""
        tx.owe(ANNOUNCE, cdt)

    async def _announce(self, owed: Owed) -> Again | None:
        asset = assets.find(self._engine.db, owed.key)
        if asset is None or asset.state != "confirmed":
            return Again(1.0)
        now = self._engine.clock()
        announcement = Announcement(
            cdt=asset.cdt,
            owner=asset.owner,
            proof=asset.proof,
            kind=asset.kind,
            name=asset.name,
            endpoint=self._directory.own.peer_id,
            addresses=self._host.addresses[:8],
            seq=int(now * 1000),
            not_after=int(now) + ANNOUNCEMENT_LIFE_S,
        )
        await self._host.publish(codec.encode(envelope.seal(announcement, self._key.signing_key)))
        return Again(REANNOUNCE_S)


def restore(tx: Transaction, cdt: bytes) -> None:
    """Afterwards an asset that the chain has taken back is what announcements say of it."""
    rows = tx.db.execute("SELECT body FROM announcements WHERE cdt = ? ORDER BY seq", [cdt])
    for (body,) in rows.fetchall():
        _, announcement = _opened(body)
        _hear(tx, announcement)


def _hear(tx: Transaction, announcement: Announcement) -> None:
    assets.heard_of(
        tx,
        announcement.cdt,
        announcement.owner,
        announcement.kind,
        announcement.proof,
        announcement.name,
        announcement.endpoint,
    )


def _opened(data: bytes) -> tuple[Signed, Announcement]:
    signed = codec.decode(data, Signed, limit=MAX_ANNOUNCEMENT_BYTES)
    return signed, envelope.open_signed(signed, Announcement)
