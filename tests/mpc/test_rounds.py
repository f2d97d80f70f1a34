"""The owner's gate and the member's comparison: every rule, and that nothing counts when broken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from mpc.rounds import (
    NO_ROWS,
    GateRules,
    OwnerGate,
    ViewsDifferError,
    chunk_rows,
    compare_headers,
    encoded_header,
    gradient_digest,
    header_of,
    pack_order,
    read_stream_head,
    rows_digest,
    stream_offset,
    unpack_order,
    write_stream_head,
)
from protocol.envelope import seal
from protocol.errors import RemoteProtocolError
from protocol.manifest import RoundHeader

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))
MANIFEST = b"m" * 32
WIDTH = 2


def gate(**changes: object) -> OwnerGate:
    rules = {
        "manifest": MANIFEST,
        "attempt": 1,
        "recipient_key": bytes(KEY.verify_key),
        "cohort_rows": 64,
        "width": WIDTH,
        "epochs": 2,
        "batch_floor": 16,
        "numbers_cap": 8,
    }
    return OwnerGate(GateRules(**(rules | changes)))


def header(number, stage, rows, gradient, *, key=KEY, claimed=None, **changes) -> bytes:
    fields = {
        "manifest": MANIFEST,
        "number": number,
        "attempt": 1,
        "stage": stage,
        "rows": len(rows) if claimed is None else claimed,
        "rows_hash": rows_digest(rows),
        "gradient_hash": gradient_digest(gradient),
    }
    return encoded_header(seal(RoundHeader(**(fields | changes)), key))


def order(number, stage, rows, gradient=None, **changes: object) -> bytes:
    rows = np.array(rows, "<u4")
    return pack_order(header(number, stage, rows, gradient, **changes), rows, gradient)


def gradient_for(rows, value=0.5) -> np.ndarray:
    return np.full((len(rows), WIDTH), value, "<f4")


FIRST, SECOND = range(16), range(16, 32)
ANSWER = gradient_for(FIRST)


def test_a_whole_session_is_admitted_and_counted():
    owner = gate()
    first = owner.admit(order(1, "train", FIRST))
    assert first.gradient is None
    again = owner.admit(order(2, "train", FIRST, ANSWER))
    assert np.array_equal(again.answered, np.arange(16))
    assert np.array_equal(again.gradient, ANSWER)
    evaluated = owner.admit(order(3, "evaluate", SECOND, ANSWER))
    assert evaluated.header.stage == "evaluate"
    assert owner.admit(order(4, "close", [])).gradient is None
    assert (owner.rows_trained, owner.rows_evaluated) == (16, 16)
    assert owner.numbers_opened == WIDTH * 48
    assert owner.numbers_per_row == 2 * WIDTH
    with pytest.raises(RemoteProtocolError, match="follows one to close"):
        owner.admit(order(5, "close", []))


BROKEN = [
    (order(1, "train", range(16, 31)), "15 rows, at least 16"),
    (order(1, "train", [*range(15), 64]), "row 64 of 64"),
    (order(1, "train", [*range(16), 3]), "stands twice"),
    (order(1, "train", FIRST, ANSWER), "32 numbers where 0 answer"),
    (order(2, "train", FIRST), "round 2 follows round 0"),
    (order(0, "train", FIRST), "round 0 was opened already"),
    (order(1, "train", FIRST, attempt=2), "another session or attempt"),
    (order(1, "train", FIRST, manifest=b"x" * 32), "another session or attempt"),
    (order(1, "train", FIRST, key=OTHER), "another key"),
    (order(1, "train", FIRST, rows_hash=bytes(32)), "rows are not those"),
    (order(1, "train", FIRST, claimed=17), "rows are not those"),
    (order(1, "train", FIRST, gradient_hash=bytes(32)), "gradient is not that"),
    (order(1, "close", FIRST), "closing round opens rows"),
    (order(1, "train", FIRST)[:-1], "lengths"),
    (b"abc", "too short"),
]


@pytest.mark.parametrize(("data", "sentence"), BROKEN, ids=[s for _, s in BROKEN])
def test_a_broken_order_is_refused_and_nothing_counts(data, sentence):
    owner = gate()
    with pytest.raises(RemoteProtocolError, match=sentence):
        owner.admit(data)
    assert owner.numbers_opened == 0
    owner.admit(order(1, "train", FIRST))


def test_the_gradient_must_answer_the_round_before():
    for bad, sentence in (
        (None, "0 numbers where 32 answer"),
        (gradient_for(range(15)), "30 numbers where 32 answer"),
        (gradient_for(FIRST, np.nan), "not finite"),
    ):
        owner = gate()
        owner.admit(order(1, "train", FIRST))
        with pytest.raises(RemoteProtocolError, match=sentence):
            owner.admit(order(2, "train", SECOND, bad))


def test_a_repeated_round_with_another_gradient_is_refused():
    owner = gate()
    owner.admit(order(1, "train", FIRST))
    owner.admit(order(2, "train", SECOND, ANSWER))
    with pytest.raises(RemoteProtocolError, match="round 2 was opened already"):
        owner.admit(order(2, "train", SECOND, gradient_for(FIRST, 0.0)))


def test_rows_are_trained_on_or_held_out_and_only_as_often_as_planned():
    owner = gate()
    owner.admit(order(1, "train", FIRST))
    owner.admit(order(2, "train", FIRST, ANSWER))
    with pytest.raises(RemoteProtocolError, match="more often than planned"):
        owner.admit(order(3, "train", range(15, 31), ANSWER))
    with pytest.raises(RemoteProtocolError, match="was trained on and is evaluated"):
        owner.admit(order(3, "evaluate", range(15, 31), ANSWER))
    owner.admit(order(3, "evaluate", SECOND, ANSWER))
    with pytest.raises(RemoteProtocolError, match="evaluated twice"):
        owner.admit(order(4, "evaluate", SECOND))
    with pytest.raises(RemoteProtocolError, match="to train follows one to evaluate"):
        owner.admit(order(4, "train", range(32, 48)))


def test_the_cap_of_numbers_holds_below_the_plan():
    owner = gate(numbers_cap=3)
    owner.admit(order(1, "train", FIRST))
    with pytest.raises(RemoteProtocolError, match="cap of opened numbers"):
        owner.admit(order(2, "train", FIRST, ANSWER))


def test_a_check_of_the_last_round_is_asked_for_once_and_counts_nothing():
    owner = gate()
    with pytest.raises(RemoteProtocolError, match="checked after round 0"):
        owner.admit(order(0, "train", [], check=True))
    owner.admit(order(1, "train", FIRST))
    opened = owner.numbers_opened
    for bad, sentence in (
        (order(2, "train", [], check=True), "round 2 is checked after round 1"),
        (order(1, "train", FIRST, check=True), "opens rows or answers some"),
        (order(1, "train", [], ANSWER, check=True), "opens rows or answers some"),
    ):
        with pytest.raises(RemoteProtocolError, match=sentence):
            owner.admit(bad)
    assert owner.admit(order(1, "train", [], check=True)).header.check
    with pytest.raises(RemoteProtocolError, match="checked twice"):
        owner.admit(order(1, "train", [], check=True))
    assert owner.numbers_opened == opened
    owner.admit(order(2, "train", SECOND, ANSWER))
    assert owner.admit(order(2, "train", [], check=True)).header.check


@given(data=st.binary(max_size=300))
def test_no_bytes_do_anything_but_be_refused(data):
    with pytest.raises(RemoteProtocolError):
        gate().admit(data)
    with pytest.raises(RemoteProtocolError):
        header_of(data)


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_is_admitted(place, bit):
    data = bytearray(order(1, "train", FIRST))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(RemoteProtocolError):
        gate().admit(bytes(data))


@given(
    rows=st.lists(st.integers(0, 2**32 - 1), max_size=40),
    numbers=st.lists(st.floats(width=32, allow_nan=False), max_size=40),
    head=st.binary(max_size=200),
)
def test_orders_come_back(rows, numbers, head):
    packed = pack_order(head, np.array(rows, "<u4"), np.array(numbers, "<f4"))
    got_head, got_rows, got_numbers = unpack_order(packed)
    assert (got_head, got_rows.tolist(), got_numbers.tolist()) == (head, rows, numbers)


@given(head=st.binary(max_size=500), elements=st.integers(0, 2**32 - 1))
def test_stream_heads_come_back(head, elements):
    frame = memoryview(bytearray(b"\xff" * 1200))
    offset = write_stream_head(frame, head, elements)
    assert offset == stream_offset(len(head))
    assert offset % 64 == 0
    assert read_stream_head(frame) == (head, elements, offset)


@given(data=st.binary(max_size=100))
def test_a_broken_stream_head_is_refused_or_read_within_its_frame(data):
    try:
        _, _, offset = read_stream_head(memoryview(data))
    except RemoteProtocolError:
        return
    assert offset <= len(data)


def compared(own: bytes, a: bytes, b: bytes) -> ViewsDifferError:
    with pytest.raises(ViewsDifferError) as caught:
        compare_headers("c", own, {"a": a, "b": b}, bytes(KEY.verify_key))
    return caught.value


def test_equal_headers_pass_and_different_ones_name_two():
    rows = np.arange(16, dtype="<u4")
    one = header(1, "train", rows, None)
    two = header(1, "train", rows[::-1], None)
    forged = header(1, "train", rows[::-1], None, key=OTHER)
    compare_headers("c", one, {"a": one, "b": one}, bytes(KEY.verify_key))
    assert compared(one, one, two).between == ("a", "b")
    assert "c signed one header of a round for a and another for b" in str(compared(one, one, two))
    assert compared(one, two, two).between == ("c", "a")
    assert compared(one, one, forged).between == ("b",)
    assert "did not sign" in str(compared(one, one, forged))
    assert compared(one, b"garbage", one).between == ("a",)


def test_chunks_hold_whole_rows():
    assert chunk_rows(64) == 1024
    assert chunk_rows(65_537) == 1
    assert NO_ROWS.size == 0
