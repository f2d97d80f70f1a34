"""When this node reconciles, and with whom: on connecting, after news, and every few minutes.

Of two peers that meet, the one with the lower id leads at once and the other a moment later, which
then finds nothing to do. News that came by reconciliation is passed on by reconciliation: the
neighbours of whoever was away hear of it within seconds, not at their next turn.
"""

from secrets import SystemRandom

import trio

from node.errors import Fault
from node.host import Host
from node.log import get_logger
from node.reconciling import Exchange, Reconciling
from protocol.ids import PeerId

log = get_logger("reconciling")

EVERY_S = 180.0
PEERS_AT_ONCE = 3
NEIGHBOURS_MOST = 8
FOLLOWING_S = 2.0
NEWS_S = 1.0
TRIES = 3
AGAIN_S = 5.0


class ReconcileSchedule:
    """Runs `Reconciling` at its times."""

    def __init__(self, host: Host, reconciling: Reconciling) -> None:
        self._host = host
        self._reconciling = reconciling
        self._random = SystemRandom()
        self._limiter = trio.CapacityLimiter(PEERS_AT_ONCE)
        self._busy: set[PeerId] = set()
        self._news = trio.Event()
        host.on_connected(self._met)

    def soon(self) -> None:
        """There is news that gossip may not have told everyone: the neighbours are asked soon."""
        self._news.set()

    async def run(self) -> None:
        """Reconciles with some peers every few minutes, with more after news. Never returns."""
        self.soon()
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(EVERY_S * self._random.uniform(0.5, 1.5)):
                    await self._news.wait()
                most = NEIGHBOURS_MOST if self._news.is_set() else PEERS_AT_ONCE
                await trio.sleep(NEWS_S * self._random.uniform(0.5, 1.5))
                self._news = trio.Event()
                for peer_id in self._some(most):
                    nursery.start_soon(self._once, peer_id)

    async def _met(self, peer_id: PeerId) -> None:
        """A peer that has just started may not serve yet: it is tried a few times."""
        if self._host.peer_id > peer_id:
            await trio.sleep(FOLLOWING_S * self._random.uniform(0.5, 1.5))
        for _ in range(TRIES):
            if await self._once(peer_id) or not self._is_connected(peer_id):
                return
            await trio.sleep(AGAIN_S * self._random.uniform(0.5, 1.5))

    async def _once(self, peer_id: PeerId) -> bool:
        """True if an exchange with this peer came to its end, or another one is under way."""
        if peer_id in self._busy:
            return True
        self._busy.add(peer_id)
        try:
            async with self._limiter:
                return await self._whole(peer_id)
        except Fault as fault:
            log.debug("not reconciled", peer=peer_id, why=fault.sentence)
            return False
        finally:
            self._busy.discard(peer_id)

    async def _whole(self, peer_id: PeerId) -> bool:
        """True if this came to its end; exchanges go on while they bring news.

        Not while they give: a peer might want the same again and again.
        """
        while True:
            exchange = await self._reconciling.with_peer(peer_id)
            if exchange.news:
                self.soon()
            if exchange.news or exchange.given:
                _tell(exchange)
            if exchange.finished or not exchange.news:
                return exchange.finished

    def _some(self, most: int) -> list[PeerId]:
        connected = [each.peer_id for each in self._host.peers() if each.connected]
        return self._random.sample(connected, min(most, len(connected)))

    def _is_connected(self, peer_id: PeerId) -> bool:
        return any(each.connected for each in self._host.peers() if each.peer_id == peer_id)


def _tell(exchange: Exchange) -> None:
    log.info(
        "reconciled",
        peer=exchange.peer_id,
        news=exchange.news,
        given=exchange.given,
        requests=exchange.requests,
        bytes=exchange.range_bytes,
        finished=exchange.finished,
    )
