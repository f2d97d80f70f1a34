"""What is remembered of peers: order, room, restarts, and whose word displaces nothing."""

from pathlib import Path

import pytest
import trio

from node.addresses import dialable, neighbourhood, reachable, resolve, route, split_peer
from node.errors import Fault
from node.host import Host, PeerUnreachable, open_host
from node.keys import PeerKey
from node.peer_store import BANS_LIMIT, FIRST_HAND, PEERS_LIMIT, PER_SOURCE, PeerStore
from node.store import open_store
from protocol.ids import PeerId

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/northbund/echo/1"


def peer(number: int) -> PeerId:
    return PeerKey(number.to_bytes(32, "big")).peer_id


PEER, OTHER = peer(1), peer(2)


def at(number: int) -> str:
    return f"/ip4/198.51.100.{number}/tcp/4001"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def told(store: PeerStore, peer_id: PeerId = PEER) -> list[str]:
    return [address for address, _ in store.addresses(peer_id)]


def test_what_was_learned_outlives_the_process(tmp_path: Path) -> None:
    for _ in range(2):
        db = open_store(tmp_path / "node.db")
        store = PeerStore(db)
        store.learn(PEER, [f"{at(1)}/p2p/{PEER}", at(2)], "announcement")
        db.close()
    store = PeerStore(open_store(tmp_path / "node.db"))
    assert store.addresses(PEER) == [(at(1), "announcement"), (at(2), "announcement")]
    assert store.peers(FIRST_HAND) == [PEER]


def test_each_source_has_its_own_places() -> None:
    store = PeerStore()
    store.learn(PEER, [at(1)], "announcement")
    store.learn(PEER, [at(number) for number in range(10, 100)], "lookup")
    assert told(store) == [at(1), *(at(number) for number in range(10, 10 + PER_SOURCE))]
    store.learn(PEER, [at(2)], "announcement")
    assert told(store)[0] == at(2)
    assert at(1) not in told(store)


def test_the_address_that_worked_last_stays_and_comes_first() -> None:
    store = PeerStore(clock=Clock())
    store.learn(PEER, [at(1), at(2)], "lookup")
    store.worked(PEER, at(2), "lookup")
    store.learn(PEER, [at(3)], "lookup")
    assert told(store) == [at(2), at(3)]
    assert store.last_success(PEER) == pytest.approx(1_003, abs=3)
    assert store.last_success(OTHER) is None


def test_what_the_configuration_says_is_noted_and_not_given_back() -> None:
    store = PeerStore()
    for number in range(20):
        store.worked(PEER, at(number), "configured")
    assert told(store) == []
    assert store.last_success(PEER) is not None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x" * 300,
        "/ip4/192.0.2.1/udp/4001",
        f"/ip4/192.0.2.1/tcp/1/p2p/{OTHER}",
        "/ip4/192.0.2.1/tcp/1/p2p/nobody/p2p-circuit",
        "/ip4/192.0.2.1/tcp/1/p2p-circuit",
        "/ip4/192.0.2.1/tcp/99999",
    ],
)
def test_what_cannot_be_dialled_is_left_out(address: str) -> None:
    store = PeerStore()
    assert not store.learn(PEER, [address], "announcement")
    assert not store.learn("nobody", [at(1)], "announcement")
    assert told(store) == []


def test_the_tables_are_bounded_and_keep_those_that_were_reached() -> None:
    store = PeerStore(clock=Clock())
    store.learn(PEER, [at(1)], "announcement")
    store.worked(PEER, at(1), "announcement")
    with store._db.atomic():
        for number in range(PEERS_LIMIT + 50):
            store.learn(peer(number + 10), [at(2)], "lookup")
        for number in range(BANS_LIMIT + 50):
            store.ban(peer(number), "rubbish", 1_000_000.0)
    assert len(store.peers(["lookup", "announcement"])) == PEERS_LIMIT
    assert told(store) == [at(1)]
    assert len(store.bans()) == BANS_LIMIT


def test_a_ban_ends_by_the_clock() -> None:
    clock = Clock()
    store = PeerStore(clock=clock)
    store.ban(PEER, "rubbish", 100.0)
    clock.now += 50
    [ban] = store.bans()
    assert (ban.peer_id, ban.reason) == (PEER, "rubbish")
    assert 40 < ban.until < 50
    clock.now += 50
    assert store.bans() == []


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("ip4/127.0.0.1", "machine"),
        ("ip6/::1", "machine"),
        ("ip6/::ffff:127.0.0.1", "machine"),
        ("ip4/8.8.8.8", "everywhere"),
        ("ip4/10.1.2.3", "0a01"),
        ("ip4/192.168.7.7", "c0a8"),
        ("ip4/169.254.169.254", "a9fe"),
        ("ip6/fd00:1:2:3::1", "fd0000010002"),
        ("ip4/0.0.0.0", "unusable"),
        ("ip4/224.0.0.251", "unusable"),
        ("ip4/255.255.255.255", "unusable"),
        ("dns4/localhost", "unusable"),
    ],
)
def test_the_neighbourhood_of_an_address(host: str, where: str) -> None:
    assert neighbourhood(f"/{host}/tcp/4001") == where


def test_a_circuit_names_its_relay() -> None:
    circuit = dialable(f"{at(1)}/p2p/{OTHER}/p2p-circuit/p2p/{PEER}", PEER)
    assert circuit == f"{at(1)}/p2p/{OTHER}/p2p-circuit"
    assert (route(circuit).address, route(circuit).relay) == (at(1), OTHER)
    assert route(at(1)).relay is None
    with pytest.raises(Fault, match="another peer"):
        dialable(circuit + f"/p2p/{OTHER}", PEER)
    assert split_peer(circuit + f"/p2p/{PEER}") == (PEER, circuit)
    with pytest.raises(Fault, match="does not end in"):
        split_peer(at(1))


def test_a_wildcard_is_told_as_an_address_that_means_something() -> None:
    assert reachable(at(1)) == at(1)
    assert reachable("/dns4/node.example/tcp/1") == "/dns4/node.example/tcp/1"
    told = reachable("/ip4/0.0.0.0/tcp/4001")
    assert told is None or neighbourhood(told) != "unusable"


async def test_a_kept_peer_that_moved_is_found_where_it_says_it_is_now() -> None:
    async with (
        open_host(bytes([1]) * 32, ANY, "test") as far,
        open_host(bytes([2]) * 32, ANY, "test") as near,
    ):
        near.know(far.peer_id, ["/ip4/127.0.0.1/tcp/1"])
        await trio.sleep(0.5)
        near.learn(far.peer_id, far.addresses, "announcement")
        with trio.fail_after(5):
            while not near.guard.is_connected(far.peer_id):  # noqa: ASYNC110
                await trio.sleep(0.02)


async def test_names_are_resolved_before_they_are_judged() -> None:
    assert await resolve("/dns4/localhost/tcp/7", 5) == ["/ip4/127.0.0.1/tcp/7"]
    assert await resolve(at(1), 5) == [at(1)]


async def echo(_peer: PeerId, request: bytes) -> bytes:
    return request


async def reaches(host: Host, peer_id: PeerId) -> bool:
    try:
        return await host.request(peer_id, ECHO, b"x", timeout_s=5) == b"x"
    except PeerUnreachable:
        return False


async def test_a_learned_peer_is_reached_when_asked_after_a_restart_too(tmp_path: Path) -> None:
    async with open_host(bytes([1]) * 32, ANY, "test") as far:
        far.serve(ECHO, echo)
        for start in range(2):
            db = open_store(tmp_path / "node.db")
            async with open_host(bytes([2]) * 32, ANY, "test", store=PeerStore(db)) as near:
                if start == 0:
                    assert not await reaches(near, far.peer_id)
                    near.learn(far.peer_id, [at(1), *far.addresses], "announcement")
                    near.learn(far.peer_id, far.addresses, "chain")
                assert await reaches(near, far.peer_id)
                assert not any(each.known for each in near.peers())
            db.close()


async def test_an_announced_address_of_this_machine_is_not_dialled_from_elsewhere() -> None:
    """The rule of node.dialling: no peer makes this node knock at its own private doors."""
    knocked = trio.Event()

    async def door(stream: trio.SocketStream) -> None:
        knocked.set()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, door, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with open_host(bytes([2]) * 32, ANY, "test") as host:
            host.dialling.settle([at(7)])
            for address in (f"/ip4/127.0.0.1/tcp/{port}", f"/dns4/localhost/tcp/{port}"):
                host.learn(PEER, [address], "announcement")
                with pytest.raises(PeerUnreachable, match="not of this node's own network"):
                    await host.request(PEER, ECHO, b"", timeout_s=3)
            assert not knocked.is_set()
            host.know(PEER, [f"/dns4/localhost/tcp/{port}"])
            with trio.fail_after(5):
                await knocked.wait()
        nursery.cancel_scope.cancel()


async def test_what_others_told_never_displaces_what_is_configured() -> None:
    async with (
        open_host(bytes([1]) * 32, ANY, "test") as far,
        open_host(bytes([3]) * 32, ANY, "test") as impostor,
        open_host(bytes([2]) * 32, ANY, "test") as near,
    ):
        far.serve(ECHO, echo)
        for source in ("announcement", "chain"):
            near.learn(far.peer_id, [impostor.listening[0].partition("/p2p/")[0]], source)
        near.know(far.peer_id, far.addresses)
        assert await reaches(near, far.peer_id)
        near.learn(far.peer_id, [impostor.listening[0].partition("/p2p/")[0]], "lookup")
        await far.drop(near.peer_id)
        assert await reaches(near, far.peer_id)


async def test_a_ban_holds_after_a_restart(tmp_path: Path) -> None:
    async with open_host(bytes([1]) * 32, ANY, "test") as far:
        for start in range(2):
            db = open_store(tmp_path / "node.db")
            async with open_host(bytes([2]) * 32, ANY, "test", store=PeerStore(db)) as near:
                far.know(near.peer_id, near.addresses)
                if start == 0:
                    for _ in range(6):
                        near.report(far.peer_id, "a wrong document")
                assert near.conduct.admit(far.peer_id) == "a wrong document"
            db.close()


async def test_what_is_announced_can_differ_from_what_is_listened_on() -> None:
    async with open_host(bytes([1]) * 32, ANY, "test", announce=[at(1)]) as host:
        assert host.addresses == (f"{at(1)}/p2p/{host.peer_id}",)
        assert host.listening[0].startswith("/ip4/127.0.0.1/tcp/")
