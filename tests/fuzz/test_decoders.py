"""Whatever bytes a decoder is given, it accepts them or says no in its own words, and soon."""

import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz import hostile
from tests.fuzz.targets import Target, targets

TARGETS = targets()
ALL = sorted(TARGETS)
WIRE = [name for name in ALL if name.startswith("wire:")]
OTHERS = [name for name in ALL if not name.startswith("wire:")]
STRANGERS = [name for name in ALL if not TARGETS[name].own]
LONGEST_S = 0.5
MOST_BYTES = 40 * 2**20
"""Of Python objects while 256 KiB are refused: msgpack's nested lists cost 56 bytes each."""

quick = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def drawn(target: Target, data: st.DataObject) -> bytes:
    return data.draw(hostile.hostile(target.seeds))


@settings(quick, max_examples=400)
@given(st.sampled_from(WIRE), st.data())
def test_wire_types(name: str, data: st.DataObject) -> None:
    TARGETS[name].feed(drawn(TARGETS[name], data))


@pytest.mark.parametrize("name", OTHERS)
@quick
@given(data=st.data())
def test_other_decoders(name: str, data: st.DataObject) -> None:
    TARGETS[name].feed(drawn(TARGETS[name], data))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@settings(quick, max_examples=250)
@given(data=st.data())
def test_every_decoder_for_longer(name: str, data: st.DataObject) -> None:
    TARGETS[name].feed(drawn(TARGETS[name], data))


@pytest.mark.parametrize("name", ALL)
def test_seeds_are_right(name: str) -> None:
    """A seed that is refused at its first byte would fuzz nothing."""
    target = TARGETS[name]
    accepted = [target.feed(seed) for seed in target.seeds]
    if name.startswith("wire:"):
        assert accepted == [True]


def test_no_bomb_costs_much_time() -> None:
    for name in STRANGERS:
        for number, bomb in enumerate(hostile.BOMBS):
            began = time.process_time()
            TARGETS[name].feed(bomb)
            assert time.process_time() - began < LONGEST_S, (name, number)


def test_no_bomb_costs_much_memory() -> None:
    tracemalloc.start()
    try:
        for name in set(STRANGERS) - set(WIRE[3:]):
            for number, bomb in enumerate(hostile.BOMBS):
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                TARGETS[name].feed(bomb)
                _, peak = tracemalloc.get_traced_memory()
                assert peak - before < MOST_BYTES, (name, number, peak - before)
    finally:
        tracemalloc.stop()
