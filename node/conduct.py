"""How peers behave, and what comes of it: who is let in, who loses standing, who is banned and why.

The guard tells here of whoever comes, goes and misbehaves (`node.libp2p_guard.Watcher`). Bans are
kept over a restart; what strangers cause is logged at a bounded rate.
"""

from collections.abc import Awaitable, Callable

import trio

from node.admission import Admission
from node.errors import Fault
from node.libp2p_guard import Guard
from node.log import get_logger
from node.peer_store import PeerStore
from node.peer_table import PeerTable
from node.standing import BAN_S, AuthorRate, Ban, Standing
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId

log = get_logger("node.host")

STEADY_AFTER_S = 5.0
PENALTY_PROTOCOL = 20.0
PENALTY_STREAM = 5.0
STRANGER_LINES_PER_SECOND = 0.5
STRANGER_LINES_BURST = 30.0
REASON_LIMIT = 300


class Conduct:
    """The standing of one host's peers. `nursery` lives as long as the host."""

    def __init__(
        self,
        guard: Guard,
        nursery: trio.Nursery,
        table: PeerTable,
        admission: Admission,
        store: PeerStore,
    ) -> None:
        self._guard = guard
        self._nursery = nursery
        self._table = table
        self._admission = admission
        self._store = store
        self._lines = AuthorRate(STRANGER_LINES_PER_SECOND, STRANGER_LINES_BURST)
        self.standing = _standing(store)
        self.on_connected: list[Callable[[PeerId], Awaitable[None]]] = []

    def admit(self, peer_id: str) -> str | None:
        """Why the peer is refused, or None. Asked by the guard."""
        ban = self.standing.ban(peer_id, trio.current_time())
        return self._admission.refuse_peer(peer_id) if ban is None else ban.reason

    def misbehaved(self, peer_id: str, error: Exception) -> None:
        """A stream of the peer ended in `error`. Told by the guard."""
        self.penalise(peer_id, PENALTY_STREAM, repr(error))

    def connected(self, peer_id: str) -> None:
        """The peer is here, and was not just before. Told by the guard."""
        peer = self._table.peer(peer_id)
        peer.connected_at = trio.current_time()
        self._table.seen(peer_id)
        self.tell("peer connected", peer_id)
        for action in self.on_connected:
            self._nursery.start_soon(self._welcome, action, peer_id)
        peer.wake()

    def disconnected(self, peer_id: str) -> None:
        """The peer is gone. Told by the guard.

        A short connection counts as a failure: two nodes of which one refuses the other would
        dial without pause.
        """
        peer = self._table.peer(peer_id)
        since = trio.current_time() - (peer.connected_at or trio.current_time())
        peer.failures = 0 if since >= STEADY_AFTER_S else peer.failures + 1
        peer.connected_at = None
        self.tell("peer disconnected", peer_id)
        peer.wake()

    def penalise(self, peer_id: str, points: float, reason: str) -> None:
        """The peer loses `points` of its standing for `reason`; banned, it is cut off."""
        self.tell("peer misbehaved", peer_id, reason=reason[:REASON_LIMIT])
        if self.standing.penalise(peer_id, points, reason[:REASON_LIMIT], trio.current_time()):
            self.tell("peer banned", peer_id, reason=reason[:REASON_LIMIT])
            self._store.ban(peer_id, reason[:REASON_LIMIT], BAN_S)
            self._nursery.start_soon(self._guard.sever, peer_id)

    def tell(self, event: str, peer_id: str, **values: str) -> None:
        """Logged, unless strangers cause it too often: identities are free, disks are not."""
        known = self._table.is_known(peer_id)
        if known or self._lines.allows(event, trio.current_time()):
            log.info(event, peer=peer_id, known=known, **values)

    def cut(self, peer_id: str, reason: str) -> None:
        """The peer was cut off, for it said nothing any more. Told by `node.liveness`."""
        self.tell("peer cut off", peer_id, reason=reason)

    async def _welcome(self, action: Callable[[PeerId], Awaitable[None]], peer_id: str) -> None:
        try:
            await action(PeerId(peer_id))
        except Fault as fault:
            log.debug("peer left early", peer=peer_id, reason=fault.sentence)
        except RemoteProtocolError as error:
            self.penalise(peer_id, PENALTY_PROTOCOL, str(error))
        except Exception:
            log.exception("welcome failed", peer=peer_id)


def _standing(store: PeerStore) -> Standing:
    """The bans that were in force when the node stopped are in force again."""
    standing, now = Standing(), trio.current_time()
    for ban in store.bans():
        standing.restore(Ban(ban.peer_id, ban.reason, now + ban.until))
    return standing
