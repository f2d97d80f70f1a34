"""Talking with peers: asking, being asked, saying without an answer, and gossip.

Adversary: whoever answers or asks. Its bytes end at most its stream and cost its standing (see
node.conduct); what a handler of ours raises is told as what it is: the peer's fault, nobody's, or
a bug of this node.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import trio

from node.conduct import PENALTY_PROTOCOL, Conduct
from node.dialling import Dialling
from node.errors import Fault
from node.libp2p_guard import Guard, GuardedStream
from node.log import get_logger
from node.peer_table import PeerTable
from node.peers import PeerRefused, PeerTimeout, PeerUnreachable
from node.standing import AuthorRate
from node.streams import FRAME_LIMIT, ByteStream, StreamBroken, answer, ask, reset
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import PeerId
from protocol.peers import is_peer_id

log = get_logger("node.host")

HANDLER_TIMEOUT_S = 30.0
GOSSIP_PER_SECOND = 100.0
GOSSIP_BURST = 400.0

Handler = Callable[[PeerId, bytes], Awaitable[bytes]]
StreamHandler = Callable[[PeerId, GuardedStream], Awaitable[None]]
Check = Callable[[PeerId, bytes], bool]
Receive = Callable[[PeerId, bytes], Awaitable[None]]


class Conversations:
    """What one host says and hears. `nursery` lives as long as the host."""

    def __init__(
        self,
        guard: Guard,
        nursery: trio.Nursery,
        table: PeerTable,
        dialling: Dialling,
        conduct: Conduct,
    ) -> None:
        self._guard = guard
        self._nursery = nursery
        self._table = table
        self._dialling = dialling
        self._conduct = conduct
        self._rate = AuthorRate(GOSSIP_PER_SECOND, GOSSIP_BURST)

    async def request(
        self, peer_id: PeerId, protocol: str, payload: bytes, *, timeout_s: float
    ) -> bytes:
        """The peer's answer to `payload` on `protocol`, at most FRAME_LIMIT bytes.

        A known peer that is not connected is dialled first, within the same `timeout_s`.
        PeerUnreachable, PeerTimeout, PeerRefused; RemoteProtocolError if its answer breaks the
        framing; LocalProtocolError if `payload` is over FRAME_LIMIT.
        """
        if not is_peer_id(peer_id):
            raise PeerUnreachable(peer_id, "that is no peer id")
        if len(payload) > FRAME_LIMIT:
            raise LocalProtocolError(f"a request of {len(payload)} bytes is over the limit")
        with trio.move_on_after(timeout_s):
            stream = await self.open_stream(peer_id, protocol)
            try:
                received = await ask(stream, payload)
            except StreamBroken as error:
                if self._guard.is_connected(peer_id):
                    raise PeerRefused(peer_id, protocol, str(error)) from error
                raise PeerUnreachable(peer_id, str(error)) from error
            except RemoteProtocolError as error:
                self._conduct.penalise(peer_id, PENALTY_PROTOCOL, f"{protocol}: {error}")
                raise
            self._table.seen(peer_id)
            return received
        raise PeerTimeout(peer_id, protocol, timeout_s)

    async def send(self, peer_id: PeerId, protocol: str, data: bytes, *, timeout_s: float) -> None:
        """`data` was written on a stream of its own to the peer, which is to answer nothing.

        Dials and raises as `request` does.
        """
        with trio.move_on_after(timeout_s):
            stream = await self.open_stream(peer_id, protocol)
            try:
                await stream.write(data)
                await stream.close()
            except BaseException as error:
                await reset(stream)
                if isinstance(error, StreamBroken):
                    raise PeerUnreachable(peer_id, str(error)) from error
                raise
            return
        raise PeerTimeout(peer_id, protocol, timeout_s)

    async def open_stream(
        self, peer_id: PeerId, protocol: str, *, look_up: bool = True
    ) -> GuardedStream:
        """A stream to the peer; a second try if the connection turned out to be broken.

        PeerUnreachable, PeerRefused. Its deadline and its end are the caller's. `look_up`: ask
        others for its addresses when none leads to it.
        """
        await self._dialling.reach(peer_id, look_up=look_up)
        try:
            return await self._guard.open_stream(peer_id, protocol)
        except StreamBroken as error:
            if self._guard.is_connected(peer_id):
                raise PeerRefused(peer_id, protocol, str(error)) from error
        await self._dialling.reach(peer_id, look_up=look_up)
        try:
            return await self._guard.open_stream(peer_id, protocol)
        except StreamBroken as error:
            raise PeerUnreachable(peer_id, str(error)) from error

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        limit: int = FRAME_LIMIT,
        timeout_s: float = HANDLER_TIMEOUT_S,
    ) -> None:
        """Requests of at most `limit` bytes on `protocol` are answered by `handler`.

        Reading, handling and answering take at most `timeout_s` together. When `handler` raises
        the stream is reset; a RemoteProtocolError counts against the peer, anything else is
        logged as our own failure. A second call replaces the handler.
        """

        async def serve_one(peer_id: PeerId, stream: ByteStream) -> None:
            await answer(
                stream,
                lambda request: handler(peer_id, request),
                request_limit=limit,
                timeout_s=timeout_s,
            )

        self.serve_stream(protocol, serve_one)

    def serve_stream(self, protocol: str, handler: StreamHandler) -> None:
        """Streams of `protocol`, which has a framing of its own, are given to `handler`.

        `handler` keeps its own deadlines and ends the stream; if it raises the stream is reset. A
        RemoteProtocolError counts against the peer, a Fault against nobody, any other failure is
        ours and logged. A second call replaces the handler.
        """

        async def serve_one(peer_id: str, stream: GuardedStream) -> None:
            self._table.seen(peer_id)
            try:
                await handler(PeerId(peer_id), stream)
            except RemoteProtocolError as error:
                self._conduct.penalise(peer_id, PENALTY_PROTOCOL, f"{protocol}: {error}")
                await reset(stream)
            except (StreamBroken, trio.TooSlowError) as error:
                await reset(stream)
                log.debug("stream ended", peer=peer_id, protocol=protocol, reason=repr(error))
            except Fault as fault:
                await reset(stream)
                self._conduct.tell("request not served", peer_id, reason=fault.sentence[:300])
            except Exception:
                await reset(stream)
                log.exception("handler failed", peer=peer_id, protocol=protocol)

        self._guard.handle(protocol, serve_one)

    async def publish(self, payload: bytes) -> None:
        """`payload` was given to the peers that listen to this network's topic.

        LocalProtocolError if it is larger than `Limits.gossip_limit`.
        """
        await self._guard.publish(payload)

    def on_gossip(self, check: Check, receive: Receive) -> None:
        """From now on, what others publish is given to `receive` and relayed if `check` agrees.

        Both get the author, whose signature was verified, and the payload. `check` is
        synchronous, quick, and runs once for each message; `receive` is awaited for one message
        after another, so a slow one delays the next, and after 4,096 waiting ones they are lost.
        RemoteProtocolError from `receive` counts against the author. Call it once.
        """
        self._nursery.start_soon(self._gossip, check, receive)

    async def _gossip(self, check: Check, receive: Receive) -> None:
        def admitted(author: str, payload: bytes) -> bool:
            return self._rate.allows(author, trio.current_time()) and check(PeerId(author), payload)

        async with aclosing(self._guard.gossip(admitted)) as messages:
            async for author, payload in messages:
                try:
                    await receive(PeerId(author), payload)
                except RemoteProtocolError as error:
                    self._conduct.penalise(author, PENALTY_PROTOCOL, f"gossip: {error}")
                except Exception:
                    log.exception("gossip handler failed", author=author)

    def listeners(self) -> list[PeerId]:
        """The connected peers to which `publish` would give something now."""
        return [PeerId(peer_id) for peer_id in self._guard.listeners()]
