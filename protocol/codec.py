"""Canonical msgpack for everything that is sent, signed or hashed.

A wire type is a frozen `Wire` struct with a tag. Its one encoding is a map with sorted keys in
which the tag stands under "type"; `decode` refuses every other encoding of the same value, so
equal values have equal bytes and a signature covers exactly one meaning.

Two gates stand before a value exists: msgpack unpacks under limits of size and depth, then
msgspec checks each field against its annotation.
"""

import hashlib
from typing import Annotated, Any, TypeVar, overload

import msgpack
import msgspec

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import Digest

MAX_MESSAGE_BYTES = 262_144
MAX_ITEMS = 4096
"""Of one list or map. Room for it is made when it is announced, at each of 1,024 levels."""

Bytes20 = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
SmallBytes = Annotated[bytes, msgspec.Meta(max_length=4096)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"\A[\x21-\x7e]+\Z")]
Text = Annotated[str, msgspec.Meta(max_length=1024)]
PeerIdText = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"\A[1-9A-Za-z]+\Z")]
U31 = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
U32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
U53 = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
AmountText = Annotated[str, msgspec.Meta(pattern=r"\A(0|[1-9][0-9]{0,28})\Z")]
"""An amount of money in the token's smallest unit, in decimal: JSON cannot carry it as a number."""


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """A value with exactly one encoding. Subclasses say `frozen=True` and give their `tag`."""


W = TypeVar("W", bound=Wire)
V = TypeVar("V", bound=Wire)

_encoder = msgspec.msgpack.Encoder(order="sorted")


def encode(value: Wire) -> bytes:
    """The canonical bytes of `value`. LocalProtocolError if a field breaks its own annotation."""
    data = _encoder.encode(value)
    try:
        checked = _convert(_unpack(data, len(data)), type(value))
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"cannot encode {type(value).__name__}: {error}") from error
    return _encoder.encode(checked)


@overload
def decode(data: bytes, kind: type[W], /, *, limit: int = ...) -> W: ...
@overload
def decode(data: bytes, kind: type[W], other: type[V], /, *, limit: int = ...) -> W | V: ...
@overload
def decode(data: bytes, *kinds: type[W], limit: int = ...) -> W: ...


def decode(data: bytes, *kinds: type[Wire], limit: int = MAX_MESSAGE_BYTES) -> Wire:
    """The one value of one of `kinds` whose canonical bytes are `data`.

    RemoteProtocolError if `data` is longer than `limit`, is not msgpack, is of another type,
    breaks an annotation, or is another encoding of the value than the canonical one.
    """
    value = _convert(_unpack(data, limit), *kinds)
    if _encoder.encode(value) != data:
        raise RemoteProtocolError(f"{type(value).__name__} is not in canonical form")
    return value


def sha256(data: bytes) -> Digest:
    """SHA-256 of `data`."""
    return Digest(hashlib.sha256(data).digest())


def digest(value: Wire) -> Digest:
    """SHA-256 of the canonical bytes of `value`."""
    return sha256(encode(value))


def _unpack(data: bytes, limit: int) -> Any:
    if len(data) > limit:
        raise RemoteProtocolError(f"message of {len(data)} bytes, at most {limit} are allowed")
    try:
        return msgpack.unpackb(
            data,
            strict_map_key=True,
            max_array_len=min(len(data), MAX_ITEMS),
            max_map_len=min(len(data), MAX_ITEMS),
            max_ext_len=0,
        )
    except (ValueError, msgpack.exceptions.UnpackException, msgpack.exceptions.ExtraData) as error:
        raise RemoteProtocolError(f"not a msgpack message: {error!r:.120}") from error


def _convert(plain: Any, *kinds: type[Wire]) -> Wire:
    union: Any = kinds[0]
    for kind in kinds[1:]:
        union = union | kind
    try:
        value: Wire = msgspec.convert(plain, union, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(str(error)) from error
    return value
