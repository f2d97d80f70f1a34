"""Bitswap messages against the library's own encoder, and against anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.bitswap.pb.bitswap_pb2 import Message

from protocol import bitswap, documents
from protocol.bitswap import CID_PREFIX, MAX_BITSWAP_BYTES, WANTS_MOST, Want
from protocol.errors import RemoteProtocolError

CIDS = st.binary(min_size=1, max_size=128)


def wantlist(*wants: Want, cancel: bool = False) -> bytes:
    message = Message()
    for want in wants:
        message.wantlist.entries.add(
            block=want.cid,
            priority=1,
            cancel=cancel,
            wantType=int(want.presence),
            sendDontHave=want.dont_have,
        )
    return message.SerializeToString()


@given(st.lists(st.builds(Want, CIDS, st.booleans(), st.booleans()), unique_by=lambda w: w.cid))
def test_a_wantlist_is_read_as_it_was_written(wants: list[Want]) -> None:
    assert bitswap.wants(wantlist(*wants)) == tuple(wants)


def test_what_is_taken_back_pushed_or_said_to_be_there_is_not_wanted() -> None:
    assert bitswap.wants(wantlist(Want(b"cid", False, True), cancel=True)) == ()
    message = Message(blocks=[b"old"], pendingBytes=9)
    message.payload.add(prefix=CID_PREFIX, data=b"pushed")
    message.blockPresences.add(cid=b"cid", type=Message.Have)
    assert bitswap.wants(message.SerializeToString()) == ()


def test_an_address_counts_once_and_no_more_than_the_most_are_read() -> None:
    twice = wantlist(Want(b"cid", False, False), Want(b"cid", True, True))
    assert bitswap.wants(twice) == (Want(b"cid", False, False),)
    many = wantlist(*(Want(n.to_bytes(4, "big"), False, False) for n in range(WANTS_MOST + 9)))
    assert len(bitswap.wants(many)) == WANTS_MOST
    assert bitswap.wants(wantlist(Want(bytes(129), False, False), Want(b"", True, True))) == ()


@given(st.lists(st.binary(max_size=400)), st.lists(CIDS), st.lists(CIDS))
def test_an_answer_is_read_by_the_library_as_it_was_meant(
    blocks: list[bytes], have: list[bytes], dont_have: list[bytes]
) -> None:
    message = Message()
    message.ParseFromString(bitswap.answer(blocks, have, dont_have))
    assert [(each.prefix, each.data) for each in message.payload] == [
        (CID_PREFIX, block) for block in blocks
    ]
    presences = [(each.cid, each.type) for each in message.blockPresences]
    assert presences == [(cid, Message.Have) for cid in have] + [
        (cid, Message.DontHave) for cid in dont_have
    ]


def test_only_a_raw_sha2_256_address_names_a_document() -> None:
    proof = documents.proof_of(b"body")
    assert Want(CID_PREFIX + proof, False, False).proof == proof
    for other in (b"\x12\x20" + proof, b"\x01\x70\x12\x20" + proof, CID_PREFIX + proof[:31]):
        assert Want(other, False, False).proof is None


@given(st.binary(max_size=300))
def test_garbage_is_wants_or_a_peers_fault(data: bytes) -> None:
    try:
        bitswap.wants(data)
    except RemoteProtocolError:
        return


@given(st.lists(st.builds(Want, CIDS, st.booleans(), st.booleans()), min_size=1), st.data())
def test_a_cut_or_bent_wantlist_is_wants_or_a_peers_fault(
    wants: list[Want], data: st.DataObject
) -> None:
    message = bytearray(wantlist(*wants))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    try:
        bitswap.wants(bytes(message[: data.draw(st.integers(0, len(message)))]))
    except RemoteProtocolError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"\x80" * 11,  # a number without an end
        b"\x0a\x05ab",  # a field longer than its message
        b"\x08\x01",  # the wantlist as a number
        b"\x0b",  # a group
        b"\x02\x00",  # field number 0
        b"\x0a\x02\x08\x01",  # an entry as a number
    ],
)
def test_what_is_no_message_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        bitswap.wants(data)


@given(st.integers(0, MAX_BITSWAP_BYTES))
def test_a_frame_announces_its_length(size: int) -> None:
    framed = bitswap.frame(bytes(size))
    prefix = framed[: len(framed) - size]
    assert bitswap.length(prefix) == size
    assert all(bitswap.length(prefix[:end]) is None for end in range(1, len(prefix)))


def test_a_length_over_the_limit_or_without_an_end_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        bitswap.length(b"\x80\x80\x40")
    with pytest.raises(RemoteProtocolError, match="does not end"):
        bitswap.length(b"\x80" * 10)


@pytest.mark.parametrize("unit", [b"\x10\x00", b"\x0a\x00", b"\x0a\x04\x10\x00\x10\x00"])
def test_a_message_of_nothing_but_fields_is_not_read_to_its_end(unit: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="more than 16384 fields"):
        bitswap.wants(unit * (MAX_BITSWAP_BYTES // len(unit)))
