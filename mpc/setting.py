"""What every party knows of the rounds of its session, and when their sharings are checked."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from mpc import rounds
from mpc.channels import Outbound
from mpc.check_board import Stretch, Table
from mpc.committee import Committee
from mpc.field import PrimeField
from mpc.mesh import Mesh
from mpc.watch import SessionError, SpareLostError
from protocol.manifest import Stage

PATIENCE_S: Final = 1.0
"""How much longer the recipient waits than members do, and owners than the recipient: whoever
stands nearest to the party that is late shall name it."""
_HEAD_ROOM: Final = rounds.MAX_HEADER_BYTES + 128
_SEGMENT_BYTES: Final = 1 << 25
"""What a member may have to keep of one opening until its sharings are checked."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The rounds of one attempt of one session, as one of its workers sees them.

    `key` is this worker's own; `contributors` and `members` map names, in the roster's order, to
    the keys that vouch for them. Sharings are checked in every round of more than one chunk or to
    evaluate, in the first round and then in every `check_every`th; in none if that is 0, which is
    for measuring what a round costs without. The session goes on while `answers_needed` members are
    left, at least t+1.
    """

    mesh: Mesh
    key: SigningKey
    recipient: str
    recipient_key: bytes
    contributors: Mapping[str, bytes]
    members: Mapping[str, bytes]
    threshold: int
    field: PrimeField
    width: int
    manifest: bytes
    attempt: int
    check_every: int
    deadline_s: float
    answers_needed: int

    @property
    def committee(self) -> Committee:
        """The members at their points."""
        return Committee(tuple(self.members), self.threshold)

    def begin(self) -> None:
        """From now on a member may be lost, as long as enough of them are left."""
        self.mesh.watch.spare(self.members, self.answers_needed)

    def has_lost(self, member: str) -> bool:
        """Whether the session goes on without `member`."""
        return self.mesh.watch.has_lost(member)

    def deliver(self, member: str, channel: Outbound, frame: memoryview) -> None:
        """Send a whole frame, unless the session goes on without `member`."""
        if not self.has_lost(member):
            with contextlib.suppress(SpareLostError):
                channel.send_frame(frame, self.deadline_s)

    @property
    def keyed(self) -> bool:
        """Whether this worker is a member that is sent keys instead of shares."""
        return self.mesh.me in self.committee.keyed

    @property
    def chunk_bytes(self) -> int:
        """The size of the largest frame of a round."""
        return _HEAD_ROOM + self.chunk_elements * self.field.word_bytes

    @property
    def chunk_elements(self) -> int:
        """How many elements a whole chunk has."""
        return rounds.chunk_rows(self.width) * self.width

    @property
    def segment_chunks(self) -> int:
        """After how many chunks of a round that is checked a check is due."""
        chunk = self.chunk_elements * self.field.word_bytes
        return max(1, _SEGMENT_BYTES // (chunk * len(self.contributors)))

    def chunks(self, elements: int) -> Iterator[int]:
        """How many elements each chunk of a round of so many has."""
        step = self.chunk_elements
        return (min(step, elements - start) for start in range(0, elements, step))

    def checked(self, stage: Stage, number: int, elements: int) -> bool:
        """Whether the sharings of a round are checked without anybody asking for it."""
        if not self.check_every:
            return False
        return (
            stage == "evaluate"
            or elements > self.chunk_elements
            or (number - 1) % self.check_every == 0
        )

    def ends_segment(self, place: int, elements: int) -> bool:
        """Whether the chunk at `place` of a round of so many elements is the last of a segment."""
        last = -(-elements // self.chunk_elements) - 1
        return place == last or (place + 1) % self.segment_chunks == 0

    def table(self, number: int, segment: int) -> Table:
        """Who sits at the check of a segment of a round, and what it is about."""
        stretch = Stretch(
            manifest=self.manifest, attempt=self.attempt, number=number, segment=segment
        )
        return Table(stretch, self.contributors, self.members)


def broke(party: str, what: str) -> SessionError:
    """What a party's breach of the protocol ends the session with."""
    return SessionError(f"{party} broke the protocol: {what}", (party,))
