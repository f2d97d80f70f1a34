"""Finding a peer's addresses by its id, through peers of peers (Kademlia's FIND_NODE).

Source: Maymounkov and Mazieres, "Kademlia", 2002; libp2p specification, kad-dht. Distance is the
XOR of the SHA-256 of two peer ids; a node answers with the nearest peers it knows, and whoever
looks asks ever nearer ones. Only this part is here: values and provider records, which anybody
could leave on other people's nodes, are not served. A question carries the asker's own addresses,
so that those whom it asks can tell others.

Adversary: any peer that asks or is asked. What it says is told as addresses of a third ("lookup")
and only ever dialled, never passed on; passed on is what the peer itself, its signed announcement
or the chain said. So lies cost their teller's audience a few dials and spread no further. A lookup
has an end in peers, bytes and time.

The library's own was rejected: it dials whatever an answer names, past the lists of who is
allowed; keeps what it learns where this node forgets it (B23); stores others' records; and twelve
silent streams, which one peer may open, keep everybody else out for ever.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from secrets import SystemRandom

import trio
from google.protobuf.message import DecodeError

import node.libp2p_loading  # noqa: F401  before libp2p, which it loads

# isort: split
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr  # type: ignore[import-untyped]
from multiaddr.exceptions import Error as MultiaddrError  # type: ignore[import-untyped]

from node.addresses import binary
from node.errors import Fault
from node.host import Host
from node.libp2p_guard import GuardedStream
from node.log import get_logger
from node.peer_store import FIRST_HAND, PEERS_LIMIT, PER_SOURCE
from node.standing import AuthorRate
from node.streams import StreamBroken, read_delimited, reset, write_delimited
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.peers import is_peer_id, peer_bytes, peer_id_from

log = get_logger("node.kademlia")

NEAREST = 16
AT_ONCE = 3
ASKED_MOST = 32
MESSAGE_LIMIT = 32_768
ASK_S = 5.0
LOOK_UP_S = 15.0
LOOK_UPS_AT_ONCE = 4
QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE = 2.0, 60.0
"""Of one peer: an answer looks at all known peers, and may write what the peer says of itself."""
FIRST_REFRESH_S = 1.0
REFRESH_S = 600.0


def protocol_of(network: str) -> str:
    """The protocol under which the nodes of one network ask each other."""
    return f"/northbund/{network}/kad/1.0.0"


def distance(one: PeerId, other: PeerId) -> int:
    """How far apart two peers are, 0 to 2^256 - 1."""
    return _place(one) ^ _place(other)


@lru_cache(maxsize=2 * PEERS_LIMIT)
def _place(peer_id: PeerId) -> int:
    """Kept: to answer one question the places of all known peers are compared."""
    return int.from_bytes(sha256(peer_bytes(peer_id)).digest(), "big")


class Kademlia:
    """The lookups of one host. Made once the host listens; it serves the protocol at once."""

    def __init__(self, host: Host, network: str) -> None:
        self._host = host
        self._protocol = protocol_of(network)
        self._random = SystemRandom()
        self._looking = trio.CapacityLimiter(LOOK_UPS_AT_ONCE)
        self._rate = AuthorRate(QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE)
        host.serve_stream(self._protocol, self._serve)
        host.dialling.find = self.find

    async def run(self) -> None:
        """Now and then looks for itself: those nearby then know this node. Never returns."""
        pause_s = FIRST_REFRESH_S
        while True:
            await trio.sleep(pause_s)
            await self.find(self._host.peer_id)
            asked = any(peer.connected for peer in self._host.peers())
            pause_s = REFRESH_S * self._random.uniform(0.8, 1.2) if asked else FIRST_REFRESH_S

    async def find(self, target: PeerId) -> None:
        """Addresses of `target` were learned, if any peer that could be asked knows some."""
        async with self._looking:
            with trio.move_on_after(LOOK_UP_S):
                await _Lookup(self._host, self._protocol, target).run()

    async def _serve(self, peer_id: PeerId, stream: GuardedStream) -> None:
        if not self._rate.allows(peer_id, trio.current_time()):
            raise RemoteProtocolError("looks for peers too often")
        with trio.fail_after(ASK_S):
            asked = _decoded(await read_delimited(stream, MESSAGE_LIMIT))
            if asked.type != Message.FIND_NODE:
                raise RemoteProtocolError("only FIND_NODE is served")
            target = peer_id_from(asked.key)
            for teller, addresses in _peers(asked):
                if teller == peer_id:
                    self._host.learn(peer_id, addresses, "peer")
            answer = Message(type=Message.FIND_NODE, key=asked.key)
            for near, addresses in self._nearest(target, peer_id):
                _add(answer, near, addresses)
            await write_delimited(stream, answer.SerializeToString())
            await stream.close()

    def _nearest(self, target: PeerId, asker: PeerId) -> list[tuple[PeerId, list[str]]]:
        store = self._host.store
        known = sorted(
            (each for each in store.peers(FIRST_HAND) if each != asker),
            key=lambda each: distance(each, target),
        )
        return [
            (each, [address for address, source in store.addresses(each) if source in FIRST_HAND])
            for each in known[:NEAREST]
        ]


class _Lookup:
    """One search: the nearest peers so far, and which of them were asked."""

    def __init__(self, host: Host, protocol: str, target: PeerId) -> None:
        self._host = host
        self._protocol = protocol
        self._target = target
        self._near: set[PeerId] = set(host.store.peers(FIRST_HAND))
        self._near |= {peer.peer_id for peer in host.peers() if peer.connected}
        self._near -= {host.peer_id, target}
        self._asked: set[PeerId] = set()
        self._found: list[str] = []

    async def run(self) -> None:
        """What was found is learned. Ends when the nearest were asked, or one of them knew."""
        while not self._found and len(self._asked) < ASKED_MOST:
            nearest = sorted(self._near, key=lambda each: distance(each, self._target))[:NEAREST]
            following = [each for each in nearest if each not in self._asked][:AT_ONCE]
            if not following:
                break
            self._asked.update(following)
            async with trio.open_nursery() as nursery:
                for peer_id in following:
                    nursery.start_soon(self._ask, peer_id)
        self._host.learn(self._target, self._found, "lookup")

    async def _ask(self, peer_id: PeerId) -> None:
        with trio.move_on_after(ASK_S):
            try:
                answer = await self._answer(peer_id)
            except (Fault, StreamBroken) as error:
                log.debug("not asked", peer=peer_id, reason=str(error))
                return
            except RemoteProtocolError as error:
                self._host.report(peer_id, f"{self._protocol}: {error}")
                return
            for told, addresses in _peers(answer):
                if told == self._target:
                    self._found += addresses
                elif told != self._host.peer_id:
                    self._near.add(told)
                    self._host.learn(told, addresses, "lookup")

    async def _answer(self, peer_id: PeerId) -> Message:
        question = Message(type=Message.FIND_NODE, key=peer_bytes(self._target))
        own = [
            address.partition("/p2p/" + self._host.peer_id)[0] for address in self._host.addresses
        ]
        _add(question, self._host.peer_id, own)
        stream = await self._host.open_stream(peer_id, self._protocol, look_up=False)
        try:
            await write_delimited(stream, question.SerializeToString())
            answer = _decoded(await read_delimited(stream, MESSAGE_LIMIT))
            await stream.close()
        except BaseException:
            await reset(stream)
            raise
        return answer


def _decoded(payload: bytes) -> Message:
    try:
        return Message.FromString(payload)
    except DecodeError as error:
        raise RemoteProtocolError("that is no message of kad-dht") from error


def _add(message: Message, peer_id: PeerId, addresses: Iterable[str]) -> None:
    peer = message.closerPeers.add()
    peer.id = peer_bytes(peer_id)
    for address in list(addresses)[:PER_SOURCE]:
        peer.addrs.append(binary(address))


def _peers(message: Message) -> list[tuple[PeerId, list[str]]]:
    """The peers that a message names, at most NEAREST, with addresses as text."""
    found = []
    for peer in list(message.closerPeers)[:NEAREST]:
        try:
            named = peer_id_from(peer.id)
            addresses = [str(Multiaddr(each)) for each in list(peer.addrs)[:PER_SOURCE]]
        except (RemoteProtocolError, MultiaddrError, ValueError):
            continue
        if is_peer_id(named):
            found.append((named, addresses))
    return found
