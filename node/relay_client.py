"""Being reached through relays, and reaching others through theirs (circuit relay v2).

A node behind NAT keeps a connection to each relay of its configuration and a reservation there;
then others may dial `…/p2p/RELAY/p2p-circuit`. A relay is trusted with nothing but to pass bytes:
inside the circuit both ends prove their peer ids by Noise, as on any connection, so a relay that
lies about who calls, or that answers in another's place, gets no connection.
"""

import time
from collections.abc import Iterable, Mapping

import trio

from node.errors import Fault
from node.host import Host
from node.libp2p_guard import GuardedStream
from node.log import get_logger
from node.relay_messages import HOP, STOP, HopMessage, Status, StopMessage, read, write
from node.streams import StreamBroken, reset
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.peers import peer_bytes

log = get_logger("node.relay")

TALK_S = 10.0
RETRY_S = 10.0
LEAST_S = 30.0
MOST_S = 3_600.0
CIRCUITS_MOST = 64


class RelayClient:
    """The circuits of one host. `relays` are the relays of the configuration, with addresses."""

    def __init__(self, host: Host, relays: Mapping[PeerId, Iterable[str]]) -> None:
        self._host = host
        self._relays = {relay: tuple(addresses) for relay, addresses in relays.items()}
        self._circuits = 0
        host.dialling.through_relay = self.connect
        if relays:
            host.serve_stream(STOP, self.accept)

    async def run(self) -> None:
        """Keeps a reservation at every relay. Never returns."""
        async with trio.open_nursery() as nursery:
            for relay, addresses in self._relays.items():
                self._host.know(relay, self._host.configured(relay) + addresses)
                nursery.start_soon(self._keep, relay, addresses)

    async def _keep(self, relay: PeerId, addresses: tuple[str, ...]) -> None:
        end = f"/p2p/{relay}/p2p-circuit/p2p/{self._host.peer_id}"
        while True:
            lasts_s, gone = 0.0, RETRY_S
            try:
                with trio.fail_after(TALK_S):
                    lasts_s = await self._reserve(relay)
            except (Fault, StreamBroken, RemoteProtocolError, trio.TooSlowError) as error:
                log.info("no reservation", relay=relay, reason=str(error) or "no answer in time")
            self._host.reachable_through(relay, [a + end for a in addresses] if lasts_s else [])
            if lasts_s:
                log.info("reachable through a relay", relay=relay)
                gone = max(LEAST_S, min(MOST_S, lasts_s) / 2)
            await self._until_gone(relay, gone)

    async def _until_gone(self, relay: PeerId, most_s: float) -> None:
        """Returns after `most_s`, or when the connection, and so the reservation, is lost."""
        with trio.move_on_after(most_s):
            while self._host.guard.is_connected(relay):
                await self._host.changed(relay)
            await trio.sleep(RETRY_S / 10)

    async def _reserve(self, relay: PeerId) -> float:
        """The seconds for which the relay has reserved, 0 if it refused."""
        stream = await self._host.open_stream(relay, HOP)
        try:
            await write(stream, HopMessage(type=HopMessage.RESERVE))
            answer = await read(stream, HopMessage)
            await stream.close()
        except BaseException:
            await reset(stream)
            raise
        if answer.type != HopMessage.STATUS or answer.status != Status.OK:
            log.info("refused by the relay", relay=relay, status=int(answer.status))
            return 0.0
        return max(0.0, float(answer.reservation.expire) - time.time())

    async def accept(self, relay: PeerId, stream: GuardedStream) -> None:
        """A circuit that a relay brings became a connection, and ended.

        Refused beyond CIRCUITS_MOST: connections through relays leave room for direct ones.
        """
        if relay not in self._relays:
            raise RemoteProtocolError("a circuit from a peer that is no relay of this node")
        with trio.fail_after(TALK_S):
            asked = await read(stream, StopMessage)
            if asked.type != StopMessage.CONNECT:
                raise RemoteProtocolError("a circuit must begin with its source")
            room = self._circuits < CIRCUITS_MOST
            status = Status.OK if room else Status.RESOURCE_LIMIT_EXCEEDED
            await write(stream, StopMessage(type=StopMessage.STATUS, status=status))
            if not room:
                await stream.close()
                return
        self._circuits += 1
        try:
            await self._host.guard.join_inwards(stream, relay)
        finally:
            self._circuits -= 1

    async def connect(self, relay: PeerId, peer_id: PeerId) -> None:
        """`peer_id` is connected through `relay`, which is connected; StreamBroken if not."""
        stream = await self._host.guard.open_stream(relay, HOP)
        message = HopMessage(type=HopMessage.CONNECT)
        message.peer.id = peer_bytes(peer_id)
        try:
            await write(stream, message)
            answer = await read(stream, HopMessage)
            if answer.type != HopMessage.STATUS or answer.status != Status.OK:
                raise StreamBroken(f"the relay {relay} says {_words(answer.status)}")
        except RemoteProtocolError as error:
            await reset(stream)
            raise StreamBroken(str(error)) from error
        except BaseException:
            await reset(stream)
            raise
        await self._host.guard.join_outwards(stream, peer_id, relay)


def _words(status: Status.ValueType) -> str:
    return Status.Name(status).lower().replace("_", " ") if status in Status.values() else "nothing"
