"""The recipient's side of a check of sharings: it carries the words, and names who lies.

What it may conclude, and from what, is told in `mpc.sharing_check`.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Final

import numpy as np

from mpc import topology
from mpc.channels import Outbound
from mpc.check_board import (
    Board,
    Reveals,
    Said,
    SaidWrongError,
    Settled,
    read_sums,
    sent,
    signed_of,
)
from mpc.field import Elements
from mpc.setting import PATIENCE_S, Setting, broke
from mpc.shares import KEY_BYTES, KeyStream
from mpc.sharing_check import combine, first_difference, repeats
from mpc.watch import SessionError, SpareLostError
from protocol.codec import MAX_MESSAGE_BYTES, Wire
from protocol.envelope import Signed
from protocol.errors import RemoteProtocolError

_UNSOUND: Final = "the check of round {number} shows that {what}"


class Judge:
    """Leads the check of one segment after another."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        mesh = setting.mesh
        self._proofs = {
            party: mesh.of(party, topology.PROOFS)
            for party in (*setting.contributors, *setting.members)
        }
        self._to_owners = [mesh.to(owner, topology.ORDERS) for owner in setting.contributors]
        self._to_members = {m: mesh.to(m, topology.HEADERS) for m in setting.members}

    def check(self, number: int, segment: int, elements: int) -> None:
        """Nothing, if every contributor's sharing of that segment is of degree t.

        `elements` is what the whole round opens. SessionError names who cheats, or is late.
        """
        setting = self._setting
        table = setting.table(number, segment)
        try:
            board = Board(
                contributors=tuple(map(self._next, setting.contributors)),
                members=tuple(map(self._present, setting.members)),
            )
            said = table.read(board, frozenset(filter(setting.has_lost, setting.members)))
            self._settle_complaints(number, said, setting.threshold)
            members = [self._to_members[name] for name in said.nonces]
            self._tell(members, board)
            reveals = Reveals(members=tuple(map(self._next, said.nonces)))
            challenge = said.challenge(reveals)
            self._tell(self._to_owners, board, reveals)
            self._tell(members, reveals)
            self._compare(_Case(setting, said, challenge, segment, elements))
        except SaidWrongError as error:
            what = _UNSOUND.format(number=number, what=error)
            raise SessionError(what, (error.party,)) from error
        self._tell(members, Settled())

    def _present(self, member: str) -> Signed | None:
        """What `member` says first, or None if the session goes on without it."""
        if not self._setting.has_lost(member):
            with contextlib.suppress(SpareLostError):
                return self._next(member)
        return None

    def _next(self, party: str) -> Signed:
        setting = self._setting
        data = self._proofs[party].receive(
            setting.deadline_s + PATIENCE_S, limit=MAX_MESSAGE_BYTES, what="its word in a check"
        )
        try:
            return signed_of(data)
        except RemoteProtocolError as error:
            raise broke(party, str(error)) from error

    def _tell(self, channels: Iterable[Outbound], *words: Wire) -> None:
        for word in words:
            data = sent(word)
            for channel in channels:
                channel.send(data, self._setting.deadline_s)

    @staticmethod
    def _settle_complaints(number: int, said: Said, threshold: int) -> None:
        """More complaints than there may be liars among the members leave the contributor alone."""
        for owner, members in said.complaints().items():
            who = " and ".join(members)
            what = f"{who} was sent other shares by {owner} than it commits to, or says so falsely"
            alone = len(members) > threshold
            blamed = (owner,) if alone else (owner, *members)
            raise SessionError(_UNSOUND.format(number=number, what=what), blamed)

    def _compare(self, case: "_Case") -> None:
        setting, challenge = self._setting, case.challenge
        field, k = setting.field, repeats(setting.field)
        said = {party: self._next(party) for party in (*setting.contributors, *case.said.nonces)}

        def read(party: str, key: bytes, count: int) -> list[Elements]:
            return read_sums(said[party], party, key, challenge, field, (count, k))

        members, owners = setting.members, setting.contributors
        answered = {name: read(name, members[name], len(owners)) for name in case.said.nonces}
        for place, (owner, key) in enumerate(owners.items()):
            claimed = read(owner, key, len(members))
            answers = [answered[name][place] if name in answered else None for name in members]
            member = first_difference(field, setting.threshold, claimed, answers)
            if member == -1:
                raise SaidWrongError(
                    owner, f"dealt shares of no polynomial of degree {setting.threshold}"
                )
            if member is not None:
                name = list(members)[member]
                self._settle(case, place, member, said[owner], answered[name][place])

    def _settle(
        self, case: "_Case", place: int, member: int, claimed: Signed, answer: Elements
    ) -> None:
        """A contributor and a member have opened different sums of one stream: one of them lies."""
        setting = self._setting
        owner, name = list(setting.contributors)[place], list(setting.members)[member]
        self._tell([self._to_members[name]], Settled(contributor=place, claimed=claimed))
        shown = self._proofs[name].receive(
            setting.deadline_s + PATIENCE_S, limit=case.largest_stream, what="a stream to be shown"
        )
        if case.fits(bytes(shown), owner, member, answer):
            raise SaidWrongError(owner, f"opened other sums of a stream than {name} has of it")
        raise SaidWrongError(name, f"opened wrong sums of the stream that {owner} dealt it")


@dataclass(frozen=True, slots=True)
class _Case:
    """A segment under check, with all that a stream that is shown is held against."""

    setting: Setting
    said: Said
    challenge: bytes
    segment: int
    elements: int

    @property
    def largest_stream(self) -> int:
        """The most bytes that a stream with its masks has."""
        setting = self.setting
        elements = setting.segment_chunks * setting.chunk_elements + repeats(setting.field)
        return KEY_BYTES + elements * setting.field.word_bytes

    def fits(self, shown: bytes, owner: str, member: int, answer: Elements) -> bool:
        """Whether `shown` is what `owner` committed to for `member`, and has these sums."""
        if sha256(shown).digest() != self.said.streams[owner][member]:
            return False
        field, keyed = self.setting.field, member < self.setting.threshold
        mask_bytes = repeats(field) * field.word_bytes
        elements = sum(self._counts()[self._before() :])
        if len(shown) - mask_bytes != (KEY_BYTES if keyed else elements * field.word_bytes):
            return False
        body, mask = shown[:-mask_bytes], np.frombuffer(shown[-mask_bytes:], field.dtype)
        chunks = self._drawn(body) if keyed else self._cut(body)
        (sums,) = combine(field, self.challenge, [[chunk] for chunk in chunks], [mask])
        return np.array_equal(sums, answer)

    def _before(self) -> int:
        return self.segment * self.setting.segment_chunks

    def _counts(self) -> list[int]:
        """How many elements each chunk has, from the round's first to the segment's last."""
        last = self._before() + self.setting.segment_chunks
        return list(islice(self.setting.chunks(self.elements), last))

    def _drawn(self, key: bytes) -> list[Elements]:
        stream = KeyStream(key)
        drawn = [stream.elements(self.setting.field, count) for count in self._counts()]
        return drawn[self._before() :]

    def _cut(self, body: bytes) -> list[Elements]:
        """The chunks of a stream that was sent; one that was committed to has their length."""
        elements, start, found = np.frombuffer(body, self.setting.field.dtype), 0, []
        for count in self._counts()[self._before() :]:
            found.append(elements[start : start + count])
            start += count
        return found
