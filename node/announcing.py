"""What this node announces: its own confirmed assets, at once and then a few times a day.

Gossip tells whoever listens now. Everybody else learns by reconciliation, so an announcement is
made anew only when what it says has changed or a third of its life is over.
"""

from collections.abc import Callable
from secrets import SystemRandom

import trio

from node import assets
from node.announcements import Announcements, opened
from node.assets import Asset
from node.directory import Directory
from node.engine import Again, Engine, Owed, Transaction
from node.errors import Fault
from node.host import Host
from node.keys import PeerKey
from node.log import get_logger
from node.standing import AuthorRate
from protocol import codec, envelope
from protocol.messages import Announcement

log = get_logger("announcing")

ANNOUNCE = "announce"
WITHDRAW = b"withdraw"
OFFER = b"offer"

LIFE_S = 24 * 3_600
REFRESH_S = 8 * 3_600
UNCONFIRMED_S = 30.0
MOVED_S = 30.0
ADDRESSES_MOST = 8
GOSSIP_PER_SECOND = 1.0
GOSSIP_BURST = 100
"""Below what others accept of one author; what is over it travels by reconciliation."""


class Announcing:
    """Announces, withdraws and refreshes this node's own assets."""

    def __init__(
        self,
        engine: Engine,
        host: Host,
        directory: Directory,
        key: PeerKey,
        announcements: Announcements,
    ) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        self._key = key
        self._author = bytes(key.signing_key.verify_key)
        self._announcements = announcements
        self._random = SystemRandom()
        self._rate = AuthorRate(GOSSIP_PER_SECOND, GOSSIP_BURST)
        self._on_announced: list[Callable[[], None]] = []
        engine.perform(ANNOUNCE, self._announce)

    def announce(self, tx: Transaction, cdt: bytes) -> None:
        """Owe the announcing of an own asset, as offered or withdrawn as it was before."""
        tx.owe(ANNOUNCE, cdt)

    def withdraw(self, tx: Transaction, cdt: bytes) -> None:
        """Owe telling everybody that this own asset is not offered any more."""
        tx.owe(ANNOUNCE, cdt, WITHDRAW)

    def offer(self, tx: Transaction, cdt: bytes) -> None:
        """Owe telling everybody that this own asset is offered, if it was withdrawn too."""
        tx.owe(ANNOUNCE, cdt, OFFER)

    def on_announced(self, action: Callable[[], None]) -> None:
        """`action` is called each time that an announcement of this node's own has changed."""
        self._on_announced.append(action)

    async def run(self) -> None:
        """Announces anew when this node's addresses have changed, for as long as it lives."""
        told: tuple[str, ...] | None = None
        while True:
            if told != self._addresses():
                told = self._addresses()
                try:
                    self.renew()
                except Fault as fault:
                    told = None
                    log.warning("addresses not announced", why=fault.sentence)
            await trio.sleep(MOVED_S)

    def renew(self) -> None:
        """Owe announcing every own asset of which other addresses were told."""
        rows = self._engine.db.execute(
            "SELECT body FROM announcements WHERE author = ?", [self._author]
        ).fetchall()
        said = [opened(body).announcement for (body,) in rows]
        moved = [each.cdt for each in said if each.addresses != self._addresses()]
        with self._engine.transaction() as tx:
            for cdt in moved:
                self.announce(tx, cdt)

    async def _announce(self, owed: Owed) -> Again | None:
        asset = assets.find(self._engine.db, owed.key)
        if asset is None or asset.owner != self._directory.own.account:
            return None
        if asset.state != "confirmed":
            return Again(UNCONFIRMED_S)
        data = self._made(asset, owed.body)
        with self._engine.transaction() as tx:
            self._announcements.keep(tx, opened(data))
            assets.offered(tx, asset.cdt, withdrawn=opened(data).announcement.withdrawn)
        if self._rate.allows("gossip", trio.current_time()):
            await self._host.publish(data)
        for action in self._on_announced:
            action()
        return Again(REFRESH_S * self._random.uniform(0.9, 1.1))

    def _made(self, asset: Asset, wish: bytes) -> bytes:
        """The next announcement of this asset. Its `seq` rises even if the clock went back."""
        now = self._engine.clock()
        before = self._announcements.of(asset.cdt, self._author)
        withdrawn = wish == WITHDRAW if wish else before is not None and before.withdrawn
        announcement = Announcement(
            cdt=asset.cdt,
            owner=asset.owner,
            proof=asset.proof,
            kind=asset.kind,
            name=asset.name,
            endpoint=self._directory.own.peer_id,
            addresses=self._addresses(),
            seq=max(int(now * 1_000), before.seq + 1 if before else 0),
            not_after=int(now) + LIFE_S,
            withdrawn=withdrawn,
            binding=self._directory.bindings.signed(asset.owner),
        )
        return codec.encode(envelope.seal(announcement, self._key.signing_key))

    def _addresses(self) -> tuple[str, ...]:
        return tuple(self._host.addresses[:ADDRESSES_MOST])
