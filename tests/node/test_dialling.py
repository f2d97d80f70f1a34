"""Redialling: ever longer pauses, never in step with others, over when something changes."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio

from node.admission import Admission
from node.dialling import BACK_OFF_MOST_S, Dialling
from node.libp2p_guard import Limits
from node.peer_store import PeerStore, Source
from node.peer_table import PeerTable
from node.peers import PeerUnreachable
from node.streams import StreamBroken
from protocol.ids import PeerId

PEER = PeerId("12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq")
HOME, AWAY = "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"


class Deaf:
    """A guard that reaches nobody, or in time nobody."""

    peer_id = "self"

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self.dialled: list[tuple[float, str]] = []

    def is_connected(self, _peer_id: str) -> bool:
        return False

    async def dial(self, _peer_id: str, address: str) -> None:
        self.dialled.append((trio.current_time(), address))
        if self.silent:
            await trio.sleep_forever()
        raise StreamBroken("connection refused")


def dialling(guard: Deaf, table: PeerTable) -> Dialling:
    return Dialling(guard, table, PeerStore(), Admission(), Limits())  # type: ignore[arg-type]


async def pauses(guard: Deaf, seconds: float) -> Sequence[float]:
    table = PeerTable()
    peer = table.peer(PEER)
    peer.addresses = (HOME,)
    with trio.move_on_after(seconds):
        await dialling(guard, table).keep(PEER, peer, lambda _: None)
    times = [at for at, _ in guard.dialled]
    return [later - earlier for earlier, later in pairwise(times)]


async def test_the_pauses_double_up_to_a_bound(autojump_clock: trio.abc.Clock) -> None:
    found = await pauses(Deaf(), 600)
    assert 15 <= len(found) <= 45
    for number, pause in enumerate(found):
        expected = min(BACK_OFF_MOST_S, 0.25 * 2**number)
        assert 0.5 * expected <= pause <= 1.5 * expected + 0.01


async def test_no_two_nodes_redial_in_step(autojump_clock: trio.abc.Clock) -> None:
    assert await pauses(Deaf(), 60) != await pauses(Deaf(), 60)


async def test_a_change_ends_the_pause(autojump_clock: trio.abc.Clock) -> None:
    guard, table = Deaf(), PeerTable()
    peer = table.peer(PEER)
    peer.addresses = (HOME,)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialling(guard, table).keep, PEER, peer, lambda _: None)
        await trio.sleep(300)
        peer.addresses = (AWAY,)
        peer.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert guard.dialled[-1] == (trio.current_time(), AWAY)
        nursery.cancel_scope.cancel()


async def test_whoever_is_not_admitted_is_not_dialled(autojump_clock: trio.abc.Clock) -> None:
    guard, table = Deaf(), PeerTable()
    peer = table.peer(PEER)
    peer.addresses = (HOME,)
    with trio.move_on_after(100):
        await dialling(guard, table).keep(PEER, peer, lambda _: "banned")
    assert guard.dialled == []


async def test_an_address_that_swallows_everything_costs_its_deadline(
    autojump_clock: trio.abc.Clock,
) -> None:
    guard, table = Deaf(silent=True), PeerTable()
    table.peer(PEER).addresses = (HOME, AWAY)
    with pytest.raises(PeerUnreachable, match="did not answer in time"):
        await dialling(guard, table).reach(PEER)
    assert [at for at, _ in guard.dialled] == pytest.approx([0, 8], abs=0.1)
    assert trio.current_time() == pytest.approx(16, abs=0.1)


@pytest.mark.parametrize(
    ("own", "told", "source", "dialled"),
    [
        ("/ip4/0.0.0.0/tcp/1", "/ip4/0.0.0.0/tcp/1", "announcement", False),
        ("/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/1", "announcement", False),
        ("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.2/tcp/1", "lookup", True),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.9.9/tcp/1", "announcement", True),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/10.7.0.1/tcp/1", "announcement", False),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/192.168.1.1/tcp/1", "chain", False),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/192.168.1.1/tcp/1", "local-network", True),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1", "local-network", False),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/169.254.169.254/tcp/80", "announcement", False),
        ("/ip4/10.0.0.1/tcp/1", "/ip6/::ffff:10.7.0.1/tcp/1", "announcement", False),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/1", "peer", True),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/10.7.0.1/tcp/1", "configured", True),
    ],
)
async def test_where_the_network_may_send_this_node(
    own: str, told: str, source: Source, dialled: bool
) -> None:
    guard, table = Deaf(), PeerTable()
    made = dialling(guard, table)
    made.settle([own])
    if source == "configured":
        table.peer(PEER).addresses = (told,)
    else:
        made._store.learn(PEER, [told], source)
    with pytest.raises(PeerUnreachable):
        await made.reach(PEER)
    assert bool(guard.dialled) == dialled


async def test_lookups_of_a_lost_peer_are_rare(autojump_clock: trio.abc.Clock) -> None:
    looked: list[float] = []

    async def find(_peer_id: PeerId) -> None:
        looked.append(trio.current_time())

    guard, table = Deaf(), PeerTable()
    peer = table.peer(PEER)
    peer.addresses = (HOME,)
    made = dialling(guard, table)
    made.find = find
    with trio.move_on_after(3_600):
        await made.keep(PEER, peer, lambda _: None)
    assert 5 <= len(looked) <= 20
