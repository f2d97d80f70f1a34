"""What peers answer may be anything, too: whoever asked takes it or says no, and nothing ends."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from node.engine import Owed
from protocol import envelope, messages
from protocol.codec import Wire
from protocol.ids import PeerId
from protocol.reconcile_messages import (
    RECONCILE_PROTOCOL,
    AnnouncementsAnswer,
    AnnouncementsTaken,
    EntriesWanted,
    RangesAnswer,
)
from tests.fuzz import hostile, speech
from tests.fuzz.live_rooms import LiveRooms, live_rooms
from tests.node.rooms import contracts

PEER = "fintech-c"
ANSWERS: dict[str, tuple[type[Wire], ...]] = {
    messages.DOCUMENT_PROTOCOL: (messages.DocumentAnswer,),
    messages.NEGOTIATION_PROTOCOL: (
        messages.ContractAgreement,
        messages.ContractOffer,
        messages.ContractPending,
        messages.ContractTermination,
        messages.ContractFinalized,
        messages.ContractReceived,
    ),
    messages.REVOCATION_PROTOCOL: (messages.RevocationNoted, messages.SessionDeclined),
    RECONCILE_PROTOCOL: (RangesAnswer, AnnouncementsAnswer, EntriesWanted, AnnouncementsTaken),
}
Action = Callable[[LiveRooms], None]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRooms]:
    with live_rooms(tmp_path_factory.mktemp("answers") / "node") as found:
        yield found


def obtain(live: LiveRooms) -> None:
    peers = [live.peers[PEER]]
    live.ask(live.rooms.negotiations.provider._exchange.obtain, b"\x77" * 32, peers)


def reconcile(live: LiveRooms) -> None:
    live.ask(live.rooms.catalogue.reconciling.with_peer, PeerId(live.peers[PEER]))


def negotiate(live: LiveRooms) -> None:
    """One more word of each negotiation that is under way."""
    for process in speech.PROCESSES:
        owed = Owed("speak", process, b"", 0, 2.0**40)
        live.ask(live.rooms.negotiations.consumer._speak, owed)


def revoke(live: LiveRooms) -> None:
    body = live.peers[PEER].encode() + b"\x00" + b"signed"
    live.ask(live.rooms.revocations._tell, Owed("tell", b"", body, 0, 2.0**40))


ACTIONS: dict[str, Action] = {
    messages.DOCUMENT_PROTOCOL: obtain,
    messages.NEGOTIATION_PROTOCOL: negotiate,
    messages.REVOCATION_PROTOCOL: revoke,
    RECONCILE_PROTOCOL: reconcile,
}


def begin_negotiations(live: LiveRooms) -> None:
    """bank-a asks bank-b for its dataset, thrice."""
    request = contracts.request_for(
        live.nodes | {PEER: live.nodes["bank-a"]}, contracts.DATA["bank-b"]
    )
    for process in speech.PROCESSES:
        wanted = msgspec.structs.replace(request, process=process)
        live.rooms.negotiations.consumer.start(wanted)


def answers(protocol: str, ids: dict[int, tuple[bytes, ...]]) -> st.SearchStrategy[bytes]:
    right = speech.values(ids, *ANSWERS[protocol]).map(speech.encoded)
    signed = right.map(lambda body: speech.encoded(_sealed(body)))
    other = speech.values(ids).map(speech.encoded)
    payload = st.one_of(right, right, other, signed, right.flatmap(hostile.from_seed))
    return payload.map(speech.framed) | hostile.hostile(())


def _sealed(body: bytes) -> envelope.Signed:
    return speech._sealed(body)


def check(live: LiveRooms, protocol: str, examples: int) -> None:
    accounts = tuple(node.account for node in live.nodes.values())
    ids: dict[int, Any] = speech.IDS | {20: (*speech.IDS[20], *accounts)}

    @settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(answers(protocol, ids), min_size=1, max_size=4))
    def run(said: list[bytes]) -> None:
        coming = iter(said)
        live.answers = lambda _protocol: next(coming, b"")
        try:
            ACTIONS[protocol](live)
        finally:
            live.answers = None

    run()


@pytest.mark.parametrize("protocol", ACTIONS)
def test_answers(live: LiveRooms, protocol: str) -> None:
    if not live.call(lambda: live.rooms.house.engine.db["negotiations"].count):
        live.call(begin_negotiations, live)
    check(live, protocol, 40)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ACTIONS)
def test_answers_for_longer(live: LiveRooms, protocol: str) -> None:
    if not live.call(lambda: live.rooms.house.engine.db["negotiations"].count):
        live.call(begin_negotiations, live)
    check(live, protocol, 400)
