"""The peers that this node sees now: what is known of each while the process lives.

Bounded: peers that somebody asked to keep, those that are connected, and the last 1,000 others.
"""

import time
from collections.abc import Sequence

import trio

from node.libp2p_guard import Guard
from node.peer_store import PeerStore
from node.peers import PeerStatus
from node.standing import BAN_AT, Standing
from protocol.ids import PeerId

STRANGERS_LIMIT = 1_000


class Peer:
    """One peer's mutable state; `changed` is replaced each time that it is set."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.known = False
        self.changed = trio.Event()
        self.dialling = trio.Lock()
        self.failures = 0
        self.last_seen: float | None = None
        self.connected_at: float | None = None
        self.round_trip_s: float | None = None
        self.last_error = "it closed the connection"

    def wake(self) -> None:
        """Whoever waits for a change of this peer goes on."""
        self.changed.set()
        self.changed = trio.Event()


class PeerTable:
    """Every peer of which anything is known since the start."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def get(self, peer_id: str) -> Peer | None:
        """What is known of the peer, or None."""
        return self._peers.get(peer_id)

    def peer(self, peer_id: str) -> Peer:
        """What is known of the peer; from now on it is in the table."""
        found = self._peers.get(peer_id)
        if found is None:
            found = self._peers[peer_id] = Peer()
            self._forget_strangers()
        return found

    def seen(self, peer_id: str) -> None:
        """The peer said something just now."""
        self.peer(peer_id).last_seen = time.time()

    def is_known(self, peer_id: str) -> bool:
        """Whether a connection to the peer is kept."""
        peer = self._peers.get(peer_id)
        return peer is not None and peer.known

    def _forget_strangers(self) -> None:
        """Peer ids are free to make, so the memory of those who left has an end."""
        if len(self._peers) <= STRANGERS_LIMIT:
            return
        gone = [
            peer_id
            for peer_id, peer in self._peers.items()
            if not peer.known and peer.connected_at is None and not peer.dialling.locked()
        ]
        for peer_id in gone[:-STRANGERS_LIMIT]:
            del self._peers[peer_id]

    def statuses(self, guard: Guard, standing: Standing, store: PeerStore) -> list[PeerStatus]:
        """One for each peer, connected ones first."""

        def status(peer_id: str, peer: Peer) -> PeerStatus:
            ban = standing.ban(peer_id, now)
            remote = guard.remote_address(peer_id)
            elsewhere: Sequence[str] = peer.addresses
            last_seen = peer.last_seen
            if peer.known and remote is None:  # the store is not asked about every stranger
                elsewhere = elsewhere or [each for each, _ in store.addresses(peer_id)]
                last_seen = last_seen or store.last_success(peer_id)
            return PeerStatus(
                peer_id=PeerId(peer_id),
                address=remote or next(iter(elsewhere), ""),
                connected=remote is not None,
                last_seen=last_seen,
                failures=0 if remote else peer.failures,
                known=peer.known,
                round_trip_s=peer.round_trip_s,
                penalty=BAN_AT if ban else standing.penalty(peer_id, now),
                banned=ban.reason if ban else None,
                trouble=peer.last_error if peer.failures and remote is None else "",
            )

        now = trio.current_time()
        found = [status(peer_id, peer) for peer_id, peer in self._peers.items()]
        return sorted(found, key=lambda each: (not each.connected, each.peer_id))
