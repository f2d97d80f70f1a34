"""Who is let through a tunnel, what ends one, and that what is said in it arrives."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from mpc.reaching import dial_through
from node import tunnels
from node.config_network import Listen
from node.host import Host, open_host
from node.streams import StreamBroken, read_frame, reset, write_frame
from node.tunnels import Tunnels
from protocol import codec
from protocol.messages import TUNNEL_PROTOCOL, Acknowledged, SessionDeclined, TunnelRequest

ANY = "/ip4/127.0.0.1/tcp/0"
SESSION, OTHER = b"\x01" * 32, b"\x02" * 32
WORKER, ASKING = "bank-a/member", "bank-b/member"
ANSWERS = (Acknowledged, SessionDeclined)


@dataclass
class Live:
    """What tunnels know of a session."""

    session: bytes
    roster: Any
    over: trio.Event
    entrance: str = ""


class World:
    """bank-a with a worker, bank-b in its session, fintech-c known and not in it, a stranger."""

    def __init__(self, hosts: list[Host], folder: Path, nursery: trio.Nursery) -> None:
        self.a, self.b, self.c, self.stranger = hosts
        self.folder, self.nursery = folder, nursery
        self.hosts = {"bank-a": self.a, "bank-b": self.b, "fintech-c": self.c}
        self.known = {host.peer_id for host in self.hosts.values()}
        self.tunnels = {name: self._tunnels(host) for name, host in self.hosts.items()}
        self.heard: list[trio.SocketStream] = []
        self.came = trio.Event()
        self.lives: dict[str, Any] = {}

    def _tunnels(self, host: Host) -> Tunnels:
        directory: Any = SimpleNamespace(
            own=SimpleNamespace(peer_id=host.peer_id),
            of_peer=lambda peer_id: peer_id if peer_id in self.known else None,
        )
        return Tunnels(host, directory, Listen(), self.nursery)

    async def worker(self, stream: trio.SocketStream) -> None:
        self.heard.append(stream)
        self.came.set()
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            async for data in stream:
                await stream.send_all(data.upper())
        await stream.aclose()

    async def serve(self) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.nursery.start_soon(trio.serve_listeners, self.worker, listeners)
        port = listeners[0].socket.getsockname()[1]
        parties = [
            SimpleNamespace(name=name, peer_id=host.peer_id, address=f"127.0.0.9:{port}")
            for name, host in ((WORKER, self.a), (ASKING, self.b))
        ]
        self.roster = SimpleNamespace(parties=parties)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        over = trio.Event()
        with (
            self.open("bank-a", over) as one,
            self.open("bank-b", over) as other,
        ):
            self.nursery.start_soon(self.tunnels["bank-a"].serve, self.lives["bank-a"], one)
            self.nursery.start_soon(self.tunnels["bank-b"].serve, self.lives["bank-b"], other)
            yield
            over.set()

    def open(self, name: str, over: trio.Event) -> Any:
        live: Any = Live(SESSION, self.roster, over)
        self.lives[name] = live
        folder = self.folder / name
        folder.mkdir()
        return self.tunnels[name].opened(live, folder)

    async def dialled(self, party: str) -> Any:
        """What bank-b's worker gets at its entrance."""
        entrance = self.lives["bank-b"].entrance
        return await trio.to_thread.run_sync(dial_through, entrance, party, 5.0)

    async def asked(self, host: Host, session: bytes, party: str) -> Any:
        stream = await host.open_stream(self.a.peer_id, TUNNEL_PROTOCOL)
        await write_frame(stream, codec.encode(TunnelRequest(session=session, party=party)))
        return stream, codec.decode(await read_frame(stream), *ANSWERS)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with (
        open_host(bytes([1]) * 32, ANY, "test") as a,
        open_host(bytes([2]) * 32, ANY, "test", {a.peer_id: a.addresses}) as b,
        open_host(bytes([3]) * 32, ANY, "test", {a.peer_id: a.addresses}) as c,
        open_host(bytes([4]) * 32, ANY, "test", {a.peer_id: a.addresses}) as stranger,
        trio.open_nursery() as nursery,
    ):
        found = World([a, b, c, stranger], tmp_path, nursery)
        await found.serve()
        yield found
        nursery.cancel_scope.cancel()


async def ended(connection: Any, within_s: float = 4.0) -> bool:
    """Whether the worker at this end sees its end."""
    connection.settimeout(within_s)
    try:
        return await trio.to_thread.run_sync(connection.recv, 10) == b""
    except ConnectionError:
        return True


async def test_what_is_said_arrives_and_an_end_is_an_end(world: World) -> None:
    async with world.session():
        connection = await world.dialled(WORKER)
        await trio.to_thread.run_sync(connection.sendall, b"hello" * 100_000)
        connection.settimeout(5)
        got = b""
        while len(got) < 500_000:
            got += await trio.to_thread.run_sync(connection.recv, 65_536)
        assert got == b"HELLO" * 100_000
        connection.shutdown(1)
        assert await ended(connection)
        connection.close()


async def test_a_worker_that_goes_is_seen_to_go(world: World) -> None:
    async with world.session():
        connection = await world.dialled(WORKER)
        with trio.fail_after(5):
            await world.came.wait()
        await world.heard[0].aclose()
        with trio.fail_after(1):
            assert await ended(connection, 1)
        connection.close()


async def test_a_node_that_goes_is_seen_to_go(world: World) -> None:
    async with world.session():
        connection = await world.dialled(WORKER)
        await world.b.drop(world.a.peer_id)
        with trio.fail_after(2):
            assert await ended(connection, 2)
        connection.close()


async def test_who_has_no_part_is_cut_off(world: World) -> None:
    async with world.session():
        for host, session, party in (
            (world.stranger, SESSION, WORKER),
            (world.stranger, OTHER, WORKER),
            (world.c, SESSION, WORKER),
            (world.b, SESSION, "nobody/member"),
            (world.b, SESSION, ASKING),
        ):
            with pytest.raises(StreamBroken):
                await world.asked(host, session, party)
        assert world.heard == []


async def test_a_tunnel_for_another_session_is_declined(world: World) -> None:
    async with world.session():
        _, answer = await world.asked(world.b, OTHER, WORKER)
        assert isinstance(answer, SessionDeclined)
        assert world.heard == []
    _, answer = await world.asked(world.b, SESSION, WORKER)
    assert isinstance(answer, SessionDeclined)


async def test_a_worker_hears_why_there_is_no_way(world: World) -> None:
    async with world.session():
        with pytest.raises(ConnectionRefusedError, match="no party of the session"):
            await world.dialled("nobody/member")
        world.lives["bank-a"].over.set()
        with pytest.raises(ConnectionRefusedError, match="its node says: no such session"):
            await world.dialled(WORKER)


async def test_garbage_ends_its_own_stream_alone(world: World) -> None:
    async with world.session():
        for data in (b"", b"\xff" * 100, b"\x00\x00\x00\x05garba", b"\x00" * 4):
            stream = await world.b.open_stream(world.a.peer_id, TUNNEL_PROTOCOL)
            await stream.write(data)
            await stream.finish()
            with pytest.raises(StreamBroken):
                await read_frame(stream)
        _, answer = await world.asked(world.b, SESSION, WORKER)
        assert isinstance(answer, Acknowledged)


async def test_a_peer_has_a_bounded_number(world: World, monkeypatch) -> None:
    monkeypatch.setattr(tunnels, "TUNNELS_OF_PEER", 3)
    async with world.session():
        made = [await world.asked(world.b, SESSION, WORKER) for _ in range(4)]
        assert [type(answer) for _, answer in made] == [*[Acknowledged] * 3, SessionDeclined]
        await reset(made[0][0])
        with trio.fail_after(5):
            while world.tunnels["bank-a"]._of_peer[world.b.peer_id] == 3:  # noqa: ASYNC110
                await trio.sleep(0.01)
        _, answer = await world.asked(world.b, SESSION, WORKER)
        assert isinstance(answer, Acknowledged)


async def test_a_half_open_tunnel_does_not_stay(world: World, monkeypatch) -> None:
    monkeypatch.setattr(tunnels, "HALF_OPEN_S", 0.3)
    async with world.session():
        stream, _ = await world.asked(world.b, SESSION, WORKER)
        with trio.fail_after(5):
            await world.came.wait()
        await world.heard[0].send_eof()
        with trio.fail_after(3):
            assert await stream.read(1) == b""
            while world.tunnels["bank-a"]._of_peer:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_tunnel_ends_with_its_session(world: World, monkeypatch) -> None:
    monkeypatch.setattr(tunnels, "GRACE_S", 0.2)
    async with world.session():
        connection = await world.dialled(WORKER)
    with trio.fail_after(3):
        assert await ended(connection)
        while world.tunnels["bank-a"]._of_peer:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert not os.path.exists(world.lives["bank-b"].entrance)  # noqa: ASYNC240, PTH110
    connection.close()
