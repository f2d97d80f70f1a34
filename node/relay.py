"""A relay: it passes bytes between peers of which one cannot be dialled (circuit relay v2).

Adversary: whoever uses it. What passes is a connection of the two ends' own (Noise inside), so a
relay reads and changes nothing of it; it learns who talks to whom, when, and how much. A peer
reserves for itself alone, whatever peer its message names. Everything has an end: reservations
and circuits in number, a circuit when nothing passes for IDLE_S, and what passes is paced by the
limits of node.libp2p_guard for each peer.

The library's own relay was rejected: it reserves for whatever peer a message names, keeps one
circuit for each peer (a second one takes the first one's place, and the end of either ends both),
and takes a stream's orderly end for an error that it retries for a second.
"""

import time
from collections import Counter

import trio
from base58 import b58encode

from node.addresses import CIRCUIT, binary
from node.host import Host
from node.libp2p_guard import GuardedStream
from node.log import get_logger
from node.relay_messages import HOP, STOP, HopMessage, Status, StopMessage, read, write
from node.streams import ByteStream, StreamBroken, reset
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.peers import is_peer_id, peer_bytes

__all__ = ["HOP", "Relay"]

log = get_logger("node.relay")

RESERVATIONS = 128
RESERVATION_S = 3_600.0
CIRCUITS = 256
CIRCUITS_OF_SOURCE = 8
CIRCUITS_OF_TARGET = 64
TALK_S = 10.0
IDLE_S = 120.0
PIECE = 65_536


class Relay:
    """The relay that `host` is for others."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._guard = host.guard
        self._reservations: dict[str, float] = {}
        self._sources: Counter[str] = Counter()
        self._targets: Counter[str] = Counter()

    async def serve(self, peer_id: PeerId, stream: GuardedStream) -> None:
        """One HOP stream: a reservation was made or a circuit ended.

        RemoteProtocolError, StreamBroken, TooSlowError.
        """
        with trio.fail_after(TALK_S):
            asked = await read(stream, HopMessage)
        if asked.type == HopMessage.RESERVE:
            answer = self._reserve(peer_id)
            with trio.fail_after(TALK_S):
                await write(stream, answer)
                await stream.close()
        elif asked.type == HopMessage.CONNECT:
            await self._connect(peer_id, _named(asked), stream)
        else:
            raise RemoteProtocolError("a relay is asked to reserve or to connect")

    def _reserve(self, peer_id: PeerId) -> HopMessage:
        now = trio.current_time()
        for other, until in list(self._reservations.items()):
            if until <= now or not self._guard.is_connected(other):
                del self._reservations[other]
        if self._guard.is_relayed(peer_id):
            return _status(Status.PERMISSION_DENIED)
        if len(self._reservations) >= RESERVATIONS and peer_id not in self._reservations:
            return _status(Status.RESERVATION_REFUSED)
        self._reservations[peer_id] = now + RESERVATION_S
        answer = _status(Status.OK)
        answer.reservation.expire = int(time.time() + RESERVATION_S)
        direct = [each for each in self._host.addresses if CIRCUIT not in each]
        answer.reservation.addrs.extend(binary(each) for each in direct)
        log.debug("reserved", peer=peer_id)  # strangers may ask for one as often as they like
        return answer

    async def _connect(self, source: PeerId, target: PeerId, stream: GuardedStream) -> None:
        refused = self._refuse(source, target)
        if refused is not None:
            with trio.fail_after(TALK_S):
                await write(stream, refused)
                await stream.close()
            return
        self._sources[source] += 1
        self._targets[target] += 1
        try:
            await self._circuit(source, target, stream)
        finally:
            for counter, key in ((self._sources, source), (self._targets, target)):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    def _refuse(self, source: PeerId, target: PeerId) -> HopMessage | None:
        if self._guard.is_relayed(source):
            return _status(Status.PERMISSION_DENIED)
        until = self._reservations.get(target, 0.0)
        if until <= trio.current_time() or not self._guard.is_connected(target):
            return _status(Status.NO_RESERVATION)
        if (
            self._sources[source] >= CIRCUITS_OF_SOURCE
            or self._targets[target] >= CIRCUITS_OF_TARGET
            or self._sources.total() >= CIRCUITS
        ):
            return _status(Status.RESOURCE_LIMIT_EXCEEDED)
        return None

    async def _circuit(self, source: PeerId, target: PeerId, near: GuardedStream) -> None:
        try:
            with trio.fail_after(TALK_S):
                far = await self._guard.open_stream(target, STOP)
                await _tell(far, source)
        except (StreamBroken, RemoteProtocolError, trio.TooSlowError) as error:
            log.debug("no circuit", source=source, target=target, reason=repr(error))
            with trio.fail_after(TALK_S):
                await write(near, _status(Status.CONNECTION_FAILED))
                await near.close()
            return
        try:
            with trio.fail_after(TALK_S):
                await write(near, _status(Status.OK))
            log.debug("circuit", source=source, target=target)
            await splice(near, far)
        finally:
            await reset(far)
            await reset(near)


async def _tell(far: GuardedStream, source: PeerId) -> None:
    """The target has accepted a circuit from `source`; otherwise `far` is reset."""
    message = StopMessage(type=StopMessage.CONNECT)
    message.peer.id = peer_bytes(source)
    try:
        await write(far, message)
        answer = await read(far, StopMessage)
        if answer.type != StopMessage.STATUS or answer.status != Status.OK:
            raise RemoteProtocolError("the other end did not accept the circuit")
    except BaseException:
        await reset(far)
        raise


async def splice(one: ByteStream, other: ByteStream, idle_s: float = IDLE_S) -> None:
    """What either says was passed to the other, until both ended, or one broke or fell silent."""
    idle = trio.CancelScope(deadline=trio.current_time() + idle_s)

    async def carry(source: ByteStream, sink: ByteStream) -> None:
        try:
            while data := await source.read(PIECE):
                idle.deadline = trio.current_time() + idle_s
                await sink.write(data)
            await sink.finish()
        except StreamBroken:
            nursery.cancel_scope.cancel()

    with idle:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry, one, other)
            nursery.start_soon(carry, other, one)


def _named(asked: HopMessage) -> PeerId:
    named = PeerId(b58encode(asked.peer.id).decode())
    if not is_peer_id(named):
        raise RemoteProtocolError("a circuit to something that is no peer id")
    return named


def _status(status: Status.ValueType) -> HopMessage:
    return HopMessage(type=HopMessage.STATUS, status=status)
