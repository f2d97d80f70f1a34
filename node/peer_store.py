"""What survives a restart about peers: addresses that others told, and bans in force.

Adversary: whoever can have an address told to this node, in any number, for any peer id.
Addresses come from signed announcements, from the chain's directory, and from discovery; none
is believed: a wrong one costs a dial, for the handshake proves who answers. So the rules here are
about room and order. The administrator's own addresses stand in the configuration, not here; they
are always tried first and nothing here replaces them. Each source has its own few places for a
peer, so that a chatty source displaces nothing that another told. Where the addresses lead to is
judged when they are dialled (`node.dialling`).

Bounded: PEERS_LIMIT peers, PER_SOURCE addresses from each source, BANS_LIMIT bans. When it is
full, peers that were never reached go first, those that were told longest ago before others. What
the disk does not take is logged and forgotten: it is not worth a connection.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

from sqlite_utils import Database

from node.addresses import dialable
from node.errors import Fault
from node.log import get_logger
from node.standing import Ban
from node.store import open_memory, writing
from protocol.ids import PeerId
from protocol.peers import is_peer_id

Source = Literal["configured", "chain", "announcement", "peer", "lookup", "local-network"]
"""Who told an address: "peer" is the peer itself over its own connection, "lookup" a third."""

FIRST_HAND: tuple[Source, ...] = ("chain", "announcement", "peer")

log = get_logger("node.peers")

PEERS_LIMIT = 2_000
PER_SOURCE = 4
BANS_LIMIT = 1_000
ADDRESS_LIMIT = 256
SUCCESS_EVERY_S = 60.0


class PeerStore:
    """The addresses and bans of one node. Its times are Unix seconds."""

    def __init__(self, db: Database | None = None, clock: Callable[[], float] = time.time) -> None:
        self._db = open_memory() if db is None else db
        self._clock = clock

    def learn(self, peer_id: str, addresses: Iterable[str], source: Source) -> bool:
        """Whether anything new is known afterwards: `source` says that `peer_id` has `addresses`.

        They replace what the same source said before, except the address that worked last. What
        cannot be dialled is left out without a word, for it is a peer's word.
        """
        if not is_peer_id(peer_id):
            return False
        told = self._usable(peer_id, addresses)[:PER_SOURCE]
        kept = {address: at for address, _, at in self._rows(peer_id, source)}
        worked = max((each for each in kept if kept[each]), key=lambda a: kept[a], default=None)
        wanted = dict.fromkeys(told + ([worked] if worked else []))
        if not told or wanted.keys() <= kept.keys():
            return False
        with self._writing():
            self._db.execute(
                "DELETE FROM peer_addresses WHERE source = ? AND peer_id = ?", [source, peer_id]
            )
            for place, address in enumerate(wanted):
                self._insert(peer_id, address, source, place, kept.get(address) or 0.0)
            self._make_room()
        return True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with writing(self._db):
                yield
        except Fault as fault:
            log.warning("not stored about a peer", why=fault.sentence)

    def _usable(self, peer_id: str, addresses: Iterable[str]) -> list[str]:
        usable: dict[str, None] = {}
        for address in addresses:
            if len(address) <= ADDRESS_LIMIT and len(usable) < PER_SOURCE:
                try:
                    usable[dialable(address, peer_id)] = None
                except Fault:
                    continue
        return list(usable)

    def _insert(self, peer_id: str, address: str, source: str, place: int, worked: float) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO peer_addresses VALUES (?, ?, ?, ?, ?, ?)",
            [peer_id, address, source, place, self._clock(), worked],
        )

    def _rows(self, peer_id: str, source: str) -> list[tuple[str, int, float]]:
        rows = self._db.execute(
            "SELECT address, place, worked_at FROM peer_addresses WHERE source = ? AND peer_id = ?"
            " ORDER BY place",
            [source, peer_id],
        )
        return list(rows.fetchall())

    def _make_room(self) -> None:
        self._db.execute(
            "DELETE FROM peer_addresses WHERE peer_id IN (SELECT peer_id FROM peer_addresses"
            " GROUP BY peer_id ORDER BY max(worked_at) DESC, max(told_at) DESC"
            " LIMIT -1 OFFSET ?)",
            [PEERS_LIMIT],
        )

    def addresses(self, peer_id: str) -> list[tuple[str, Source]]:
        """What others told of the peer's addresses: what worked last first, then by source."""
        rows = self._db.execute(
            "SELECT address, source, place, worked_at FROM peer_addresses"
            " WHERE peer_id = ? AND source != 'configured'",
            [peer_id],
        ).fetchall()
        order = get_args(Source)
        rows.sort(key=lambda row: (-row[3], order.index(row[1]), row[2]))
        first = dict.fromkeys(row[0] for row in rows)
        sources = {row[0]: row[1] for row in reversed(rows)}
        return [(address, sources[address]) for address in first]

    def peers(self, sources: Sequence[Source]) -> list[PeerId]:
        """Every peer of which one of `sources` told an address."""
        places = ", ".join("?" * len(sources))
        rows = self._db.execute(
            f"SELECT DISTINCT peer_id FROM peer_addresses WHERE source IN ({places})",  # noqa: S608
            sources,
        )
        return [PeerId(peer_id) for (peer_id,) in rows.fetchall()]

    def worked(self, peer_id: str, address: str, source: Source) -> None:
        """The peer answered at `address` just now. Stored at most once in SUCCESS_EVERY_S."""
        now = self._clock()
        known = {each: at for each, _, at in self._rows(peer_id, source)}
        if address in known and now - SUCCESS_EVERY_S < known[address] <= now:
            return
        with self._writing():
            if address not in known:
                self._insert(peer_id, address, source, PER_SOURCE, now)
            self._db.execute(
                "UPDATE peer_addresses SET worked_at = ? WHERE source = ? AND peer_id = ?"
                " AND address = ?",
                [now, source, peer_id, address],
            )
            if len(known) > PER_SOURCE:
                self._db.execute(
                    "DELETE FROM peer_addresses WHERE source = ? AND peer_id = ?"
                    " AND worked_at = (SELECT min(worked_at) FROM peer_addresses"
                    " WHERE source = ? AND peer_id = ?)",
                    [source, peer_id, source, peer_id],
                )

    def last_success(self, peer_id: str) -> float | None:
        """When the peer was last reached, to about SUCCESS_EVERY_S; None if never."""
        (at,) = self._db.execute(
            "SELECT max(worked_at) FROM peer_addresses WHERE peer_id = ?", [peer_id]
        ).fetchone()
        return at or None

    def ban(self, peer_id: str, reason: str, seconds: float) -> None:
        """The peer is banned for so long, after a restart too."""
        with self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO peer_bans VALUES (?, ?, ?)",
                [peer_id, reason, self._clock() + seconds],
            )
            self._db.execute("DELETE FROM peer_bans WHERE until <= ?", [self._clock()])
            self._db.execute(
                "DELETE FROM peer_bans WHERE peer_id IN (SELECT peer_id FROM peer_bans"
                " ORDER BY until DESC LIMIT -1 OFFSET ?)",
                [BANS_LIMIT],
            )

    def bans(self) -> list[Ban]:
        """The bans in force; `until` is the number of seconds that each of them has left."""
        now = self._clock()
        rows = self._db.execute(
            "SELECT peer_id, reason, until FROM peer_bans WHERE until > ?", [now]
        )
        return [Ban(peer_id, reason, until - now) for peer_id, reason, until in rows.fetchall()]
