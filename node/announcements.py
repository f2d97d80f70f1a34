"""The announcements that this node holds, and the set of their entries for reconciliation.

One for each asset and author, the newest. The set is built at its first use and then follows the
table: every write takes the next `change` number, so what a transaction did not commit is never
seen, and rows are removed by `sweep` alone, which takes them out of the set too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio
from sqlite_utils import Database

from node.engine import Engine, Transaction
from protocol import codec, envelope
from protocol.envelope import Signed
from protocol.messages import MAX_ANNOUNCEMENT_BYTES, Announcement
from protocol.reconciliation import EntrySet, entry_of

CLOCKS_APART_S = 600
"""So long after its end an announcement still counts: clocks of organisations are minutes apart."""

WITHDRAWN_AFTER_END_S = 3_600
"""So long after its end a withdrawal counts, so that no older announcement outlives it."""

REMOVED_AT_ONCE = 10_000
SLICE = 4_000
"""So many rows are looked at before others have their turn."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An announcement whose form and signature are right, and its bytes as they travel."""

    announcement: Announcement
    author: bytes
    data: bytes
    entry: bytes

    @property
    def order(self) -> tuple[int, bytes]:
        """Of two by one author about one asset, the greater is the newer, at every node alike."""
        return self.announcement.seq, self.entry

    def ends_at(self) -> int:
        """The Unix time from which it does not count any more, here where clocks may be apart."""
        after = WITHDRAWN_AFTER_END_S if self.announcement.withdrawn else CLOCKS_APART_S
        return self.announcement.not_after + after


def opened(data: bytes) -> Heard:
    """The announcement in `data`; RemoteProtocolError if form or signature is wrong."""
    signed = codec.decode(data, Signed, limit=MAX_ANNOUNCEMENT_BYTES)
    announcement = envelope.open_signed(signed, Announcement)
    entry = entry_of(announcement.cdt, signed.key, data)
    return Heard(announcement, signed.key, data, entry)


class Announcements:
    """The table `announcements` and its entries."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._entries = EntrySet()
        self._followed = 0
        self._built = False
        self._lock = trio.Lock()

    async def build(self) -> None:
        """Afterwards `entries` is quick. The first time, in slices: others have their turn."""
        async with self._lock:
            if self._built:
                return
            self._built = True
            if self._followed:  # followed from its beginning by `entries`
                return
            last = self._engine.db.execute("SELECT max(change) FROM announcements").fetchone()[0]
            found: list[bytes] = []
            while rows := self._after(found[-1] if found else b""):
                found += [entry for (entry,) in rows]
                await trio.lowlevel.checkpoint()
            entries = EntrySet(found)
            for number in range(256):
                entries.fingerprint(f"{number:02x}")
                await trio.lowlevel.checkpoint()
            if not self._followed:
                self._entries, self._followed = entries, last or 0

    def entries(self) -> EntrySet:
        """The entries of all that is kept. Not for use within a transaction."""
        rows = self._engine.db.execute(
            "SELECT change, entry FROM announcements WHERE change > ?", [self._followed]
        )
        for change, entry in rows:
            self._followed = max(self._followed, change)
            self._entries.replace(entry)
        return self._entries

    def _after(self, entry: bytes) -> list[tuple[bytes]]:
        sql = "SELECT entry FROM announcements WHERE entry > ? ORDER BY entry LIMIT ?"
        return list(self._engine.db.execute(sql, [entry, SLICE]).fetchall())

    def is_news(self, heard: Heard) -> bool:
        """True if nothing as new is held of this author about this asset."""
        kept = self._engine.db.execute(
            "SELECT seq, entry FROM announcements WHERE cdt = ? AND author = ?",
            [heard.announcement.cdt, heard.author],
        ).fetchone()
        return kept is None or heard.order > tuple(kept)

    def of(self, cdt: bytes, author: bytes) -> Announcement | None:
        """What this author says about this asset, or None."""
        row = self._engine.db.execute(
            "SELECT body FROM announcements WHERE cdt = ? AND author = ?", [cdt, author]
        ).fetchone()
        return None if row is None else opened(row[0]).announcement

    def keep(self, tx: Transaction, heard: Heard) -> None:
        """Afterwards this is what its author says about its asset."""
        said = heard.announcement
        tx.db.execute(
            "INSERT OR REPLACE INTO announcements "
            "(cdt, author, owner, seq, not_after, withdrawn, entry, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [said.cdt, heard.author, said.owner, said.seq, said.not_after, said.withdrawn,
             heard.entry, heard.data],
        )  # fmt: skip

    def bodies(self, entries: Iterable[bytes], most_bytes: int) -> tuple[list[bytes], int]:
        """Announcements with these entries until they are `most_bytes`; how many were looked up."""
        found: list[bytes] = []
        size = reached = 0
        for entry in entries:
            if size >= most_bytes:
                break
            reached += 1
            row = self._engine.db.execute(
                "SELECT body FROM announcements WHERE entry = ?", [entry]
            ).fetchone()
            if row is not None:
                found.append(bytes(row[0]))
                size += len(row[0])
        return found, reached

    async def sweep(self, is_bound: Callable[[bytes, bytes], bool]) -> int:
        """Afterwards nothing is held that is past, of an unbound author or of another's asset.

        `is_bound(owner, author)`. The number of announcements that were removed; if they are
        very many, the rest is left for the next time.
        """
        async with self._lock:
            gone = _past(self._engine.db, int(self._engine.clock()))
            gone += self._of_unbound(is_bound)
            gone += await self._of_others()
            if gone:
                if self._followed:
                    self.entries()  # else an entry that was replaced unseen would stay
                with self._engine.transaction() as tx:
                    for change, _ in gone:
                        tx.db.execute("DELETE FROM announcements WHERE change = ?", [change])
                for _, entry in gone:
                    self._entries.discard(entry)
            return len(gone)

    def _of_unbound(self, is_bound: Callable[[bytes, bytes], bool]) -> list[tuple[int, bytes]]:
        db, gone = self._engine.db, list[tuple[int, bytes]]()
        for author, owner in db.execute("SELECT DISTINCT author, owner FROM announcements"):
            if len(gone) >= REMOVED_AT_ONCE:
                break
            if not is_bound(owner, author):
                gone += db.execute(
                    "SELECT change, entry FROM announcements WHERE author = ? AND owner = ? "
                    "LIMIT ?",
                    [author, owner, REMOVED_AT_ONCE - len(gone)],
                ).fetchall()
        return gone

    async def _of_others(self) -> list[tuple[int, bytes]]:
        """Those that the chain says belong to another owner than they name."""
        db, gone = self._engine.db, []
        last = db.execute("SELECT max(change) FROM announcements").fetchone()[0] or 0
        for at in range(0, last + 1, SLICE):
            gone += db.execute(
                "SELECT n.change, n.entry FROM announcements n JOIN assets s USING (cdt) "
                "WHERE n.change BETWEEN ? AND ? AND s.state != 'announced' AND s.owner != n.owner",
                [at, at + SLICE - 1],
            ).fetchall()
            await trio.lowlevel.checkpoint()
        return gone[:REMOVED_AT_ONCE]


def _past(db: Database, now: int) -> list[tuple[int, bytes]]:
    rows = db.execute(
        "SELECT change, entry FROM announcements "
        "WHERE not_after <= ? AND (NOT withdrawn OR not_after <= ?) LIMIT ?",
        [now - CLOCKS_APART_S, now - WITHDRAWN_AFTER_END_S, REMOVED_AT_ONCE],
    )
    return list(rows.fetchall())


def of_asset(db: Database, cdt: bytes) -> list[Announcement]:
    """What is announced of this asset, the newest last."""
    rows = db.execute("SELECT body FROM announcements WHERE cdt = ? ORDER BY seq", [cdt])
    return [opened(body).announcement for (body,) in rows.fetchall()]
