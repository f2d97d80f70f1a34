"""What py-libp2p does wrong by itself, mended in its own modules and classes.

The faults are those of the table in node.libp2p_guard. Nothing here knows a host or a peer:
`mend_library` changes what only module globals allow to change, for the whole process.

Logs: the library writes through `libp2p.*` loggers that do not propagate and have no handler, so
its warnings would reach stderr as bare text, and a peer can cause them at will. They are rewritten
as debug events of the logger `libp2p`, at most `LIBRARY_LINES_PER_MINUTE` of them; what matters to
an operator is logged by node.host in our own words.
"""

import logging
import socket
import time
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import node.libp2p_loading  # noqa: F401  before libp2p, which it loads

# isort: split
import libp2p.network.swarm as swarm_module
import libp2p.protocol_muxer.multiselect_communicator as communicator_module
import libp2p.pubsub.gossipsub as gossipsub_module
import libp2p.pubsub.pubsub as pubsub_module
import libp2p.transport.tcp.tcp as tcp_module
import trio
from libp2p.exceptions import ParseError
from libp2p.network.connection import swarm_connection
from libp2p.pubsub import rpc_queue
from libp2p.pubsub.pb.rpc_pb2 import RPC
from libp2p.pubsub.pubsub import Pubsub
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE, YamuxStream
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from node.log import get_logger

log = get_logger("node.libp2p")

LIBRARY_LINES_PER_MINUTE = 30
NEGOTIATION_LINE_LIMIT = 1_024
RECORDS_LIMIT = 1_000
MESSAGES_PER_FRAME = 128
"""Gossip in one frame. Nodes send one at a time; an answer to IWANT may hold some more."""


class _LibraryLog(logging.Handler):
    """Rewrites the library's warnings as a bounded number of debug events."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._minute = 0
        self._lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._lines = minute, 0
        self._lines += 1
        if self._lines <= LIBRARY_LINES_PER_MINUTE:
            log.debug("library", logger=record.name, said=record.getMessage()[:500])


def _quiet_logs() -> None:
    library = logging.getLogger("libp2p")
    for handler in list(library.handlers):
        library.removeHandler(handler)
    library.addHandler(_LibraryLog())
    library.setLevel(logging.WARNING)
    library.propagate = False
    # B21: this module calls logging.debug(), which gives the root logger a handler on stderr.
    module: Any = swarm_connection
    module.logging = logging.getLogger("libp2p.swarm_connection")


def _claim_port_alone(sock: Any) -> None:
    """B7. Only hole punching needs SO_REUSEPORT, and nothing here punches holes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


async def _read_short_line(reader: Any) -> bytes:
    """B22: the library reads a protocol name of any length, before it knows who sends it."""
    line = await read_varint_prefixed_bytes_limited(reader, NEGOTIATION_LINE_LIMIT)
    if not line.endswith(b"\n"):
        raise ParseError("a protocol name must end with a line feed")
    return line[:-1]


@cache
def mend_library() -> None:
    """The defences that only module globals allow are in place; a second call changes nothing."""
    _Records()
    yamux_stream: Any = YamuxStream
    yamux_stream._auto_tune_and_send_window_update = _release_window
    _quiet_logs()
    swarm_module._HAPPY_EYEBALLS_DELAY = 0.0  # B12
    tcp_module._set_reuse_flags = _claim_port_alone
    communicator: Any = communicator_module
    communicator.read_delim = _read_short_line
    gossip: Any = pubsub_module
    gossip.read_varint_prefixed_bytes_limited = _read_gossip_frame
    pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = 4_096  # B10
    rpc_queue.RpcQueue.__init__.__defaults__ = (1_024, rpc_queue.DefaultMaxMessageSize)  # B10


async def _read_gossip_frame(stream: Any, limit: int) -> bytes:
    """B28: each message of a frame becomes a task, and starting one looks at all that there are.

    One frame of 8,000 empty messages kept a node busy for half a minute. So a frame holds a few,
    and what comes faster than its peer and address may send waits in the peer's own buffers
    (`gossip_wait_s` of the connection, set where it is admitted).
    """
    frame = await read_varint_prefixed_bytes_limited(stream, limit)
    messages = len(RPC.FromString(frame).publish)
    if messages > MESSAGES_PER_FRAME:
        raise ParseError(f"{messages} messages in one frame of gossip")
    wait_s = getattr(stream.muxed_conn, "gossip_wait_s", None)
    if messages and wait_s is not None:
        await trio.sleep(wait_s(messages))
    return frame


async def _release_window(stream: Any, *, bytes_read: int = 0) -> None:
    """B25: the library sends a window update for every read, of which some are of one byte.

    Now one goes out for each half window that was read. The window no longer grows: 256 KiB a
    round trip is plenty for what nodes say to each other, and bounds what they hold.
    """
    stream._pending_recv_release += bytes_read
    released = stream._pending_recv_release
    if released >= DEFAULT_WINDOW_SIZE // 2:
        stream._pending_recv_release = 0
        stream.recv_window += released
        await stream.send_window_update(released)


class _Records:
    """B26: the library makes, sends and verifies a signed record of addresses with each frame.

    Nothing here uses them, but peers of the library refuse frames without; so a host's own is
    made once it listens, and a peer's is verified when it changes.
    """

    def __init__(self) -> None:
        library: Any = pubsub_module
        self._make = library.env_to_send_in_RPC
        self._verify = library.maybe_consume_signed_record
        self._own: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()
        self._verified: WeakKeyDictionary[Any, dict[Any, bytes]] = WeakKeyDictionary()
        for module in (pubsub_module, gossipsub_module):
            patched: Any = module
            patched.env_to_send_in_RPC = self.own
            patched.maybe_consume_signed_record = self.verified

    def own(self, host: Any) -> tuple[bytes, bool]:
        record = self._own.get(host)
        if record is not None:
            return record, False
        record, fresh = self._make(host)
        if host.get_network().listeners:
            self._own[host] = record
        return record, fresh

    def verified(self, message: Any, host: Any, peer: Any) -> bool:
        of_peers = self._verified.setdefault(host, {})
        if of_peers.get(peer) == message.senderRecord:
            return True
        accepted = bool(self._verify(message, host, peer))
        if accepted:
            if len(of_peers) >= RECORDS_LIMIT:
                of_peers.clear()
            of_peers[peer] = message.senderRecord
        return accepted


class SafePubsub(Pubsub):
    """B2: what a peer sends ends at most its own message."""

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001  the boundary at which gossip is dropped
            log.debug("gossip dropped", forwarder=str(msg_forwarder), error=repr(error))


def contain_tasks(manager: Any) -> None:
    """An exception in a passing task of a library service no longer ends the service (B1, B2).

    Daemon tasks, on which the service depends, still end it: without its heartbeat or its accept
    loop a node would only seem to live.
    """
    inner = manager.run_task

    def run_task(action: Any, *args: Any, daemon: bool = False, **options: Any) -> None:
        async def contained(*args: Any) -> None:
            try:
                await action(*args)
            except Exception as error:
                if daemon:
                    raise
                log.debug("library task failed", task=repr(action), error=repr(error))

        inner(contained, *args, daemon=daemon, **options)

    manager.run_task = run_task
