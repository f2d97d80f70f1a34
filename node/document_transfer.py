"""One document on its way here, in parts, perhaps from several holders one after another.

Adversary: any holder. A part cannot be checked by itself, only the whole document can, so a liar's
part may be followed by an honest holder's. What must hold: only the right bytes come out, and a
peer is blamed if and only if bytes that it gave are not the document's. Pure: no clock, no network.
"""

from collections import deque
from dataclasses import dataclass

from protocol import documents
from protocol.errors import RemoteProtocolError
from protocol.ids import Digest
from protocol.messages import MAX_PART_BYTES, DocumentAnswer

SUSPECTS_MOST = 8


@dataclass(frozen=True, slots=True)
class _Part:
    peer_id: str
    offset: int
    total: int
    data: bytes


class Transfer:
    """What has come of one document, without a gap, and from whom.

    Holds at most one document and SUSPECTS_MOST parts of wrong ones.
    """

    def __init__(self, proof: Digest) -> None:
        self.proof = proof
        self._parts: list[_Part] = []
        self._suspects: deque[_Part] = deque(maxlen=SUSPECTS_MOST)

    @property
    def offset(self) -> int:
        """How many bytes have come: where the next holder is asked to go on."""
        return sum(len(part.data) for part in self._parts)

    def take(self, peer_id: str, answer: DocumentAnswer) -> bytes | None:
        """The document, once this part makes it whole and right; None while more is to be asked.

        What two holders say may not fit together, and it is not known yet which of them lied:
        then all of it is dropped, and the one at hand is asked for the whole. RemoteProtocolError
        if this peer broke a rule: a part of a wrong size, two totals, a wrong document.
        """
        offset = self.offset
        if self._parts and self._parts[0].total != answer.total:
            self._doubt(peer_id, "the document changed its size")
            return None
        if not answer.part or len(answer.part) != min(MAX_PART_BYTES, answer.total - offset):
            raise RemoteProtocolError(f"{len(answer.part)} bytes at {offset} of {answer.total}")
        self._parts.append(_Part(peer_id, offset, answer.total, answer.part))
        if self.offset < answer.total:
            return None
        body = b"".join(part.data for part in self._parts)
        if documents.proof_of(body) == self.proof:
            self._parts.clear()
            return body
        self._doubt(peer_id, "the document does not hash to its content address")
        return None

    def liars(self, body: bytes) -> set[str]:
        """The peers whose dropped parts are not those of `body`, the right document."""
        return {
            part.peer_id
            for part in self._suspects
            if part.total != len(body)
            or part.data != body[part.offset : part.offset + len(part.data)]
        }

    def _doubt(self, peer_id: str, why: str) -> None:
        """Drop what came. RemoteProtocolError if it came from nobody but this peer."""
        parts, self._parts = self._parts, []
        if all(part.peer_id == peer_id for part in parts):
            raise RemoteProtocolError(why)
        self._suspects.extend(parts)
