"""The catalogue: announcements by gossip and by reconciliation, judged by the chain.

An announcement is a signed hint. It counts only from the peer that speaks for the asset's owner,
at a bounded rate for each AUTHOR (a forwarder may carry many), and it decides nothing: an asset
counts only when its document hashes to the proof that its owner registered on chain. What is not
news is not relayed, so a message that is played again ends at the first node.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import trio

from node import assets
from node.announcements import Announcements, Heard, of_asset, opened
from node.announcing import ANNOUNCE
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine, Transaction
from node.errors import Fault
from node.host import Host
from node.log import get_logger
from node.standing import AuthorRate
from node.waiting_room import WaitingRoom
from protocol.binding import Binding
from protocol.errors import RemoteProtocolError
from protocol.messages import Announcement
from protocol.peers import peer_id_of

log = get_logger("catalogue")

LIFE_MOST_S = 48 * 3_600
AUTHOR_PER_SECOND = 2.0
AUTHOR_BURST = 120
UNREGISTERED_MOST = 1_000
SEEN_MOST = 8_192
TAKEN_AT_ONCE = 32
SAID_BEFORE_S = 5.0
SWEEP_S = 300.0
WAITING_S = 10.0

Verdict = Literal["news", "old", "waiting", "refused", "early"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of announcements that a peer handed over.

    `entries` are those of all; `unwanted` those that were refused, or wait; `early` those of
    owners of whom too many assets are on no chain, as far as this node has followed it.
    """

    news: int
    entries: frozenset[bytes]
    unwanted: tuple[bytes, ...]
    early: tuple[bytes, ...]


class Catalogue:
    """Hears of assets, and tells which announcements are news."""

    def __init__(
        self,
        engine: Engine,
        host: Host,
        directory: Directory,
        exchange: DocumentExchange,
        announcements: Announcements,
    ) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        self._exchange = exchange
        self._announcements = announcements
        self._rate = AuthorRate(AUTHOR_PER_SECOND, AUTHOR_BURST)
        self._waiting = WaitingRoom()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._on_promoted: list[Callable[[], None]] = []
        host.on_gossip(self.acceptable, self.receive)

    def acceptable(self, author: str, data: bytes) -> bool:
        """True if the gossip message is worth keeping and passing on. Never raises."""
        if not self._is_unseen(data):
            return False
        try:
            heard = opened(data)
            if not self._rate.allows(heard.author.hex(), trio.current_time()):
                return False
            return self._judge(heard) == "news"
        except (RemoteProtocolError, Fault) as error:
            log.debug("announcement refused", author=author, why=str(error))
            return False

    async def receive(self, _author: str, data: bytes) -> None:
        """An announcement that `acceptable` let through: newer ones are kept, documents fetched."""
        try:
            self._keep([opened(data)])
        except Fault as fault:  # reconciliation brings it again
            log.warning("announcement not kept", why=fault.sentence)

    async def take(self, bodies: Sequence[bytes], expected: Iterable[bytes]) -> Taken:
        """What a peer hands over is judged as gossip is, but for the rate of its authors.

        RemoteProtocolError if one has not an `expected` entry, a wrong form or a wrong signature:
        no node keeps such. Those before it were taken.
        """
        awaited, judged, news = set(expected), list[tuple[Verdict, bytes]](), 0
        for at in range(0, len(bodies), TAKEN_AT_ONCE):
            await trio.lowlevel.checkpoint()
            batch = [opened(data) for data in bodies[at : at + TAKEN_AT_ONCE]]
            if any(heard.entry not in awaited for heard in batch):
                raise RemoteProtocolError("an announcement that was not asked for")
            verdicts = [self._judge(heard) for heard in batch]
            paired = zip(batch, verdicts, strict=True)
            news += self._keep([heard for heard, verdict in paired if verdict == "news"])
            judged += zip(verdicts, (heard.entry for heard in batch), strict=True)
        return Taken(
            news,
            frozenset(entry for _, entry in judged),
            tuple(entry for verdict, entry in judged if verdict in ("waiting", "refused")),
            tuple(entry for verdict, entry in judged if verdict == "early"),
        )

    async def promote(self) -> int:
        """Afterwards nobody waits who can be judged by now. How many became news."""
        waiting, news = self._waiting.everyone(), 0
        for at in range(0, len(waiting), TAKEN_AT_ONCE):
            await trio.lowlevel.checkpoint()
            batch = waiting[at : at + TAKEN_AT_ONCE]
            judged = [(heard, self._judge(heard)) for heard in batch]
            for heard, verdict in judged:
                if verdict != "waiting":
                    self._waiting.leave(heard)
            news += self._keep([heard for heard, verdict in judged if verdict == "news"])
        return news

    async def run(self) -> None:
        """Promotes those who wait and removes what is past, for as long as the node lives."""
        swept_at = trio.current_time()
        while True:
            await trio.sleep(WAITING_S)
            try:
                if await self.promote():
                    self._tell_promoted()
                if trio.current_time() >= swept_at + SWEEP_S:
                    swept_at = trio.current_time()
                    await self.sweep()
            except Fault as fault:
                log.warning("catalogue not tidied", why=fault.sentence)

    def on_promoted(self, action: Callable[[], None]) -> None:
        """`action` is called each time that announcements which had waited became news."""
        self._on_promoted.append(action)

    async def sweep(self) -> None:
        """Afterwards nothing past, unbound or about another's asset is announced here."""
        if await self._announcements.sweep(self._directory.bound):
            with self._engine.transaction() as tx:
                assets.forget_unannounced(tx)

    # ------------------------------------------------------------------ judging

    def _is_unseen(self, data: bytes) -> bool:
        digest = sha256(data).digest()
        if digest in self._seen:
            return False
        self._seen[digest] = None
        if len(self._seen) > SEEN_MOST:
            self._seen.popitem(last=False)
        return True

    def _judge(self, heard: Heard) -> Verdict:
        """What is to become of it. A false binding is nobody's fault but its author's."""
        said = heard.announcement
        now = self._engine.clock()
        if now >= heard.ends_at() or said.not_after > now + LIFE_MOST_S:
            return "refused"
        if not self._announcements.is_news(heard):
            return "old"
        if said.binding is not None and not self._hear_binding(said, said.binding):
            return "refused"
        return self._judge_claim(heard)

    def _judge_claim(self, heard: Heard) -> Verdict:
        """Whether its author may speak of the asset, by the chain and by who is bound to whom."""
        said = heard.announcement
        known = assets.find(self._engine.db, said.cdt)
        if known is not None and known.state != "announced" and known.owner != said.owner:
            return "refused"
        contested = known is not None and known.owner != said.owner
        if contested or not self._directory.bound(said.owner, heard.author):
            self._waiting.put(heard)
            return "waiting"
        if known is None and self._has_too_many(said.owner):
            return "early"
        return "news"

    def _has_too_many(self, owner: bytes) -> bool:
        return assets.unregistered(self._engine.db, owner) >= UNREGISTERED_MOST

    def _hear_binding(self, said: Announcement, binding: Binding) -> bool:
        """False if it would be news and is false or past."""
        bindings = self._directory.bindings
        if binding.account != said.owner or binding.seq <= bindings.latest_seq(said.owner):
            return True
        try:
            # Asked before a transaction is opened: what strangers show is hardly ever kept.
            if bindings.is_news(binding, self._engine.clock()):
                bindings.check(binding)
                with self._engine.transaction() as tx:
                    bindings.keep(tx, binding)
        except RemoteProtocolError as error:
            log.debug("binding refused", account=said.owner.hex(), why=str(error))
            return False
        return True

    # ------------------------------------------------------------------ keeping

    def _keep(self, found: list[Heard]) -> int:
        """How many were news indeed: of two about one asset in one batch, the newer stays."""
        kept = 0
        if not found:
            return 0
        with self._engine.transaction() as tx:
            for heard in found:
                if self._announcements.is_news(heard):
                    said = heard.announcement
                    self._announcements.keep(tx, heard)
                    _hear(tx, said)
                    self._exchange.want(tx, said.cdt, said.proof)
                    if peer_id_of(heard.author) == self._directory.own.peer_id:
                        # Said before this database was lost: it is to be said anew, as newer.
                        tx.owe(ANNOUNCE, said.cdt, after_s=SAID_BEFORE_S)
                    kept += 1
        for heard in found:
            said, author = heard.announcement, peer_id_of(heard.author)
            if said.endpoint == author and said.addresses:
                self._host.learn(author, said.addresses, "announcement")
        return kept

    def _tell_promoted(self) -> None:
        for action in self._on_promoted:
            action()


def restore(tx: Transaction, cdt: bytes) -> None:
    """Afterwards an asset that the chain has taken back is what announcements say of it."""
    for said in of_asset(tx.db, cdt):
        _hear(tx, said)


def _hear(tx: Transaction, said: Announcement) -> None:
    assets.heard_of(
        tx,
        said.cdt,
        said.owner,
        said.kind,
        said.proof,
        said.name,
        said.endpoint,
        withdrawn=said.withdrawn,
    )
