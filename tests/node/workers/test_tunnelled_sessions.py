"""Workers whose addresses lead nowhere: the session goes through the nodes, or ends by name."""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from node.config_network import Listen
from node.host import Host, open_host
from node.tunnels import Tunnels
from node.workers import messages as m

ANY = "/ip4/127.0.0.1/tcp/0"
LISTEN = Listen(data_host="127.0.0.1", data_announce="127.0.0.2")
"""Nobody listens there: a worker is at 127.0.0.1 alone."""
NAMES = ("bank-a", "bank-b", "fintech-c", "regulator-d")


@dataclass
class Live:
    """What tunnels know of a session."""

    session: bytes
    roster: Any
    over: trio.Event
    entrance: str = ""


def directory(own: Host, peers: Mapping[str, str]) -> Any:
    return SimpleNamespace(
        own=SimpleNamespace(peer_id=own.peer_id),
        of_peer=lambda peer_id: peer_id if peer_id in peers.values() else None,
    )


@asynccontextmanager
async def nodes() -> AsyncIterator[dict[str, Host]]:
    async with AsyncExitStack() as stack:
        hosts: dict[str, Host] = {}
        for number, name in enumerate(NAMES, start=1):
            known = {host.peer_id: host.addresses for host in hosts.values()}
            hosts[name] = await stack.enter_async_context(
                open_host(bytes([number]) * 32, ANY, "test", known)
            )
        yield hosts


@asynccontextmanager
async def tunnelled(harness, plan, hosts: Mapping[str, Host]) -> AsyncIterator[Any]:
    """A session whose roster names addresses that refuse, with its nodes; all have the roster."""
    peers = {name: str(host.peer_id) for name, host in hosts.items()}
    plan = plan.replaced(announce="127.0.0.2", peers=peers)
    async with harness.opened(plan) as session, trio.open_nursery() as nursery:
        over = trio.Event()
        async with AsyncExitStack() as stack:
            for name, host in hosts.items():
                live: Any = Live(session.roster.session, session.roster, over)
                folder = Path(plan.folder) / ("long-name" * 12) / name
                folder.mkdir(parents=True)
                tunnels = Tunnels(host, directory(host, peers), LISTEN, nursery)
                listener = stack.enter_context(tunnels.opened(live, folder))
                nursery.start_soon(tunnels.serve, live, listener)
                session.entrances[name] = live.entrance
                assert os.stat(live.entrance).st_mode & 0o777 == 0o600  # noqa: PTH116
            yield session
            over.set()
        nursery.cancel_scope.cancel()


async def test_a_session_completes_through_the_nodes(harness, small) -> None:
    async with nodes() as hosts, tunnelled(harness, small, hosts) as session:
        await session.run()
        assert session.failures() == {}
        assert session.summary(harness.recipient).rounds > 0


@pytest.mark.parametrize(
    "victim", [pytest.param("bank-b/contributor", marks=pytest.mark.slow), "regulator-d/member"]
)
async def test_a_worker_killed_behind_a_tunnel_is_named_within_a_second(
    harness, small, victim
) -> None:
    plan = small.replaced(
        parameters=harness.changed(epochs=100, width=1),
        limits=m.OwnerLimits(cohort_floor=20, numbers_cap=100),
    )
    killed: list[float] = []
    told: dict[str, float] = {}
    async with nodes() as hosts, tunnelled(harness, plan, hosts) as session:

        def on_report(party, report) -> None:
            if getattr(report, "stage", "") == "train" and party == victim and not killed:
                os.kill(session.workers[victim].pid, signal.SIGKILL)
                killed.append(trio.current_time())
            if isinstance(report, m.Failed):
                told[party] = trio.current_time()

        session.on_report = on_report
        await session.run()
        assert set(told) == set(plan.parties) - {victim}
        assert {failed.blamed for failed in session.failures().values()} == {(victim,)}
        assert max(told.values()) - killed[0] < 1.0


async def test_parties_behind_a_node_that_goes_are_named(harness, small) -> None:
    """All its connections end, and every tunnel to its party with them."""
    plan = small.replaced(
        parameters=harness.changed(epochs=100, width=1),
        limits=m.OwnerLimits(cohort_floor=20, numbers_cap=100),
    )
    gone: list[str] = []
    async with nodes() as hosts, tunnelled(harness, plan, hosts) as session:

        def on_report(party, report) -> None:
            if getattr(report, "stage", "") == "train" and not gone:
                gone.append("regulator-d")
                for name in ("bank-a", "bank-b", "fintech-c"):
                    hosts[name].spawn(hosts[name].drop, hosts[gone[0]].peer_id)

        session.on_report = on_report
        await session.run()
        failures = session.failures()
        assert set(failures) == set(plan.parties)
        honest = [f for party, f in failures.items() if party != "regulator-d/member"]
        assert {failed.blamed for failed in honest} == {("regulator-d/member",)}
