"""What libp2p's own protocols say, as far as this node reads it by itself."""

import trio

from node import kademlia
from node.relay_messages import HopMessage, StopMessage, read
from node.streams import StreamBroken
from protocol import bitswap, peers
from protocol.errors import RemoteProtocolError
from tests.fuzz.frame_targets import Scripted
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import PEER_ID

ENDS = (RemoteProtocolError, StreamBroken)


def library() -> list[Target]:
    """Messages of Kademlia, of circuit relay and of bitswap."""
    key = peers.peer_bytes(PEER_ID)
    found = kademlia.Message(type=kademlia.Message.FIND_NODE, key=key)
    kademlia._add(found, PEER_ID, ["/ip4/127.0.0.1/tcp/1", "/dns4/a.test/tcp/2"])
    hop = HopMessage(type=HopMessage.CONNECT)
    hop.peer.id = key

    async def hopped(data: bytes) -> None:
        await read(Scripted(data), HopMessage)

    async def stopped(data: bytes) -> None:
        await read(Scripted(data), StopMessage)

    def near(data: bytes) -> None:
        kademlia._peers(kademlia._decoded(data))

    body = hop.SerializeToString()
    want = bytes([0x0A, 0x28, 0x0A, 0x26, 0x0A, 0x24]) + bitswap.CID_PREFIX + bytes(32)
    return [
        Target("kademlia", near, (found.SerializeToString(),)),
        Target(
            "relay-hop", lambda data: trio.run(hopped, data), (bytes([len(body)]) + body,), ENDS
        ),
        Target("relay-stop", lambda data: trio.run(stopped, data), (b"\x02\x08\x00",), ENDS),
        Target("bitswap-wants", bitswap.wants, (want, want * 3)),
        Target("bitswap-length", lambda data: bitswap.length(data[:10] or b"\0"), (b"\x80\x01",)),
    ]
