"""What is said in a check of sharings, so that all honest parties combine by the same weights.

Adversary: the recipient, who carries every message between the others, and up to t members with
it. Two sets of sums under one mask would tell it an equation of an owner's features. So: a
contributor signs ONE commitment for a stretch, a member ONE nonce commitment and ONE reveal; the
board is all commitments; a reveal names the board that its member saw; and whoever opens sums has
seen the reveals of all members, each of the very same board. At least one of them is honest and
has revealed for one board alone, so there is one board and one challenge, the hash of board and
nonces. A nonce cannot be revealed before the board is full, nor changed afterwards.

Every signature is by the session key that the manifest names and covers the stretch (manifest,
attempt, round, segment): a commitment replayed from another is refused.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, TypeVar

import numpy as np
from nacl.signing import SigningKey

from mpc.field import Elements, PrimeField
from protocol.codec import U31, Bytes32, Wire, decode, digest, encode
from protocol.envelope import Signed, open_signed, seal
from protocol.errors import LocalProtocolError, RemoteProtocolError

NONCE_BYTES: Final = 32
_CHALLENGE: Final = b"northbund/1 sharing check\0"

W = TypeVar("W", bound=Wire)


class Stretch(Wire, frozen=True, tag="check-stretch"):
    """The part of an opening that one check is about; `segment` counts from 0 within a round."""

    manifest: Bytes32
    attempt: U31
    number: U31
    segment: U31


class StreamsCommitted(Wire, frozen=True, tag="check-streams"):
    """A contributor's commitment: SHA-256 of the stream of each member in their order."""

    stretch: Stretch
    streams: tuple[Bytes32, ...]


class NonceCommitted(Wire, frozen=True, tag="check-nonce"):
    """A member's: SHA-256 of its nonce, and of the stream that it has of each contributor."""

    stretch: Stretch
    nonce: Bytes32
    received: tuple[Bytes32, ...]


class NonceRevealed(Wire, frozen=True, tag="check-reveal"):
    """A member's nonce, and the digest of the one board for which it reveals it."""

    board: Bytes32
    nonce: Bytes32


class SumsOpened(Wire, frozen=True, tag="check-sums"):
    """Masked sums under `challenge`, k words each: a contributor's of every member's stream, a
    member's of every contributor's."""

    challenge: Bytes32
    sums: bytes


class Board(Wire, frozen=True, tag="check-board"):
    """All commitments of one check: of the contributors and of the members, in their orders.

    None stands for a member without which the session goes on.
    """

    contributors: tuple[Signed, ...]
    members: tuple[Signed | None, ...]


class Reveals(Wire, frozen=True, tag="check-reveals"):
    """The reveals of the members that are on the board, in their order."""

    members: tuple[Signed, ...]


class Settled(Wire, frozen=True, tag="check-settled"):
    """The end of a check for a member. With `claimed`, a contributor's signed sums that differ
    from this member's for `contributor`: the member is asked to show that stream."""

    contributor: U31 = 0
    claimed: Signed | None = None


class SaidWrongError(Exception):
    """What `party` said does not fit; whoever relayed it may be at fault instead."""

    def __init__(self, party: str, reason: str) -> None:
        super().__init__(f"{party} {reason}")
        self.party, self.reason = party, reason


@dataclass(frozen=True, slots=True)
class Table:
    """Who sits at a check of `stretch`: names in order, each with its session key."""

    stretch: Stretch
    contributors: Mapping[str, bytes]
    members: Mapping[str, bytes]

    def streams(self, party: str, said: Signed) -> StreamsCommitted:
        """The commitment of a contributor. SaidWrongError unless it is of this stretch."""
        body = _opened(party, said, StreamsCommitted, self.contributors[party])
        self._of_this(party, body.stretch, len(body.streams), len(self.members))
        return body

    def nonce(self, party: str, said: Signed) -> NonceCommitted:
        """The commitment of a member. SaidWrongError unless it is of this stretch."""
        body = _opened(party, said, NonceCommitted, self.members[party])
        self._of_this(party, body.stretch, len(body.received), len(self.contributors))
        return body

    def _of_this(self, party: str, stretch: Stretch, count: int, wanted: int) -> None:
        if stretch != self.stretch:
            raise SaidWrongError(party, "committed to another round than the one that is checked")
        if count != wanted:
            raise SaidWrongError(party, f"committed to {count} streams instead of {wanted}")

    def read(self, board: Board, absent: frozenset[str] = frozenset()) -> "Said":
        """Everything on the board, checked. SaidWrongError names whose entry is wrong.

        `absent` are the members that the reader itself has lost; none else may be left out.
        """
        if (len(board.contributors), len(board.members)) != (
            len(self.contributors),
            len(self.members),
        ):
            raise SaidWrongError("the recipient", "left somebody out of the board of a check")
        owners = zip(self.contributors, board.contributors, strict=True)
        members = zip(self.members, board.members, strict=True)
        nonces = {name: self.nonce(name, said) for name, said in members if said is not None}
        if not set(self.members) - absent <= set(nonces):
            raise SaidWrongError("the recipient", "left somebody out of the board of a check")
        return Said(
            self,
            digest(board),
            {name: self.streams(name, said).streams for name, said in owners},
            nonces,
        )


@dataclass(frozen=True, slots=True)
class Said:
    """The commitments of one check."""

    table: Table
    board: bytes
    streams: Mapping[str, tuple[bytes, ...]]
    nonces: Mapping[str, NonceCommitted]

    def complaints(self) -> dict[str, list[str]]:
        """contributor -> the members that say they were sent other bytes than it committed to."""
        found: dict[str, list[str]] = {}
        for place, owner in enumerate(self.streams):
            for member, committed in zip(self.table.members, self.streams[owner], strict=True):
                said = self.nonces.get(member)
                if said is not None and said.received[place] != committed:
                    found.setdefault(owner, []).append(member)
        return found

    def revealed(self, party: str, said: Signed) -> bytes:
        """The nonce of a member. SaidWrongError unless it is the committed one, for this board."""
        body = _opened(party, said, NonceRevealed, self.table.members[party])
        if body.board != self.board:
            raise SaidWrongError(party, "revealed its nonce for another board of the check")
        if sha256(body.nonce).digest() != self.nonces[party].nonce:
            raise SaidWrongError(party, "revealed another nonce than it had committed to")
        return body.nonce

    def challenge(self, reveals: Reveals) -> bytes:
        """The 32 bytes that settle the weights. SaidWrongError names whose reveal is wrong."""
        if len(reveals.members) != len(self.nonces):
            raise SaidWrongError("the recipient", "left somebody out of the reveals of a check")
        pairs = zip(self.nonces, reveals.members, strict=True)
        nonces = b"".join(self.revealed(name, said) for name, said in pairs)
        return sha256(_CHALLENGE + self.board + nonces).digest()


@dataclass(slots=True)
class Witness:
    """A member's words in one check, in the one order that is safe: commit, reveal, combine."""

    table: Table
    me: str
    key: SigningKey
    received: tuple[bytes, ...]
    _nonce: bytes = field(default_factory=lambda: os.urandom(NONCE_BYTES), repr=False)
    _said: Said | None = None

    def committed(self) -> Signed:
        """The nonce's hash, and what this member has of each contributor."""
        nonce = sha256(self._nonce).digest()
        body = NonceCommitted(stretch=self.table.stretch, nonce=nonce, received=self.received)
        return seal(body, self.key)

    def reveal(self, board: Board, absent: frozenset[str] = frozenset()) -> Signed:
        """The nonce, for this board and no other one ever.

        SaidWrongError if an entry is wrong, this member's is missing, or a stream that it has is
        not the committed one; LocalProtocolError after the first time.
        """
        if self._said is not None:
            raise LocalProtocolError("a nonce is revealed once")
        said = self.table.read(board, absent)
        if board.members[list(self.table.members).index(self.me)] != self.committed():
            raise SaidWrongError("the recipient", f"put other words on the board than {self.me}'s")
        for owner, others in said.complaints().items():
            raise SaidWrongError(owner, f"committed to other streams than {others[0]} has")
        self._said = said
        return seal(NonceRevealed(board=said.board, nonce=self._nonce), self.key)

    def challenge(self, reveals: Reveals) -> bytes:
        """What the sums are to be combined by; LocalProtocolError before this member's reveal."""
        if self._said is None:
            raise LocalProtocolError("no challenge before the own nonce is revealed")
        return self._said.challenge(reveals)


def packed_sums(challenge: bytes, sums: Sequence[Elements], key: SigningKey) -> Signed:
    """Signed sums, in the order of their streams."""
    return seal(SumsOpened(challenge=challenge, sums=b"".join(s.tobytes() for s in sums)), key)


def read_sums(
    said: Signed, party: str, key: bytes, challenge: bytes, kind: PrimeField, shape: tuple[int, int]
) -> list[Elements]:
    """`shape[0]` arrays of `shape[1]` sums each. SaidWrongError unless they are of `challenge`."""
    body = _opened(party, said, SumsOpened, key)
    if body.challenge != challenge:
        raise SaidWrongError(party, "opened sums of another challenge")
    if len(body.sums) != shape[0] * shape[1] * kind.word_bytes:
        raise SaidWrongError(party, "opened another number of sums than it should")
    elements = np.frombuffer(body.sums, kind.dtype)
    if not kind.in_range(elements):
        raise SaidWrongError(party, "opened sums outside the field")
    return list(elements.reshape(shape))


def signed_of(data: bytes | bytearray) -> Signed:
    """An envelope from a peer; RemoteProtocolError if it is none."""
    return decode(bytes(data), Signed)


def sent(body: Wire) -> bytes:
    """The bytes of a message that go into one frame."""
    return encode(body)


def _opened(party: str, said: Signed, kind: type[W], key: bytes) -> W:
    try:
        return open_signed(said, kind, key=key)
    except RemoteProtocolError as error:
        raise SaidWrongError(party, f"broke the protocol of a check: {error}") from error
