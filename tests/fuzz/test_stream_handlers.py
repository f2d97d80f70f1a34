"""The daemon's own handlers under any bytes, from strangers and from peers that it knows.

What counts: nothing but a peer's own stream ends, within a bounded time; the daemon logs no failure
of its own; and whoever is not known here stores nothing.
"""

import time
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from protocol import codec, documents, messages
from protocol.messages import Announcement
from tests.fuzz import hostile, speech
from tests.fuzz.live_rooms import LiveRooms, live_rooms
from tests.node.rooms import contracts

LONGEST_S = 1.0
"""Of the process's own time for one stream, on a machine that others use too."""
BOUNDED = {"peer_bans"}
"""What strangers may fill, up to a limit of its own."""
PEERS = ("stranger", "fintech-c", "bank-b")

quick = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRooms]:
    with live_rooms(tmp_path_factory.mktemp("fuzz") / "node") as found:
        yield found


def ids_of(live: LiveRooms) -> dict[int, tuple[bytes, ...]]:
    accounts = tuple(node.account for node in live.nodes.values())
    return speech.IDS | {20: (*speech.IDS[20], *accounts)}


def fed(live: LiveRooms, protocol: str, peer: str, data: bytes) -> bytes:
    began = time.process_time()
    answer = live.feed(protocol, peer, data)
    assert time.process_time() - began < LONGEST_S
    return answer


def check_protocol(live: LiveRooms, protocol: str, data: st.DataObject) -> None:
    """Some streams of some peers: new ones, and the same bytes again, of the same and of others."""
    said = data.draw(st.lists(speech.streams(protocol, ids_of(live)), min_size=1, max_size=3))
    for again in (said, data.draw(st.permutations(said))):
        for stream in again:
            fed(live, protocol, data.draw(st.sampled_from(PEERS)), stream)


def announcements(live: LiveRooms) -> st.SearchStrategy[bytes]:
    """Announcements under signatures that are right, of all kinds of contents."""

    def signed(value: Announcement) -> bytes:
        return speech.encoded(speech._sealed(speech.encoded(value)))

    right = speech.values(ids_of(live), Announcement)
    soon = right.map(
        lambda each: msgspec.structs.replace(each, not_after=int(time.time()) + 3600)  # type: ignore[type-var]
    )
    some = (right | soon).map(signed)  # type: ignore[arg-type]
    return some | some.flatmap(hostile.from_seed) | hostile.hostile(())


def test_every_served_protocol_is_fuzzed(live: LiveRooms) -> None:
    assert set(live.handlers) == set(speech.PROTOCOLS), "tests/fuzz/speech.py names what is fuzzed"
    assert live.gossip


@pytest.mark.parametrize("protocol", speech.PROTOCOLS)
def test_streams(live: LiveRooms, protocol: str) -> None:
    @settings(quick, max_examples=40)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        check_protocol(live, protocol, data)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", speech.PROTOCOLS)
def test_streams_for_longer(live: LiveRooms, protocol: str) -> None:
    @settings(quick, max_examples=300)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        check_protocol(live, protocol, data)

    run()


def check_gossip(live: LiveRooms, examples: int) -> None:
    @settings(quick, max_examples=examples)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        said = data.draw(announcements(live))
        live.hear(data.draw(st.sampled_from(PEERS)), said)
        live.hear("stranger", said)

    run()


def test_gossip(live: LiveRooms) -> None:
    check_gossip(live, 100)


@pytest.mark.slow
def test_gossip_for_longer(live: LiveRooms) -> None:
    check_gossip(live, 600)


@pytest.mark.parametrize("protocol", speech.PROTOCOLS)
def test_bombs(live: LiveRooms, protocol: str) -> None:
    for bomb in hostile.BOMBS:
        for stream in (bomb, speech.framing(protocol)(bomb)):
            fed(live, protocol, "stranger", stream)


@pytest.mark.parametrize("protocol", speech.PROTOCOLS)
def test_a_stranger_stores_nothing(live: LiveRooms, protocol: str) -> None:
    before = live.rows()

    @settings(quick, max_examples=30)
    @given(speech.streams(protocol, ids_of(live)))
    def run(stream: bytes) -> None:
        fed(live, protocol, "stranger", stream)

    run()
    after = live.rows()
    assert {table for table in after if after[table] != before[table]} <= BOUNDED


def test_an_honest_request_is_answered_after_all_that(live: LiveRooms) -> None:
    body = documents.canonical(contracts.algorithm(live.nodes))
    cid = documents.cid_of(documents.proof_of(body))
    request = speech.framed(codec.encode(messages.DocumentRequest(cid=cid, offset=0)))
    answer = live.feed(messages.DOCUMENT_PROTOCOL, "regulator-d", request)
    assert body in answer
