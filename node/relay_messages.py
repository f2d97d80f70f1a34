"""The messages of circuit relay v2, and reading and writing one of them.

Source: libp2p specification, relay/circuit-v2.md. A HOP stream asks a relay for a reservation or
a circuit; over a STOP stream the relay tells the other end of one.
"""

from typing import TypeVar

from google.protobuf.message import DecodeError

import node.libp2p_loading  # noqa: F401  before libp2p, which it loads

# isort: split
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Status, StopMessage

from node.streams import ByteStream, read_delimited, write_delimited
from protocol.errors import RemoteProtocolError

__all__ = ["HOP", "STOP", "HopMessage", "Status", "StopMessage", "read", "write"]

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"
MESSAGE_LIMIT = 4_096

Message = TypeVar("Message", HopMessage, StopMessage)


async def read(stream: ByteStream, kind: type[Message]) -> Message:
    """The next message of `kind`. RemoteProtocolError if it is none, StreamBroken at the end."""
    payload = await read_delimited(stream, MESSAGE_LIMIT)
    try:
        return kind.FromString(payload)
    except DecodeError as error:
        raise RemoteProtocolError("that is no message of the relay protocol") from error


async def write(stream: ByteStream, message: HopMessage | StopMessage) -> None:
    """`message` is on its way."""
    await write_delimited(stream, message.SerializeToString())
