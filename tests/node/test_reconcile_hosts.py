"""Two real hosts: on connecting they hold one catalogue, and a liar loses its standing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from node.host import open_host
from protocol import codec
from protocol.reconcile_messages import (
    RECONCILE_PROTOCOL,
    AnnouncementsAnswer,
    AnnouncementsRequest,
    RangeEntries,
    RangesAnswer,
    RangesQuestion,
)
from tests.node.catalogue_process import Node, key_of

LISTEN = "/ip4/127.0.0.1/tcp/0"


@asynccontextmanager
async def node(seed: int, folder: Path) -> AsyncIterator[Node]:
    (folder / str(seed)).mkdir()
    job = {"seed": seed, "folder": folder / str(seed), "seeds": [1, 2, 3], "scheduled": True}
    async with open_host(key_of(seed).seed, LISTEN, "test") as host, trio.open_nursery() as nursery:
        made = Node(job, host)
        assert made.rooms is not None
        nursery.start_soon(made.engine.run)
        nursery.start_soon(made.rooms.run)
        yield made
        nursery.cancel_scope.cancel()


async def until(holds) -> None:
    with trio.fail_after(20):
        while not holds():  # noqa: ASYNC110  two nodes, and no event tells of both
            await trio.sleep(0.02)


async def test_two_hosts_hold_one_catalogue_soon_after_they_connect(tmp_path: Path) -> None:
    async with node(1, tmp_path) as one, node(2, tmp_path) as other:
        for number in range(5):
            one.publish(f"of one {number}")
            other.publish(f"of the other {number}")
        withdrawn = one.publish("withdrawn")
        one.withdraw(withdrawn)
        await until(lambda: one.held()["count"] == 6 and other.held()["count"] == 5)
        one.know([other.host.addresses[0]])
        await until(lambda: one.held() == other.held() and one.held()["count"] == 11)
        assert other.held()["withdrawn"] == [withdrawn]


async def test_a_peer_that_hands_over_garbage_is_banned(tmp_path: Path) -> None:
    async with node(1, tmp_path) as one, open_host(key_of(3).seed, LISTEN, "test") as liar:
        numbers = iter(range(1_000))

        async def lie(_peer: str, data: bytes) -> bytes:
            message = codec.decode(data, RangesQuestion, AnnouncementsRequest)
            if isinstance(message, RangesQuestion):
                named = RangeEntries(entries=next(numbers).to_bytes(32))
                return codec.encode(RangesAnswer(ranges=(named,)))
            return codec.encode(AnnouncementsAnswer(bodies=(b"garbage",), reached=1))

        liar.serve(RECONCILE_PROTOCOL, lie)
        one.know([liar.addresses[0]])
        await until(lambda: one.figure("connected"))
        assert one.rooms is not None
        for _ in range(5):
            await one.rooms.reconciling.with_peer(liar.peer_id)
        await until(lambda: not one.figure("connected"))
        (peer,) = one.host.peers()
        assert str(peer.banned).startswith(f"{RECONCILE_PROTOCOL}: not a msgpack message")
        assert one.held()["count"] == 0
