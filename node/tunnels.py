"""Tunnels over libp2p for workers that no direct connection leads to.

The worker that dials decides: it tries the address of the roster first, and where nobody answers
in a few seconds, refuses, or shows another certificate than the roster's (a private address may
be a stranger's in another building), it asks its own daemon at the session's entrance, a Unix
socket in the session's folder. The daemon opens a stream to the node of that party, which
connects it to the listener of its own worker. The workers' mutual TLS, pinned to the roster, runs
inside from end to end.

Adversary: nodes, relays and whoever is between. All of them see who talks with whom, how much and
when, and can delay or cut; none can read, change or pretend. Only a peer of a roster that lives
here is let in, and only to a worker of this node in that very session: a tunnel is no way to any
other address. Each peer may have TUNNELS_OF_PEER of them; their bytes are paced with all others
of its connection ([peers.caps]).

Who is to blame stays the same. The end of a worker ends its connection to its daemon, the stream
and the connection at the far end, at once and in that order: its neighbours name it as over a
direct connection. A daemon that dies takes its own workers with it; those of others see every
tunnel to that organisation end, and name its parties. A relay in between that goes leaves two ends
that each name the other: nobody can tell which of two it was.

Bytes on their way when a session ends have GRACE_S to arrive, since a party's last word may be
among them; once one worker has finished writing, the other end has HALF_OPEN_S to finish too.
"""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import TypeVar

import trio

from mpc.transport import TUNNEL_LENGTH
from node.config_network import Listen
from node.directory import Directory
from node.errors import Fault
from node.host import Host
from node.libp2p_guard import GuardedStream
from node.live_session import LiveSession
from node.local_stream import LocalStream, listen_at
from node.log import get_logger
from node.relay import splice
from node.streams import ByteStream, StreamBroken, read_exactly, read_frame, reset, write_frame
from protocol.codec import decode, encode
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.manifest import Party, Roster
from protocol.messages import TUNNEL_PROTOCOL, Acknowledged, SessionDeclined, TunnelRequest

log = get_logger("tunnels")

TUNNELS_OF_PEER = 48
TUNNELS_OF_SESSION = 256
TALK_S = 5.0
REACH_S = 10.0
GRACE_S = 2.0
HALF_OPEN_S = 5.0
REQUEST_LIMIT = 512
ANSWER_LIMIT = 4_096
ENTRANCE = "entrance"

K = TypeVar("K", str, bytes)


class _Life:
    """How long one tunnel may last: as its session, and not for long with one end closed."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()

    def one_end(self) -> None:
        self.scope.deadline = min(self.scope.deadline, trio.current_time() + HALF_OPEN_S)

    async def until_over(self, live: LiveSession) -> None:
        await live.over.wait()
        await trio.sleep(GRACE_S)
        self.scope.cancel()

    async def carry(self, live: LiveSession, near: ByteStream, far: ByteStream) -> None:
        """What either says is passed to the other until the tunnel's end; then both are gone."""
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.until_over, live)
                    await splice(near, far, inf)
                    nursery.cancel_scope.cancel()
        finally:
            await reset(near)
            await reset(far)


class Tunnels:
    """The tunnels of one node's sessions, to its workers and from them. `nursery` is the node's."""

    def __init__(
        self, host: Host, directory: Directory, listen: Listen, nursery: trio.Nursery
    ) -> None:
        self._host, self._directory, self._listen = host, directory, listen
        self._nursery = nursery
        self._sessions: dict[bytes, LiveSession] = {}
        self._of_peer: Counter[str] = Counter()
        self._of_session: Counter[bytes] = Counter()
        host.serve_stream(TUNNEL_PROTOCOL, self.accept)

    @contextmanager
    def opened(self, live: LiveSession, folder: Path) -> Iterator[socket.socket]:
        """Inside, peers of the session's roster are let in, and `live.entrance` is listened on."""
        path = folder / ENTRANCE
        listener = listen_at(path)
        live.entrance, self._sessions[live.session] = str(path), live
        try:
            yield listener
        finally:
            del self._sessions[live.session]
            listener.close()
            path.unlink(missing_ok=True)

    async def serve(self, live: LiveSession, listener: socket.socket) -> None:
        """Serves this node's own workers at the entrance. Never returns."""
        entrance = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        enter = partial(self._enter, live)
        await trio.serve_listeners(enter, [entrance], handler_nursery=self._nursery)

    # ------------------------------------------------------------------ from a worker of this node

    async def _enter(self, live: LiveSession, stream: trio.SocketStream) -> None:
        life = _Life()
        near, far = LocalStream(stream, life.one_end), None
        self._of_session[live.session] += 1
        try:
            if self._of_session[live.session] <= TUNNELS_OF_SESSION:
                far = await self._way(live, near, life)
            if far is not None:
                await life.carry(live, near, far)
        except StreamBroken as error:
            log.debug("a worker left its tunnel", reason=str(error))
        except Exception:  # the boundary: a tunnel's failure must not end the daemon
            log.exception("a tunnel failed by an error of this node")
        finally:
            _less(self._of_session, live.session)
            await reset(near)

    async def _way(self, live: LiveSession, near: LocalStream, life: _Life) -> ByteStream | None:
        """The far end to the party that the worker names; or None, and the worker knows why."""
        try:
            with trio.fail_after(REACH_S):
                party = _party(live.roster, await _read_text(near))
                far = await self._reach(live, party, life)
        except trio.TooSlowError:
            await _write_text(near, f"no answer in {REACH_S:g} s")
        except (Fault, OSError, RemoteProtocolError) as error:
            await _write_text(near, str(error) or type(error).__name__)
        else:
            log.info("tunnel", session=live.session.hex(), to=party.name)
            try:
                await _write_text(near, "")
            except StreamBroken:
                await reset(far)
                raise
            return far
        return None

    async def _reach(self, live: LiveSession, party: Party, life: _Life) -> ByteStream:
        if party.peer_id == self._directory.own.peer_id:
            return await self._own_worker(party, life)
        peer_id = PeerId(party.peer_id)
        stream = await self._host.open_stream(peer_id, TUNNEL_PROTOCOL)
        try:
            request = TunnelRequest(session=live.session, party=party.name)
            await write_frame(stream, encode(request))
            data = await read_frame(stream, ANSWER_LIMIT)
            answer = decode(data, Acknowledged, SessionDeclined, limit=ANSWER_LIMIT)
            if isinstance(answer, SessionDeclined):
                said = "".join(each if each.isprintable() else " " for each in answer.sentence)
                raise Fault("session-refused", f"its node says: {said[:300]}")
        except StreamBroken as error:
            await reset(stream)
            raise Fault("peer-unreachable", f"its node is gone: {error}") from error
        except BaseException as error:
            await reset(stream)
            if isinstance(error, RemoteProtocolError):
                self._host.report(peer_id, f"tunnel: {error}")
            raise
        return stream

    async def _own_worker(self, party: Party, life: _Life) -> LocalStream:
        host, port = self._listen.worker_address(party.address)
        return LocalStream(await trio.open_tcp_stream(host, port), life.one_end)

    # ------------------------------------------------------------------ to a worker of this node

    async def accept(self, peer_id: PeerId, stream: GuardedStream) -> None:
        """A tunnel that a peer asked for was made, and ended; or declined in one sentence.

        RemoteProtocolError if the peer has no part in that session, or names no worker of here.
        """
        life = _Life()
        with trio.fail_after(TALK_S):
            data = await read_frame(stream, REQUEST_LIMIT)
            request = decode(data, TunnelRequest, limit=REQUEST_LIMIT)
            if self._directory.of_peer(peer_id) is None:
                raise RemoteProtocolError("a stranger asks for a tunnel")
            try:
                live, party = self._asked(peer_id, request)
                local = await self._own_worker(party, life)
            except (Fault, OSError) as error:
                answer = SessionDeclined(rule="tunnel", sentence=str(error)[:1024])
                await write_frame(stream, encode(answer))
                await stream.close()
                return
        self._of_peer[peer_id] += 1
        try:
            with trio.fail_after(TALK_S):
                await write_frame(stream, encode(Acknowledged(session=request.session)))
            await life.carry(live, local, stream)
        finally:
            _less(self._of_peer, peer_id)
            await reset(local)

    def _asked(self, peer_id: PeerId, request: TunnelRequest) -> tuple[LiveSession, Party]:
        live = self._sessions.get(request.session)
        if live is None or live.roster is None or live.over.is_set():
            raise Fault("session-unknown", "no such session runs here")
        if peer_id not in {party.peer_id for party in live.roster.parties}:
            raise RemoteProtocolError("a tunnel into a session that the peer has no part in")
        party = _party(live.roster, request.party)
        if party.peer_id != self._directory.own.peer_id:
            raise RemoteProtocolError("a tunnel to a party of another node")
        if self._of_peer[peer_id] >= TUNNELS_OF_PEER:
            raise Fault("session-refused", f"a peer has {TUNNELS_OF_PEER} tunnels at most")
        return live, party


def _less(counter: Counter[K], key: K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _party(roster: Roster | None, name: str) -> Party:
    """The party of that name; RemoteProtocolError if there is none."""
    for party in roster.parties if roster is not None else ():
        if party.name == name:
            return party
    raise RemoteProtocolError("a tunnel to somebody who is no party of the session")


async def _read_text(stream: ByteStream) -> str:
    (length,) = TUNNEL_LENGTH.unpack(await read_exactly(stream, TUNNEL_LENGTH.size))
    if length > REQUEST_LIMIT:
        raise RemoteProtocolError("a name that no party has")
    return (await read_exactly(stream, length)).decode(errors="replace")


async def _write_text(stream: ByteStream, text: str) -> None:
    data = text.encode()[:ANSWER_LIMIT]
    with suppress(trio.TooSlowError), trio.fail_after(TALK_S):
        await stream.write(TUNNEL_LENGTH.pack(len(data)) + data)
