"""Peers that send garbage to one address, as fast as they can, on every layer and protocol.

`python -m tests.fuzz.garbage MULTIADDR NETWORK SECONDS` attacks a node from a process of its
own and prints how often it did what. Every peer is new: those before it may have been banned.
"""

import json
import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

import node.libp2p_loading  # noqa: F401  before libp2p, which it loads

# isort: split
from libp2p.pubsub.pb import rpc_pb2

from node import log
from node.libp2p_guard import Guard, Limits, open_guard
from node.streams import StreamBroken, write_delimited
from protocol.ids import PeerId
from protocol.messages import topic

SERVED = (
    "/ipfs/ping/1.0.0",
    "/ipfs/id/1.0.0",
    "/ipfs/id/push/1.0.0",
    "/meshsub/1.1.0",
    "/meshsub/1.2.0",
    "/ipfs/kad/1.0.0",
    "/ipfs/bitswap/1.2.0",
    "/libp2p/circuit/relay/0.2.0/hop",
    "/libp2p/circuit/relay/0.2.0/stop",
)
PATIENCE_S = 3.0
AT_ONCE = 40
IDLE_SOCKETS = 12
GOSSIP_IN_A_ROW = 50
FRAMES_IN_A_ROW = 5_000
RANDOM = random.Random(20)


@dataclass(frozen=True, slots=True)
class Victim:
    """Who is attacked; `protocols` and `messages` are what it serves besides libp2p's own."""

    peer_id: PeerId
    address: str
    protocols: tuple[str, ...] = ()
    messages: tuple[bytes, ...] = ()

    @property
    def port(self) -> int:
        return int(self.address.rpartition("/")[2])

    @property
    def id(self) -> Any:
        from libp2p.peer.id import ID  # noqa: PLC0415

        return ID.from_string(self.peer_id)


def rubbish() -> bytes:
    """Random bytes, half of them behind a length that some decoder will believe."""
    body = RANDOM.randbytes(RANDOM.choice((0, 1, 3, 40, 600, 5_000)))
    return prefixed(body)


def prefixed(body: bytes) -> bytes:
    """`body` behind a length of one form or another, or a wrong one, or none."""
    prefix = RANDOM.choice(
        (b"", b"", len(body).to_bytes(4, "big"), bytes([len(body) % 128]), b"\xff")
    )
    return prefix + body


def spoilt(messages: tuple[bytes, ...]) -> bytes:
    """A message that was right, framed, mostly with some bytes changed, cut or repeated."""
    if not messages or RANDOM.random() < 0.3:
        return rubbish()
    body = bytearray(RANDOM.choice(messages))
    for _ in range(RANDOM.choice((0, 1, 1, 5))):
        body[RANDOM.randrange(len(body))] = RANDOM.randrange(256)
    whole = len(body).to_bytes(4, "big") + body
    return RANDOM.choice((whole, whole, whole[: len(whole) // 2], whole * 2, prefixed(bytes(body))))


# ---------------------------------------------------------------------- attacks: how much was sent


async def on_a_protocol(guest: Guard, to: Victim) -> int:
    stream = await guest.open_stream(to.peer_id, RANDOM.choice(SERVED + 3 * to.protocols))
    await stream.write(spoilt(to.messages))
    await RANDOM.choice((stream.finish, stream.close, stream.reset))()
    return 1


async def on_an_unnamed_stream(guest: Guard, to: Victim) -> int:
    stream = await guest._swarm.new_stream(to.id)
    await stream.write(rubbish())
    await stream.close()
    return 1


async def in_the_muxer(guest: Guard, to: Victim) -> int:
    connection = guest._swarm.get_connections(to.id)[0].muxed_conn
    kind, flags = RANDOM.randrange(6), RANDOM.randrange(16)
    header = struct.pack(">BBHII", 0, kind, flags, RANDOM.randrange(9), RANDOM.randrange(1 << 17))
    await connection._write_frame(header + rubbish())
    return 1


async def as_tiny_frames(guest: Guard, to: Victim) -> int:
    """Thousands of frames of the muxer in one piece, of a kind that exists or not."""
    connection = guest._swarm.get_connections(to.id)[0].muxed_conn
    kind, flags = RANDOM.choice(((2, 2), (9, 0), (0, 0), (1, 1), (1, 0)))
    frames = (struct.pack(">BBHII", 0, kind, flags, 2 * n + 1, 0) for n in range(FRAMES_IN_A_ROW))
    await connection.secured_conn.write(b"".join(frames))
    return FRAMES_IN_A_ROW


async def under_the_noise(guest: Guard, to: Victim) -> int:
    connection = guest._swarm.get_connections(to.id)[0].muxed_conn
    raw = connection.secured_conn.conn.read_writer.read_write_closer
    await raw.write(b"\x00\x20" + RANDOM.randbytes(32))
    return 1


async def as_gossip(guest: Guard, to: Victim) -> int:
    """Frames of protobuf that are right and hold messages that are not, and then a flood."""
    for _ in range(GOSSIP_IN_A_ROW):
        await guest.publish(spoilt(to.messages)[:16_000])
    return GOSSIP_IN_A_ROW


async def as_crumbs(guest: Guard, to: Victim) -> int:
    """As many messages as a frame of gossip can hold, or as it may, signed by nobody."""
    message = rpc_pb2.Message(topicIDs=[guest._topic], signature=bytes(64))
    count = RANDOM.choice((2_000, 120))
    frame = rpc_pb2.RPC(publish=[message] * count)
    stream = await guest.open_stream(to.peer_id, "/meshsub/1.2.0")
    await write_delimited(stream, frame.SerializeToString())
    return count


async def on_the_socket(_guest: Guard, to: Victim) -> int:
    async with await trio.open_tcp_stream("127.0.0.1", to.port) as raw:
        await raw.send_all(RANDOM.choice((b"GET / HTTP/1.1\r\n\r\n", rubbish(), b"\xff" * 64)))
    return 1


Attack = Callable[[Guard, Victim], Awaitable[int]]
ATTACKS: tuple[Attack, ...] = (
    on_a_protocol,
    on_a_protocol,
    on_an_unnamed_stream,
    in_the_muxer,
    as_tiny_frames,
    under_the_noise,
    as_gossip,
    as_crumbs,
    on_the_socket,
)


async def attack_once(to: Victim, network: str, done: Counter[str]) -> None:
    """A peer that nobody knows, and some attacks of one kind."""
    attack = RANDOM.choice(ATTACKS)
    async with open_guard(os.urandom(32), topic(network), limits=Limits()) as guest:
        with trio.move_on_after(PATIENCE_S), suppress(StreamBroken):
            await guest.dial(to.peer_id, to.address)
            if attack is as_gossip:
                await _until_it_listens(guest)
            for _ in range(AT_ONCE):
                with suppress(Exception):  # the victim may end the stream before it is written
                    done[attack.__name__] += await attack(guest, to)
                if not guest.is_connected(to.peer_id):
                    break


async def _until_it_listens(guest: Guard) -> None:
    while not guest.listeners():  # noqa: ASYNC110
        await trio.sleep(0.05)


async def attack_for(seconds: float, to: Victim, network: str, done: Counter[str]) -> None:
    """One peer after another."""
    with trio.move_on_after(seconds):
        while True:
            await attack_once(to, network, done)


async def stay_half_open(seconds: float, to: Victim, done: Counter[str]) -> None:
    """Sockets that say the beginning of a handshake, or nothing, and stay."""
    with trio.move_on_after(seconds):
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", to.port), 2) as half:
                half.sendall(RANDOM.choice((b"", b"\x13/multistream/1.0.0\n")))
                done["half open"] += 1
                await trio.sleep(RANDOM.uniform(0.1, 6))


async def attack_all(seconds: float, to: Victim, network: str, strangers: int) -> Counter[str]:
    """How often what was done, by so many peers at a time."""
    done: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        for _ in range(strangers):
            nursery.start_soon(attack_for, seconds, to, network, done)
        for _ in range(IDLE_SOCKETS):
            nursery.start_soon(stay_half_open, seconds, to, done)
    return done


def main(multiaddr: str, network: str, seconds: float) -> None:
    from tests.fuzz import speech  # noqa: PLC0415  tests of the host alone need no rooms
    from tests.fuzz.wire_targets import examples  # noqa: PLC0415

    log.configure("critical", console="none")
    address, _, peer_id = multiaddr.partition("/p2p/")
    to = Victim(PeerId(peer_id), address, speech.PROTOCOLS, tuple(examples().values()))
    sys.stdout.write(json.dumps(trio.run(attack_all, seconds, to, network, 4)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
