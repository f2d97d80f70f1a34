"""The announcements that this node holds, and the set of their entries for reconciliation.

One for each asset and author, the newest. The set is built at its first use and then follows the
table: every write takes the next `change` number, so what a transaction did not commit is never
seen, and rows are removed by `sweep` alone, which takes them out of the set too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

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

    def entries(self) -> EntrySet:
        """The entries of all that is kept. Not for use within a transaction."""
        if self._followed == 0:
            self._entries = EntrySet(self._changed())
        else:
            for entry in self._changed():
                self._entries.replace(entry)
        return self._entries

    def _changed(self) -> Iterator[bytes]:
        rows = self._engine.db.execute(
            "SELECT change, entry FROM announcements WHERE change > ?", [self._followed]
        )
        for change, entry in rows:  # of 100,000 a list would take more room than the set
            self._followed = max(self._followed, change)
            yield entry

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

    def sweep(self, is_bound: Callable[[bytes, bytes], bool]) -> int:
        """Afterwards nothing is held that is past, of an unbound author or of another's asset.

        `is_bound(owner, author)`. The number of announcements that were removed.
        """
        db, now = self._engine.db, int(self._engine.clock())
        gone = _past(db, now) + _of_others(db)
        pairs = db.execute("SELECT DISTINCT author, owner FROM announcements").fetchall()
        for author, owner in pairs:
            if not is_bound(owner, author):
                gone += db.execute(
                    "SELECT change, entry FROM announcements WHERE author = ? AND owner = ? "
                    "LIMIT ?",
                    [author, owner, REMOVED_AT_ONCE],
                ).fetchall()
        if gone:
            if self._followed:
                self.entries()  # else an entry that was replaced unseen would stay
            with self._engine.transaction() as tx:
                for change, _ in gone:
                    tx.db.execute("DELETE FROM announcements WHERE change = ?", [change])
            for _, entry in gone:
                self._entries.discard(entry)
        return len(gone)


def _past(db: Database, now: int) -> list[tuple[int, bytes]]:
    rows = db.execute(
        "SELECT change, entry FROM announcements "
        "WHERE not_after <= ? AND (NOT withdrawn OR not_after <= ?) LIMIT ?",
        [now - CLOCKS_APART_S, now - WITHDRAWN_AFTER_END_S, REMOVED_AT_ONCE],
    )
    return list(rows.fetchall())


def _of_others(db: Database) -> list[tuple[int, bytes]]:
    rows = db.execute(
        "SELECT n.change, n.entry FROM announcements n JOIN assets s USING (cdt) "
        "WHERE s.state != 'announced' AND s.owner != n.owner LIMIT ?",
        [REMOVED_AT_ONCE],
    )
    return list(rows.fetchall())


def of_asset(db: Database, cdt: bytes) -> list[Announcement]:
    """What is announced of this asset, the newest last."""
    rows = db.execute("SELECT body FROM announcements WHERE cdt = ? ORDER BY seq", [cdt])
    return [opened(body).announcement for (body,) in rows.fetchall()]
