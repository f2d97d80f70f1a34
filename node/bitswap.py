"""Documents for IPFS nodes: this node's side of bitswap 1.2.0, which gives blocks and takes none.

Adversary: any peer that can connect. Nothing that it pushes is looked at, nothing that it wants is
remembered: an entry of a wantlist is answered at once or never, so no table grows by what peers
say. What it costs to answer counts against the same quota as `/northbund/document/1`. Leaks: which
documents are here, which anyone may ask anyway.

The library's own bitswap was rejected: it stores every block that a peer pushes, keeps wantlists
without a bound, and waits for a silent peer for ever.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import trio

from node import assets
from node.document_quota import ServingQuota
from node.engine import Engine
from node.errors import Fault
from node.host import Host
from node.log import get_logger
from node.streams import ByteStream, read_exactly, reset
from protocol import bitswap
from protocol.bitswap import BITSWAP_PROTOCOL, Want
from protocol.ids import PeerId

log = get_logger("bitswap")

IDLE_TIMEOUT_S = 30.0
MESSAGE_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 10.0
STREAMS_PER_PEER = 4
ANSWERS_AT_ONCE = 32
BATCH_BYTES = 262_144
LOOKUPS_A_REQUEST = 16


class Bitswap:
    """Answers the wantlists of peers for as long as the host lives."""

    def __init__(self, engine: Engine, host: Host, quota: ServingQuota) -> None:
        self._engine = engine
        self._host = host
        self._quota = quota
        self._streams: Counter[str] = Counter()
        self._answering = trio.CapacityLimiter(ANSWERS_AT_ONCE)
        host.serve_stream(BITSWAP_PROTOCOL, self._serve)

    async def _serve(self, peer_id: PeerId, stream: ByteStream) -> None:
        """Messages are answered one after another; the next one is read after the answer."""
        if self._streams[peer_id] >= STREAMS_PER_PEER:
            await reset(stream)
            return
        self._streams[peer_id] += 1
        try:
            while (message := await _read(stream)) is not None:
                wants = bitswap.wants(message)
                wait_s = self._quota.asked(peer_id, 1 + len(wants) // LOOKUPS_A_REQUEST)
                if wait_s:  # not answered; a stream of tiny messages would keep the node busy
                    await trio.sleep(wait_s)
                    continue
                async with self._answering:
                    await self._answer(peer_id, wants)
            await stream.close()
        except Fault as fault:
            log.debug("answer not sent", peer=peer_id, why=fault.sentence)
            await reset(stream)
        except BaseException:
            await reset(stream)
            raise
        finally:
            self._streams[peer_id] -= 1
            if not self._streams[peer_id]:
                del self._streams[peer_id]

    async def _answer(self, peer_id: PeerId, wants: Sequence[Want]) -> None:
        """Afterwards what is here is sent, on streams that this node opens; over quota, nothing."""
        for message in self._messages(peer_id, wants):
            data = bitswap.frame(message)
            await self._host.send(peer_id, BITSWAP_PROTOCOL, data, timeout_s=SEND_TIMEOUT_S)

    def _messages(self, peer_id: PeerId, wants: Sequence[Want]) -> Iterator[bytes]:
        """The answers, each of at most BATCH_BYTES and one more document; read as they are sent."""
        blocks: list[bytes] = []
        have: list[bytes] = []
        dont_have: list[bytes] = []
        for want in wants:
            body = self._body(want)
            if body is not None and want.presence:
                have.append(want.cid)
            elif body is not None and not self._quota.served(peer_id, len(body)):
                blocks.append(body)
            elif want.dont_have:
                dont_have.append(want.cid)
            if sum(map(len, blocks)) >= BATCH_BYTES:
                yield bitswap.answer(blocks)
                blocks.clear()
        if blocks or have or dont_have:
            yield bitswap.answer(blocks, have, dont_have)

    def _body(self, want: Want) -> bytes | None:
        proof = want.proof
        if proof is None or not assets.has_document(self._engine.db, proof):
            return None
        return b"" if want.presence else assets.body_of(self._engine.db, proof)


async def _read(stream: ByteStream) -> bytes | None:
    """The next message, None at the end. TooSlowError, StreamBroken, RemoteProtocolError."""
    with trio.fail_after(IDLE_TIMEOUT_S):
        prefix = await stream.read(1)
    if not prefix:
        return None
    with trio.fail_after(MESSAGE_TIMEOUT_S):
        while (size := bitswap.length(prefix)) is None:
            prefix += await read_exactly(stream, 1)
        return await read_exactly(stream, size)
