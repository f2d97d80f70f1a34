"""One round as seen by the owner, a member and the recipient: pure, over byte buffers.

Adversary: a recipient that shows different owners different rows or gradients, repeats a round
with another gradient, asks for one row too often or for tiny mini-batches; a contributor or
member that changes what it passes on. What stands against it (floors 5 and 6 of the privacy
page): every order carries the header that the recipient signed, the owner checks that its hashes
fit what came with it and that it follows from the rounds before, and a member adds only streams
that carry the very same header.

Wire: an order is `<III` (lengths of header, rows and gradient in bytes) and those three. A share
stream is `<II` (length of the header, elements in all), the header, zeros up to a multiple of 64,
then the first chunk of elements; every further frame is one more chunk. To a member whose share is
drawn, one frame goes with the key of its key stream instead. An answer of a member is the round's
number as `<Q` and one chunk of its sum.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.codec import decode, encode
from protocol.envelope import Signed, open_signed
from protocol.errors import RemoteProtocolError
from protocol.manifest import RoundHeader

Rows = NDArray[np.uint32]
Gradient = NDArray[np.float32]

CHUNK_ELEMENTS: Final = 65_536
MAX_HEADER_BYTES: Final = 1024
ANSWER_PREFIX: Final = struct.Struct("<Q")
_ORDER: Final = struct.Struct("<III")
_STREAM: Final = struct.Struct("<II")
_ALIGNMENT: Final = 64

NO_ROWS: Final[Rows] = np.empty(0, "<u4")


class ViewsDifferError(Exception):
    """Two streams of one round carry different headers; `between` names the two parties."""

    def __init__(self, reason: str, between: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.between = between


def chunk_rows(width: int) -> int:
    """How many whole rows of `width` numbers make one chunk."""
    return max(1, CHUNK_ELEMENTS // width)


def rows_digest(rows: Rows) -> bytes:
    """SHA-256 of the row indices as little-endian u32."""
    return sha256(np.ascontiguousarray(rows, "<u4").data).digest()


def gradient_digest(gradient: Gradient | None) -> bytes:
    """SHA-256 of the gradient as little-endian float32; of nothing where there is none."""
    if gradient is None:
        return sha256(b"").digest()
    return sha256(np.ascontiguousarray(gradient, "<f4").data).digest()


def largest_order(rows: int, width: int) -> int:
    """The most bytes that an order can have for a cohort of `rows` rows."""
    return _ORDER.size + MAX_HEADER_BYTES + 4 * rows + 4 * width * rows


def pack_order(header: bytes, rows: Rows, gradient: Gradient | None) -> bytes:
    """What the recipient sends an owner; `header` is an encoded `Signed` round header."""
    row_bytes = np.ascontiguousarray(rows, "<u4").tobytes()
    gradient_bytes = (
        b"" if gradient is None else np.ascontiguousarray(gradient, dtype="<f4").tobytes()
    )
    head = _ORDER.pack(len(header), len(row_bytes), len(gradient_bytes))
    return b"".join((head, header, row_bytes, gradient_bytes))


def unpack_order(data: bytes | bytearray) -> tuple[bytes, Rows, NDArray[np.float32]]:
    """(header, rows, gradient as a flat array) of an order; RemoteProtocolError if malformed."""
    if len(data) < _ORDER.size:
        raise RemoteProtocolError("an order is too short")
    header, rows, gradient = _ORDER.unpack_from(data)
    if len(data) != _ORDER.size + header + rows + gradient or rows % 4 or gradient % 4:
        raise RemoteProtocolError("an order does not have the lengths that it says")
    view = memoryview(data)[_ORDER.size :]
    return (
        bytes(view[:header]),
        np.frombuffer(view[header : header + rows], "<u4"),
        np.frombuffer(view[header + rows :], "<f4"),
    )


@dataclass(frozen=True, slots=True)
class Admitted:
    """An order that broke no rule: what is to be opened, and the gradient of what was before."""

    header_bytes: bytes
    header: RoundHeader
    rows: Rows
    answered: Rows
    """The rows of the last training round, which `gradient` answers."""
    gradient: Gradient | None


@dataclass(frozen=True, slots=True)
class GateRules:
    """What an owner holds every round against; `epochs` openings of a row in training."""

    manifest: bytes
    attempt: int
    recipient_key: bytes
    cohort_rows: int
    width: int
    epochs: int
    batch_floor: int
    numbers_cap: int


class OwnerGate:
    """The owner's memory of a session's rounds; nothing is opened that it has not admitted."""

    def __init__(self, rules: GateRules) -> None:
        self._rules = rules
        self._number = 0
        self._stage = "train"
        self._asked = False
        self._trained = np.zeros(rules.cohort_rows, np.uint32)
        self._evaluated = np.zeros(rules.cohort_rows, np.uint32)
        self._unanswered = NO_ROWS

    @property
    def rows_trained(self) -> int:
        """How many rows were opened for training."""
        return int(np.count_nonzero(self._trained))

    @property
    def rows_evaluated(self) -> int:
        """How many rows were opened for evaluation."""
        return int(np.count_nonzero(self._evaluated))

    @property
    def numbers_opened(self) -> int:
        """How many numbers were opened in all."""
        return int(self._trained.sum() + self._evaluated.sum()) * self._rules.width

    @property
    def numbers_per_row(self) -> int:
        """The most numbers that were opened about one row."""
        return int((self._trained + self._evaluated).max(initial=0)) * self._rules.width

    def admit(self, order: bytes | bytearray) -> Admitted:
        """The round that `order` asks for, now counted as opened.

        RemoteProtocolError, and nothing counted, if it breaks a rule; the sentence says which.
        """
        header_bytes, rows, flat = unpack_order(order)
        header = self._header(header_bytes)
        if rows_digest(rows) != header.rows_hash or len(rows) != header.rows:
            raise RemoteProtocolError("the rows are not those of the signed header")
        if sha256(flat.data).digest() != header.gradient_hash:
            raise RemoteProtocolError("the gradient is not that of the signed header")
        if header.check:
            if len(rows) or flat.size:
                raise RemoteProtocolError("a check opens rows or answers some")
            self._asked = True
            return Admitted(header_bytes, header, rows, NO_ROWS, None)
        answered = self._unanswered
        gradient = self._gradient(flat)
        if header.stage == "close":
            if len(rows):
                raise RemoteProtocolError("a closing round opens rows")
        else:
            self._check_rows(header.stage, rows)
            self._count(header.stage, rows)
        self._number, self._stage, self._asked = header.number, header.stage, False
        self._unanswered = rows if header.stage == "train" else NO_ROWS
        return Admitted(header_bytes, header, rows, answered, gradient)

    def _header(self, data: bytes) -> RoundHeader:
        signed = decode(data, Signed, limit=MAX_HEADER_BYTES)
        header = open_signed(signed, RoundHeader, key=self._rules.recipient_key)
        if header.manifest != self._rules.manifest or header.attempt != self._rules.attempt:
            raise RemoteProtocolError("the round belongs to another session or attempt")
        if header.check:
            may_check(header, self._number, asked=self._asked)
            return header
        follows(header, self._number)
        order = ("train", "evaluate", "close")
        if self._stage == "close" or order.index(header.stage) < order.index(self._stage):
            raise RemoteProtocolError(f"a round to {header.stage} follows one to {self._stage}")
        return header

    def _gradient(self, flat: NDArray[np.float32]) -> Gradient | None:
        expected = len(self._unanswered) * self._rules.width
        if flat.size != expected:
            raise RemoteProtocolError(
                f"a gradient of {flat.size} numbers where {expected} answer the last round"
            )
        if not expected:
            return None
        if not np.isfinite(flat).all():
            raise RemoteProtocolError("a gradient holds a value that is not finite")
        return flat.reshape(-1, self._rules.width)

    def _check_rows(self, stage: str, rows: Rows) -> None:
        rules = self._rules
        if len(rows) < rules.batch_floor:
            raise RemoteProtocolError(
                f"a mini-batch of {len(rows)} rows, at least {rules.batch_floor} are needed"
            )
        if int(rows.max()) >= rules.cohort_rows:
            raise RemoteProtocolError(f"row {int(rows.max())} of {rules.cohort_rows} is asked for")
        ordered = np.sort(rows)  # six times as fast as np.unique for a mini-batch
        if (ordered[1:] == ordered[:-1]).any():
            raise RemoteProtocolError("a row stands twice in one mini-batch")
        trained, evaluated = self._trained[rows], self._evaluated[rows]
        if stage == "train":
            self._refuse_any(evaluated > 0, "was held out and is trained on")
            self._refuse_any(trained >= rules.epochs, "is trained on more often than planned")
        else:
            self._refuse_any(trained > 0, "was trained on and is evaluated")
            self._refuse_any(evaluated > 0, "is evaluated twice")
        numbers = (trained + evaluated + 1) * rules.width
        self._refuse_any(numbers > rules.numbers_cap, "would pass its cap of opened numbers")

    @staticmethod
    def _refuse_any(broken: NDArray[np.bool_], what: str) -> None:
        if broken.any():
            raise RemoteProtocolError(f"a row {what}")

    def _count(self, stage: str, rows: Rows) -> None:
        (self._trained if stage == "train" else self._evaluated)[rows] += 1


def follows(header: RoundHeader, last: int) -> None:
    """RemoteProtocolError unless `header` is of the round after number `last`."""
    if header.number <= last:
        raise RemoteProtocolError(f"round {header.number} was opened already")
    if header.number != last + 1:
        raise RemoteProtocolError(f"round {header.number} follows round {last}")


def may_check(header: RoundHeader, last: int, *, asked: bool) -> None:
    """RemoteProtocolError unless the sharings of round `last` may be checked for this header.

    Once only: whoever could ask for many might wait for a challenge that suits a cheat.
    """
    if header.number != last or not last:
        raise RemoteProtocolError(f"round {header.number} is checked after round {last}")
    if asked:
        raise RemoteProtocolError(f"round {last} is checked twice")


def stream_offset(header_bytes: int) -> int:
    """Where the first element of a share stream stands in its first frame."""
    return -(-(_STREAM.size + header_bytes) // _ALIGNMENT) * _ALIGNMENT


def write_stream_head(target: memoryview, header: bytes, elements: int) -> int:
    """Write the head of a share stream and return the offset of its first element."""
    offset = stream_offset(len(header))
    _STREAM.pack_into(target, 0, len(header), elements)
    target[_STREAM.size : _STREAM.size + len(header)] = header
    target[_STREAM.size + len(header) : offset] = bytes(offset - _STREAM.size - len(header))
    return offset


def read_stream_head(frame: memoryview) -> tuple[bytes, int, int]:
    """(header, elements in all, offset of the first) of a share stream's first frame.

    RemoteProtocolError if the frame is too short for what it says.
    """
    if len(frame) < _STREAM.size:
        raise RemoteProtocolError("a share stream is too short")
    length, elements = _STREAM.unpack_from(frame)
    offset = stream_offset(length)
    if length > MAX_HEADER_BYTES or offset > len(frame):
        raise RemoteProtocolError("a share stream does not hold the header that it says")
    return bytes(frame[_STREAM.size : _STREAM.size + length]), elements, offset


def compare_headers(recipient: str, own: bytes, carried: Mapping[str, bytes], key: bytes) -> None:
    """Nothing, if the recipient's header and those that the contributors carry are equal.

    ViewsDifferError names two parties whose headers differ: two contributors where there are
    such, else the recipient and a contributor. A contributor whose header the recipient did not
    sign at all (`key`) is named alone with it.
    """
    first, *_ = carried
    for name, header in carried.items():
        if header != carried[first]:
            forged = tuple(n for n in (first, name) if not _signed_by(carried[n], key))
            if forged:
                reason = f"{' and '.join(forged)} carry a header that {recipient} did not sign"
                raise ViewsDifferError(reason, forged)
            reason = f"{recipient} signed one header of a round for {first} and another for {name}"
            raise ViewsDifferError(reason, (first, name))
    if own != carried[first]:
        reason = f"{first} carries another header of the round than {recipient} sent here"
        raise ViewsDifferError(reason, (recipient, first))


def _signed_by(data: bytes, key: bytes) -> bool:
    try:
        open_signed(decode(data, Signed, limit=MAX_HEADER_BYTES), RoundHeader, key=key)
    except RemoteProtocolError:
        return False
    return True


def header_of(data: bytes) -> RoundHeader:
    """The header inside an encoded `Signed`, its signature unchecked.

    For a member, which adds only what contributors who checked the signature carry alike.
    RemoteProtocolError if it is not one.
    """
    signed = decode(data, Signed, limit=MAX_HEADER_BYTES)
    return decode(signed.body, RoundHeader)


def encoded_header(signed: Signed) -> bytes:
    """The bytes of a signed header that travel with a round."""
    return encode(signed)
