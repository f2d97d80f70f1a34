"""Messages of bitswap 1.2.0, as far as a node needs them that gives blocks and takes none.

A message is a protobuf (specs.ipfs.tech/bitswap-protocol) behind its length as a varint. Read are
the entries of its wantlist alone: blocks that a peer pushes, what it says that it has and fields
of a later version are skipped unread. Written here by hand, because of a decoder that meets any
peer's bytes every line should be seen; tests compare it with the encoder of another project.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from protocol.documents import CID_PREFIX
from protocol.errors import RemoteProtocolError
from protocol.ids import Digest

BITSWAP_PROTOCOL = "/ipfs/bitswap/1.2.0"
MAX_BITSWAP_BYTES = 524_288
WANTS_MOST = 1_024
FIELDS_MOST = 16_384
"""Fields of one message that are read: a message of empty ones would take a third of a second."""
MAX_CID_BYTES = 128
VARINT_BYTES = 10

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_WANT_HAVE = 1


@dataclass(frozen=True, slots=True)
class Want:
    """One entry of a wantlist: the block itself, or only whether it is here (`presence`).

    `dont_have`: the peer wants to hear of it too if the block is not here.
    """

    cid: bytes
    presence: bool
    dont_have: bool

    @property
    def proof(self) -> Digest | None:
        """The SHA-256 that the address names; None unless it is a raw sha2-256 CIDv1."""
        if len(self.cid) == 36 and self.cid.startswith(CID_PREFIX):
            return Digest(self.cid[4:])
        return None


def wants(message: bytes) -> tuple[Want, ...]:
    """What `message` asks for now, the first WANTS_MOST addresses of it, each once.

    RemoteProtocolError if it is no protobuf, a field that is read is of another type, or more than
    FIELDS_MOST fields stand before the last that is read.
    """
    found: dict[bytes, Want] = {}
    left = iter(range(FIELDS_MOST))
    for number, value in _fields(message, left):
        if number == 1:
            for field, entry in _fields(_bytes(value), left):
                want = _want(_bytes(entry), left) if field == 1 else None
                if want is not None:
                    found.setdefault(want.cid, want)
                if len(found) >= WANTS_MOST:
                    return tuple(found.values())
    return tuple(found.values())


def answer(
    blocks: Iterable[bytes] = (), have: Iterable[bytes] = (), dont_have: Iterable[bytes] = ()
) -> bytes:
    """A message that brings these documents, and says which of other addresses are here."""
    out = bytearray()
    for block in blocks:
        out += _field(3, _field(1, CID_PREFIX) + _field(2, block))
    for cids, kind in ((have, 0), (dont_have, 1)):
        for cid in cids:
            out += _field(4, _field(1, cid) + bytes([2 << 3 | _VARINT, kind]))
    return bytes(out)


def frame(message: bytes) -> bytes:
    """The message behind its length, as it stands on a stream."""
    return _varint(len(message)) + message


def length(prefix: bytes) -> int | None:
    """The length that `prefix`, the first bytes on a stream, announces; None if it goes on.

    RemoteProtocolError if that is over MAX_BITSWAP_BYTES.
    """
    if prefix[-1] & 0x80 and len(prefix) < VARINT_BYTES:
        return None
    size, _ = _read_varint(prefix, 0)
    if size > MAX_BITSWAP_BYTES:
        raise RemoteProtocolError(f"a bitswap message of {size} bytes is over the limit")
    return size


def _want(entry: bytes, left: Iterator[int]) -> Want | None:
    """None for an entry that takes an earlier one back: nothing of it is kept here."""
    cid, numbers = b"", {}
    for field, value in _fields(entry, left):
        if field == 1:
            cid = _bytes(value)
        elif isinstance(value, int):
            numbers[field] = value
    if numbers.get(3) or not 0 < len(cid) <= MAX_CID_BYTES:
        return None
    return Want(cid, presence=numbers.get(4) == _WANT_HAVE, dont_have=bool(numbers.get(5)))


def _fields(data: bytes, left: Iterator[int]) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of each field; what has a fixed size comes as bytes.

    Each takes one of those that are `left` for the whole message.
    """
    at = 0
    while at < len(data):
        if next(left, None) is None:
            raise RemoteProtocolError(f"a bitswap message of more than {FIELDS_MOST} fields")
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise RemoteProtocolError(f"a protobuf field has the number {number}")
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise RemoteProtocolError(f"a protobuf field is of wire type {kind}")
        if size > len(data) - at:
            raise RemoteProtocolError("a protobuf field is longer than its message")
        yield number, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, below 2^64, and where it ends."""
    number = 0
    for shift, byte in enumerate(data[at : at + VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * shift
        if not byte & 0x80:
            return number & (1 << 64) - 1, at + shift + 1
    raise RemoteProtocolError("a varint does not end")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + _varint(len(value)) + value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise RemoteProtocolError("a protobuf field is a number and should be bytes")
    return value
