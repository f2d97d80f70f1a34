"""Two nodes negotiate while messages are lost, repeated and late, and both crash: they agree.

The nodes run their own code over databases in memory; a crash drops every task of a node and
builds it anew from its database. Messages take up to half a minute, so they overtake each other
and arrive after whoever sent them has given up waiting. Clocks are minutes apart.
"""

import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from sqlite_utils import Database

from node import engine as engine_module
from node import grant_records, negotiation_records, referrals
from node.bindings import Bindings
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine
from node.errors import Fault
from node.grants import Grants
from node.judging import Judging
from node.negotiation_records import Negotiation
from node.negotiations import Negotiations
from protocol import typed_data
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.negotiation import NEGOTIATION, State
from protocol.negotiation_consumer import Limits
from tests.node.rooms.contracts import ALGORITHM, DATA, algorithm, everybody_knows, request_for

LEAF = DATA["bank-b"]
BEGAN = 1_800_000_000.0
LATEST_S = 30.0
NEAR_S = 400.0
"""Clocks are so far apart at most, and a node that was down expires what is due a moment late."""
CALM_S = 700.0
"""The longest pause between two attempts, and a little."""
IN_BETWEEN = {State.AGREED, State.VERIFIED}
"""Where two never stand alike: the others await a person, or are ends."""


@dataclass
class Network:
    """Carries requests between two nodes, as badly as `dice` say while `bad`."""

    dice: random.Random
    nursery: trio.Nursery
    handlers: dict[PeerId, Callable[..., Any]] = field(default_factory=dict)
    nurseries: dict[PeerId, trio.Nursery] = field(default_factory=dict)
    loss: float = 0.0
    bad: bool = True

    async def carry(self, sender: PeerId, receiver: PeerId, payload: bytes) -> bytes:
        """The first answer that arrives; Fault if the receiver refuses, else it waits for ever."""
        answers: trio.MemorySendChannel[Any]
        answers, heard = trio.open_memory_channel[Any](4)
        copies = self.dice.choice((1, 1, 2, 3)) if self.bad else 1
        for _ in range(copies):
            self.nursery.start_soon(self._deliver, sender, receiver, payload, answers)
        answer = await heard.receive()
        if isinstance(answer, Exception):
            raise Fault("peer-refused", str(answer))
        return bytes(answer)

    async def _deliver(self, sender: PeerId, receiver: PeerId, payload: bytes, answers) -> None:
        await self._travel()
        if self._lost() or receiver not in self.nurseries:
            return
        self.nurseries[receiver].start_soon(self._handle, sender, receiver, payload, answers)

    async def _handle(self, sender: PeerId, receiver: PeerId, payload: bytes, answers) -> None:
        answer: bytes | Exception
        try:
            answer = await self.handlers[receiver](sender, payload)
        except (Fault, RemoteProtocolError) as error:
            answer = error
        await self._travel()
        if not self._lost():
            with suppress(trio.WouldBlock, trio.BrokenResourceError):
                answers.send_nowait(answer)

    async def _travel(self) -> None:
        slow = self.bad and self.dice.random() < 0.3
        await trio.sleep(self.dice.uniform(0, LATEST_S) if slow else 0.01)

    def _lost(self) -> bool:
        return self.bad and self.dice.random() < self.loss


class Host:
    """What the rooms use of a host."""

    def __init__(self, network: Network, peer_id: PeerId) -> None:
        self.network, self.peer_id = network, peer_id

    def serve(self, protocol: str, handler: Callable[..., Any], **_: object) -> None:
        if "negotiation" in protocol:
            self.network.handlers[self.peer_id] = handler

    def on_connected(self, _: object) -> None:
        """Nobody is greeted here."""

    async def request(self, peer_id: PeerId, _: str, payload: bytes, *, timeout_s: float) -> bytes:
        with trio.move_on_after(timeout_s):
            return await self.network.carry(self.peer_id, peer_id, payload)
        raise Fault("peer-timeout", "no answer")


@dataclass
class Party:
    """One organisation: what survives a crash, and what is built anew after it."""

    made: Any
    db: Database
    skew_s: float
    network: Network
    config: Any
    scope: trio.CancelScope | None = None
    engine: Engine = field(init=False)
    rooms: Negotiations = field(init=False)

    def clock(self) -> float:
        return BEGAN + trio.current_time() + self.skew_s

    async def live(self) -> None:
        """One life, until it is killed."""
        made, peer_id = self.made, self.made.key.peer_id
        self.engine = Engine(self.db, self.clock)
        registry = typed_data.registry_domain(31337, self.config.chain.registry)
        bindings = Bindings(self.db, registry, self.clock)
        directory = Directory.of(self.config, made.account, peer_id, bindings)
        host: Any = Host(self.network, peer_id)
        exchange = DocumentExchange(self.engine, host, directory)
        judging = Judging(self.engine, directory, self.config)
        grants = Grants(self.engine, directory, judging, self.config.chain)
        grants.signer = made.grants.signer
        self.rooms = Negotiations(self.engine, host, directory, exchange, judging, grants)
        async with trio.open_nursery() as nursery:
            self.scope = nursery.cancel_scope
            self.network.nurseries[peer_id] = nursery
            nursery.start_soon(self.engine.run)

    async def start(self) -> None:
        self.network.nursery.start_soon(self.live)
        await trio.testing.wait_all_tasks_blocked()

    def kill(self) -> None:
        if self.scope is not None:
            self.scope.cancel()
        self.scope = None
        self.network.nurseries.pop(self.made.key.peer_id, None)

    def find(self, process: bytes) -> Negotiation | None:
        return negotiation_records.find(self.db, process)


@dataclass(frozen=True)
class Story:
    """What a seed tells: what is asked, by which terms, and what the people do."""

    uses: int
    uses_least: int
    purposes: tuple[str, ...]
    later_price: int
    life_s: int
    consumer_does: str
    provider_does: str


def drawn(dice: random.Random) -> Story:
    uses, uses_least = dice.choice(((1, 1), (1, 1), (5, 1), (5, 5)))
    return Story(
        uses=uses,
        uses_least=uses_least,
        purposes=dice.choice((("risk",), ("risk",), ("marketing",))),
        later_price=dice.choice((10**18, 10**18, 2 * 10**18)),
        life_s=dice.choice((3600, 3600, 900)),
        consumer_does=dice.choice(("accept", "accept", "withdraw", "nothing")),
        provider_does=dice.choice(("approve", "approve", "refuse", "nothing")),
    )


@pytest.fixture
def world(nodes):
    """Databases of both sides in which all assets are known, to be copied for each seed."""
    everybody_knows(nodes, algorithm(nodes))
    return nodes


def copied(made) -> Database:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    made.engine.db.conn.backup(connection)
    return Database(connection)


def with_terms(config, **changes: object):
    dataset = config.datasets[0]
    terms = {**dataset.terms, **changes}
    changed = msgspec.structs.replace if isinstance(dataset, msgspec.Struct) else _replace
    return changed(config, datasets=(changed(dataset, terms=terms), *config.datasets[1:]))


def _replace(value, **changes):
    from dataclasses import replace  # noqa: PLC0415

    return replace(value, **changes)


async def run(seed: int, world) -> str:
    """One story under one kind of weather; how it ended."""
    dice = random.Random(seed)
    story = drawn(dice)
    async with trio.open_nursery() as nursery:
        network = Network(dice, nursery, loss=dice.uniform(0.1, 0.6))
        bank, fintech = world["bank-b"], world["fintech-c"]
        config = with_terms(bank.config, purposes=list(story.purposes), refer=["purposes"])
        skews = [dice.uniform(-150, 150) for _ in range(2)]
        provider = Party(bank, copied(bank), skews[0], network, config)
        consumer = Party(fintech, copied(fintech), skews[1], network, fintech.config)
        for party in (provider, consumer):
            await party.start()
        process = begin(world, consumer, story)
        nursery.start_soon(watch, provider, consumer, process)
        async with trio.open_nursery() as weather:
            for party in (provider, consumer):
                weather.start_soon(storm, dice, party, provider, story)
            weather.start_soon(people, dice, consumer, provider, process, story)
        network.bad = False
        for party in (provider, consumer):
            if party.scope is None:
                await party.start()
        end = await agreed(provider, consumer, process)
        nursery.cancel_scope.cancel()
    return end


def begin(world, consumer: Party, story: Story) -> bytes:
    request = request_for(
        world, LEAF, uses=story.uses, expires=int(consumer.clock()) + story.life_s
    )
    limits = Limits(
        pay_most=request.pay_amount,
        uses_least=story.uses_least,
        expires_least=request.expires,
        attesters=(request.attester,),
        deciders=(request.decider,),
    )
    consumer.rooms.consumer.start(request, limits)
    return request.process


async def storm(dice: random.Random, party: Party, provider: Party, story: Story) -> None:
    """Crashes, and a changed policy at one of them."""
    for _ in range(dice.randrange(4)):
        await trio.sleep(dice.expovariate(1 / 40))
        party.kill()
        if party is provider:
            party.config = with_terms(party.config, price=story.later_price)
        await trio.sleep(dice.choice((0.0, 1.0, 60.0)))
        await party.start()
    await trio.sleep(dice.uniform(0, 400))


async def people(
    dice: random.Random, consumer: Party, provider: Party, process: bytes, story: Story
) -> None:
    """They look a few times, and act if there is something to act upon and their node is up."""
    for _ in range(3):
        await trio.sleep(dice.expovariate(1 / 60))
        with suppress(Fault):
            if story.provider_does != "nothing" and provider.scope is not None:
                act = getattr(provider.rooms.provider, story.provider_does)
                act(process, "ann", "a remark")
        with suppress(Fault):
            if story.consumer_does != "nothing" and consumer.scope is not None:
                getattr(consumer.rooms.consumer, story.consumer_does)(process)


async def watch(provider: Party, consumer: Party, process: bytes) -> None:
    """At any time the two differ only on a grant that is alive."""
    while True:
        await trio.sleep(5)
        theirs, ours = provider.find(process), consumer.find(process)
        assert ours is not None
        if theirs is None:
            assert ours.state in (State.REQUESTED, State.TERMINATED)
            continue
        assert {theirs.state, ours.state} != {State.FINALIZED, State.TERMINATED}
        now = min(provider.clock(), consumer.clock())
        if theirs.state is State.TERMINATED and ours.state is State.VERIFIED:
            assert theirs.not_after <= provider.clock()
        if theirs.state is State.AGREED and ours.state is State.TERMINATED and provider.scope:
            assert now <= theirs.not_after + NEAR_S


async def agreed(provider: Party, consumer: Party, process: bytes) -> str:
    """Minutes after the storm both stand alike, hours after it both have ended alike; how."""

    def states() -> list[State]:
        found = [each.find(process) for each in (consumer, provider)]
        return [each.state for each in found if each is not None]

    await trio.sleep(CALM_S)
    assert len(set(states())) == 1, states()
    assert not set(states()) & IN_BETWEEN, states()
    with trio.fail_after(2 * 3600):
        while not all(NEGOTIATION.is_final(state) for state in states()):  # noqa: ASYNC110
            await trio.sleep(20)
    assert len(set(states())) == 1, states()
    held = same_grants(provider, consumer, states()[0])
    told = consumer.find(process)
    assert told is not None
    assert not referrals.waiting(provider.db)
    return f"{told.state} {held} {told.offer} {told.sentence[:40]}"


def same_grants(provider: Party, consumer: Party, end: State) -> str:
    """Both keep the same grant if they finalized, and none that is alive if they did not."""
    given = grant_records.latest(provider.db, LEAF, ALGORITHM)
    held = grant_records.latest(consumer.db, LEAF, ALGORITHM)
    if end is State.FINALIZED:
        assert given is not None
        assert held is not None
        assert (given.body, given.signature) == (held.body, held.signature)
        return "held"
    for kept in (given, held):
        assert kept is None or kept.terms.expiry < provider.clock()
    return "none" if held is None and given is None else "dead"


def play(seeds: range, world, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    bugs: list[str] = []
    silent = SimpleNamespace(
        info=lambda *_, **__: None,
        warning=lambda *_, **__: None,
        exception=lambda what, **detail: bugs.append(f"{what} {detail}"),
    )
    monkeypatch.setattr(engine_module, "log", silent)
    monkeypatch.setattr(negotiation_records, "log", silent)
    ends = []
    for seed in seeds:
        clock = trio.testing.MockClock(autojump_threshold=0)
        try:
            ends.append(trio.run(run, seed, world, clock=clock))
        except BaseException as error:
            error.add_note(f"seed {seed}: {drawn(random.Random(seed))}")
            raise
        assert not bugs, (seed, bugs)
    return ends


def test_once_messages_arrive_both_sides_agree(world, monkeypatch) -> None:
    ends = play(range(100), world, monkeypatch)
    assert {"FINALIZED", "TERMINATED"} == {end.split()[0] for end in ends}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", range(4))
def test_once_messages_arrive_both_sides_agree_over_2000_seeds(
    world, monkeypatch, block: int
) -> None:
    play(range(100 + block * 500, 600 + block * 500), world, monkeypatch)
