"""Two sets converge whatever they hold, in few rounds, and garbage never harms."""

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import codec, reconciliation
from protocol.errors import RemoteProtocolError
from protocol.reconcile_messages import (
    ENTRY_BYTES,
    FAN_OUT,
    FINGERPRINT_BYTES,
    LEAF_MOST,
    RANGES_PER_QUESTION,
    RangeEntries,
    RangesAnswer,
    RangeSplit,
    RangesQuestion,
)
from protocol.reconciliation import EXTRA_MOST, Descent, EntrySet, entry_of, split_entries

ENTRIES = st.one_of(
    st.binary(min_size=ENTRY_BYTES, max_size=ENTRY_BYTES),
    st.integers(0, 200).map(lambda number: number.to_bytes(ENTRY_BYTES)),  # one deep path
    st.integers(0, 200).map(lambda number: bytes([number]) + bytes(ENTRY_BYTES - 1)),
)


def descend(mine: EntrySet, theirs: EntrySet) -> tuple[Descent, int, int]:
    """The finished descent, its questions and the bytes of questions and answers."""
    descent, questions, size = Descent(mine), 0, 0
    while (question := descent.question()) is not None:
        asked = codec.encode(question)
        answer = codec.encode(theirs.answer(codec.decode(asked, RangesQuestion)))
        descent.learn(question, codec.decode(answer, RangesAnswer))
        questions, size = questions + 1, size + len(asked) + len(answer)
    return descent, questions, size


@given(st.sets(ENTRIES, max_size=300), st.sets(ENTRIES, max_size=300), st.sets(ENTRIES))
def test_the_difference_of_any_two_sets_is_found(mine, theirs, common) -> None:
    one, other = EntrySet(mine | common), EntrySet(theirs | common)
    descent, questions, _ = descend(one, other)
    assert descent.complete
    assert descent.missing == (theirs | common) - (mine | common)
    assert descent.extra == (mine | common) - (theirs | common)
    assert questions <= 2 * ENTRY_BYTES
    for entry in descent.missing:
        one.add(entry)
    for entry in descent.extra:
        other.add(entry)
    assert one.fingerprint("") == other.fingerprint("")
    assert descend(one, other)[1] <= 2


@given(st.lists(st.tuples(st.booleans(), ENTRIES, st.booleans()), max_size=200))
def test_fingerprints_follow_changes(changes) -> None:
    kept, plain = EntrySet(), set()
    for adds, entry, looks in changes:
        if adds:
            kept.add(entry)
            plain.add(entry)
        else:
            kept.discard(entry)
            plain.discard(entry)
        if looks:
            assert kept.fingerprint("") == EntrySet(plain).fingerprint("")
    assert len(kept) == len(plain)
    assert all(entry in kept for entry in plain)
    assert kept.within("") == sorted(plain)
    assert kept.fingerprint("") == EntrySet(plain).fingerprint("")


@given(st.lists(ENTRIES, max_size=100))
def test_a_newer_entry_takes_the_place_of_the_one_about_the_same(entries) -> None:
    kept, plain = EntrySet(entries[:20]), {entry[:16]: {entry} for entry in entries[:20]}
    for entry in entries[:20]:
        plain[entry[:16]].add(entry)
    kept.fingerprint("")
    for entry in entries[20:]:
        kept.replace(entry)
        plain[entry[:16]] = {entry}
    assert kept.within("") == sorted(entry for found in plain.values() for entry in found)
    assert kept.fingerprint("") == EntrySet(kept.within("")).fingerprint("")


@pytest.mark.parametrize("size", [0, 1, LEAF_MOST, LEAF_MOST + 1, 1_000, 20_000])
def test_the_cost_follows_the_difference(size: int) -> None:
    random_bytes = random.Random(size).randbytes
    common = [random_bytes(ENTRY_BYTES) for _ in range(size)]
    missing = [random_bytes(ENTRY_BYTES) for _ in range(10)]
    descent, questions, used = descend(EntrySet(common), EntrySet(common + missing))
    assert descent.missing == set(missing)
    assert questions <= 6
    assert used <= 16_000 + 1_500 * len(missing)


def test_a_week_away_takes_a_few_rounds() -> None:
    random_bytes = random.Random(7).randbytes
    common = [random_bytes(ENTRY_BYTES) for _ in range(20_000)]
    news = [random_bytes(ENTRY_BYTES) for _ in range(1_000)]
    descent, questions, used = descend(EntrySet(common), EntrySet(common + news))
    assert descent.missing == set(news)
    assert questions <= 24
    assert used <= 16_000 + 1_500 * len(news)


def test_extra_entries_are_bounded() -> None:
    random_bytes = random.Random(8).randbytes
    mine = EntrySet(random_bytes(ENTRY_BYTES) for _ in range(EXTRA_MOST + 100))
    descent, questions, _ = descend(mine, EntrySet())
    assert (len(descent.extra), questions) == (EXTRA_MOST, 1)


class Liar:
    """Answers every question with sixteen random fingerprints."""

    def __init__(self) -> None:
        self.random = random.Random(1)

    def answer(self, question: RangesQuestion) -> RangesAnswer:
        lie = RangeSplit(fingerprints=self.random.randbytes(FAN_OUT * FINGERPRINT_BYTES))
        return RangesAnswer(ranges=(lie,) * len(question.prefixes))


def test_a_liar_is_left_after_a_bounded_number_of_ranges(monkeypatch) -> None:
    monkeypatch.setattr(reconciliation, "RANGES_MOST", 1_000)
    monkeypatch.setattr(reconciliation, "RANGES_PER_QUESTION", 16)
    descent, liar, questions = Descent(EntrySet()), Liar(), 0
    while (question := descent.question()) is not None:
        with suppress(RemoteProtocolError):  # the deepest ranges cannot be split
            descent.learn(question, liar.answer(question))
        questions += 1
    assert not descent.complete
    assert questions <= 100


QUESTION = RangesQuestion(prefixes=("ab", "cd"))
ANSWERS = st.lists(
    st.one_of(
        st.binary(min_size=FAN_OUT * FINGERPRINT_BYTES, max_size=FAN_OUT * FINGERPRINT_BYTES).map(
            lambda data: RangeSplit(fingerprints=data)
        ),
        st.binary(max_size=100).map(lambda data: RangeEntries(entries=data)),
        st.lists(ENTRIES, max_size=LEAF_MOST).map(
            lambda found: RangeEntries(entries=b"".join(found))
        ),
    ),
    min_size=1,
    max_size=4,
).map(lambda ranges: RangesAnswer(ranges=tuple(ranges)))


@given(ANSWERS)
def test_any_answer_is_taken_in_or_refused(answer: RangesAnswer) -> None:
    descent = Descent(EntrySet([bytes([0xAB]) * 32]))
    try:
        descent.learn(QUESTION, answer)
    except RemoteProtocolError:
        return
    assert all(entry.hex().startswith(("ab", "cd")) for entry in descent.missing)


def test_what_is_out_of_order_or_out_of_range_is_refused() -> None:
    low, high = bytes([0xAB]) + bytes(31), bytes([0xAB]) * 32
    question = RangesQuestion(prefixes=("ab",))
    for entries in (high + low, low + low, low[:5], bytes(32)):
        answer = RangesAnswer(ranges=(RangeEntries(entries=entries),))
        with pytest.raises(RemoteProtocolError):
            Descent(EntrySet()).learn(question, answer)
    assert split_entries(low + high) == (low, high)


def test_an_entry_keeps_its_place_when_what_is_said_changes() -> None:
    one, other = entry_of(b"c" * 32, b"a" * 32, b"1"), entry_of(b"c" * 32, b"a" * 32, b"2")
    assert one[:16] == other[:16]
    assert one != other
    assert entry_of(b"c" * 32, b"b" * 32, b"1")[:16] != one[:16]


@settings(max_examples=20)
@given(st.sets(ENTRIES, max_size=400), st.integers(0, 2**32))
def test_questions_are_of_bounded_size(theirs, seed: int) -> None:
    descent = Descent(EntrySet([random.Random(seed).randbytes(ENTRY_BYTES)]))
    answering = EntrySet(theirs)
    while (question := descent.question()) is not None:
        assert len(question.prefixes) <= RANGES_PER_QUESTION
        assert len(codec.encode(answering.answer(question))) <= codec.MAX_MESSAGE_BYTES
        descent.learn(question, answering.answer(question))
