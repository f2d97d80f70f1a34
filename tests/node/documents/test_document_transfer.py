"""Parts of a document from any holders: only the right bytes come out, only liars are blamed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.document_transfer import Transfer
from protocol import documents
from protocol.errors import RemoteProtocolError
from protocol.messages import MAX_PART_BYTES, DocumentAnswer

BODY = random.Random(1).randbytes(200_000)
HONEST = ("honest", "stops")


def answer(body: bytes, offset: int) -> DocumentAnswer:
    return DocumentAnswer(total=len(body), part=body[offset : offset + MAX_PART_BYTES], wait_s=0)


def test_a_document_comes_in_parts_and_goes_on_with_another_holder() -> None:
    transfer = Transfer(documents.proof_of(BODY))
    assert transfer.take("a", answer(BODY, 0)) is None
    assert transfer.offset == MAX_PART_BYTES
    for _ in range(2):
        assert transfer.take("b", answer(BODY, transfer.offset)) is None
    assert transfer.take("b", answer(BODY, transfer.offset)) == BODY
    assert transfer.liars(BODY) == set()
    assert transfer.offset == 0


def test_a_wrong_document_is_dropped_and_its_only_source_blamed() -> None:
    transfer = Transfer(documents.proof_of(b"right"))
    with pytest.raises(RemoteProtocolError, match="does not hash"):
        transfer.take("a", answer(b"wrong", 0))
    assert transfer.offset == 0


def test_a_liar_before_an_honest_holder_is_found_out_afterwards() -> None:
    transfer = Transfer(documents.proof_of(BODY))
    assert transfer.take("liar", answer(bytes(len(BODY)), 0)) is None
    taken = None
    for _ in range(8):
        taken = transfer.take("honest", answer(BODY, transfer.offset))
        if taken is not None:
            break
    assert taken == BODY
    assert transfer.liars(BODY) == {"liar"}


@pytest.mark.parametrize("part", [b"", b"short", bytes(MAX_PART_BYTES - 1)])
def test_a_part_of_a_wrong_size_is_the_peers_fault_and_what_came_before_stays(part) -> None:
    transfer = Transfer(documents.proof_of(BODY))
    transfer.take("a", answer(BODY, 0))
    with pytest.raises(RemoteProtocolError):
        transfer.take("b", DocumentAnswer(total=len(BODY), part=part, wait_s=0))
    assert transfer.offset == MAX_PART_BYTES


def test_one_peer_that_says_two_sizes_is_blamed() -> None:
    transfer = Transfer(documents.proof_of(BODY))
    transfer.take("a", answer(BODY, 0))
    with pytest.raises(RemoteProtocolError, match="changed its size"):
        transfer.take("a", answer(BODY[:-1], MAX_PART_BYTES))


def say(kind: str, offset: int, chaos: random.Random) -> DocumentAnswer:
    match kind:
        case "flips":
            return answer(bytes(byte ^ 1 for byte in BODY), offset)
        case "another":
            return answer(BODY[: -chaos.randrange(1, 9)], offset)
        case "short":
            return answer(BODY[: offset + chaos.randrange(1, 9)], offset)
        case "empty":
            return DocumentAnswer(total=len(BODY), part=b"", wait_s=0)
    return answer(BODY, offset)


@given(
    st.lists(st.sampled_from(["honest", "stops", "flips", "another", "short", "empty"])),
    st.randoms(use_true_random=False),
)
def test_whatever_holders_do_the_first_that_is_honest_to_the_end_gives_the_document(
    kinds: list[str], chaos: random.Random
) -> None:
    transfer = Transfer(documents.proof_of(BODY))
    blamed: set[str] = set()
    taken = None
    for number, kind in enumerate([*kinds, "honest"]):
        peer_id = f"{kind} {number}"
        for asked in range(9):
            if taken is not None or (kind == "stops" and asked):
                break
            try:
                taken = transfer.take(peer_id, say(kind, transfer.offset, chaos))
            except RemoteProtocolError:
                blamed.add(peer_id)
                break
        else:
            pytest.fail("a holder is asked for ever")
        if taken is not None:
            assert taken == BODY
            blamed |= transfer.liars(taken)
            break
    assert taken == BODY
    assert not any(each.startswith(HONEST) for each in blamed)
