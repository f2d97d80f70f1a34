"""Pings that drop the dead (B14 of node.libp2p_guard): a stopped process, a pulled cable."""

from collections.abc import Callable
from secrets import SystemRandom

import trio

from node.libp2p_guard import Guard, Limits
from node.peer_table import PeerTable
from node.streams import StreamBroken
from protocol.errors import RemoteProtocolError


class Liveness:
    """Asks every connected peer now and then whether it is there; `cut(peer, why)` hears of it."""

    def __init__(
        self, guard: Guard, table: PeerTable, limits: Limits, cut: Callable[[str, str], None]
    ) -> None:
        self._guard = guard
        self._table = table
        self._limits = limits
        self._cut = cut
        self._random = SystemRandom()

    async def watch(self) -> None:
        """Pings every connected peer every `ping_interval_s` or so, and cuts off the silent."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._limits.ping_interval_s * self._random.uniform(0.8, 1.2))
                for peer_id in self._guard.connected():
                    nursery.start_soon(self._check, peer_id)

    async def _check(self, peer_id: str) -> None:
        """A peer that said anything since the question is alive, if it is too busy to answer."""
        asked = trio.current_time()
        reason = f"nothing heard for {self._limits.ping_timeout_s:g} s"
        with trio.move_on_after(self._limits.ping_timeout_s):
            try:
                self._table.peer(peer_id).round_trip_s = await self._guard.ping(peer_id)
            except (StreamBroken, RemoteProtocolError) as error:
                reason = str(error)
        if self._guard.heard_at(peer_id) >= asked:
            self._table.seen(peer_id)
        elif self._guard.is_connected(peer_id):
            self._cut(peer_id, reason)
            await self._guard.sever(peer_id)
