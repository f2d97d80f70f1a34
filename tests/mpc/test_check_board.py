"""Who may say what, and when, in a check: every lie has its sentence and its name."""

import msgspec
import pytest
from nacl.signing import SigningKey

from mpc.check_board import (
    Board,
    NonceRevealed,
    Reveals,
    SaidWrongError,
    StreamsCommitted,
    Stretch,
    Table,
    Witness,
    packed_sums,
    read_sums,
)
from mpc.field import M61
from mpc.sharing_check import fresh_masks
from protocol.envelope import seal
from protocol.errors import LocalProtocolError

OWNERS, MEMBERS = ("a", "b"), ("x", "y", "z")
KEYS = {name: SigningKey(name.encode() * 32) for name in (*OWNERS, *MEMBERS)}
STRETCH = Stretch(manifest=bytes(32), attempt=1, number=5, segment=0)


def table(stretch: Stretch = STRETCH) -> Table:
    public = {name: bytes(key.verify_key) for name, key in KEYS.items()}
    return Table(stretch, {n: public[n] for n in OWNERS}, {n: public[n] for n in MEMBERS})


def stream(owner: str, member: str) -> bytes:
    return (owner + member).encode() * 16


class Check:
    """One check as it should go; a test changes one thing."""

    def __init__(self) -> None:
        self.table = table()
        self.owners = {
            name: self.committed(name, tuple(stream(name, m) for m in MEMBERS)) for name in OWNERS
        }
        self.witnesses = {
            name: Witness(self.table, name, KEYS[name], tuple(stream(o, name) for o in OWNERS))
            for name in MEMBERS
        }

    def committed(self, owner, streams, stretch=STRETCH):
        return seal(StreamsCommitted(stretch=stretch, streams=streams), KEYS[owner])

    def board(self) -> Board:
        nonces = tuple(witness.committed() for witness in self.witnesses.values())
        return Board(contributors=tuple(self.owners.values()), members=nonces)

    def reveals(self, board: Board) -> Reveals:
        return Reveals(members=tuple(w.reveal(board) for w in self.witnesses.values()))


def test_everybody_comes_to_the_same_challenge_and_never_to_the_same_again():
    seen = set()
    for _ in range(3):
        check = Check()
        board = check.board()
        reveals = check.reveals(board)
        found = {w.challenge(reveals) for w in check.witnesses.values()}
        found.add(check.table.read(board).challenge(reveals))  # a contributor, the recipient
        assert len(found) == 1
        seen |= found
    assert len(seen) == 3


def test_no_nonce_is_revealed_early_twice_or_for_a_second_board():
    check = Check()
    witness = check.witnesses["x"]
    board = check.board()
    with pytest.raises(LocalProtocolError, match="before the own nonce"):
        witness.challenge(Reveals(members=()))
    with pytest.raises(SaidWrongError, match="left somebody out"):
        witness.reveal(msgspec.structs.replace(board, contributors=board.contributors[:1]))
    with pytest.raises(SaidWrongError, match="left somebody out"):
        witness.reveal(msgspec.structs.replace(board, members=board.members[:2]))
    witness.reveal(board)
    with pytest.raises(LocalProtocolError, match="revealed once"):
        witness.reveal(board)


def test_nobody_combines_by_reveals_for_another_board():
    """A member that plays with the recipient signs two boards; the honest ones stop it."""
    check = Check()
    first = check.board()
    check.witnesses["z"] = Witness(
        check.table, "z", KEYS["z"], tuple(stream(o, "z") for o in OWNERS)
    )
    second = check.board()
    assert first != second
    reveals = Reveals(
        members=(
            check.witnesses["x"].reveal(first),
            check.witnesses["y"].reveal(second),
            check.witnesses["z"].reveal(second),
        )
    )
    with pytest.raises(SaidWrongError, match="y revealed its nonce for another board"):
        check.witnesses["x"].challenge(reveals)
    with pytest.raises(SaidWrongError, match="x revealed its nonce for another board"):
        check.table.read(second).challenge(reveals)


def test_another_nonce_than_the_committed_one_is_named():
    check = Check()
    board = check.board()
    honest = check.reveals(board)
    said = check.table.read(board)
    other = seal(NonceRevealed(board=said.board, nonce=bytes(32)), KEYS["y"])
    reveals = Reveals(members=(honest.members[0], other, honest.members[2]))
    for challenge in (said.challenge, check.witnesses["x"].challenge):
        with pytest.raises(SaidWrongError, match="y revealed another nonce") as caught:
            challenge(reveals)
        assert caught.value.party == "y"
    with pytest.raises(SaidWrongError, match="left somebody out"):
        said.challenge(Reveals(members=honest.members[:2]))


@pytest.mark.parametrize(
    "changed", [{"number": 4}, {"segment": 1}, {"attempt": 2}, {"manifest": b"m" * 32}]
)
def test_a_replayed_commitment_is_refused(changed):
    check = Check()
    earlier = msgspec.structs.replace(STRETCH, **changed)
    check.owners["b"] = check.committed("b", tuple(stream("b", m) for m in MEMBERS), earlier)
    board = check.board()
    with pytest.raises(SaidWrongError, match="b committed to another round") as caught:
        check.table.read(board)
    assert caught.value.party == "b"
    with pytest.raises(SaidWrongError, match="b committed to another round"):
        check.witnesses["x"].reveal(board)


def test_forged_entries_and_wrong_counts_are_refused():
    check = Check()
    honest = check.owners["a"]
    check.owners["a"] = check.committed("b", tuple(stream("a", m) for m in MEMBERS))
    with pytest.raises(SaidWrongError, match="a broke the protocol of a check"):
        check.table.read(check.board())
    check.owners["a"] = check.committed("a", (bytes(32),))
    with pytest.raises(SaidWrongError, match="a committed to 1 streams instead of 3"):
        check.table.read(check.board())
    check.owners["a"] = honest
    board = check.board()
    stranger = Witness(check.table, "x", KEYS["x"], tuple(stream(o, "x") for o in OWNERS))
    with pytest.raises(SaidWrongError, match="other words on the board"):
        stranger.reveal(board)


def test_complaints_say_who_was_sent_what_nobody_committed_to():
    check = Check()
    check.owners["b"] = check.committed("b", (stream("b", "x"), bytes(32), bytes(32)))
    board = check.board()
    assert check.table.read(board).complaints() == {"b": ["y", "z"]}
    with pytest.raises(SaidWrongError, match="b committed to other streams than y has"):
        check.witnesses["x"].reveal(board)


def test_sums_are_read_only_for_their_challenge_and_in_their_shape():
    sums = fresh_masks(M61, 2)
    said = packed_sums(bytes(32), sums, KEYS["a"])
    key = bytes(KEYS["a"].verify_key)
    read = read_sums(said, "a", key, bytes(32), M61, (3, 2))
    assert [one.tolist() for one in read] == [one.tolist() for one in sums]
    with pytest.raises(SaidWrongError, match="of another challenge"):
        read_sums(said, "a", key, b"c" * 32, M61, (3, 2))
    with pytest.raises(SaidWrongError, match="another number of sums"):
        read_sums(said, "a", key, bytes(32), M61, (4, 2))
    sums[1][0] = M61.modulus
    with pytest.raises(SaidWrongError, match="outside the field"):
        read_sums(packed_sums(bytes(32), sums, KEYS["a"]), "a", key, bytes(32), M61, (3, 2))
