"""A message that is right, with one thing in it changed, at any depth: what a liar would send."""

import random
from typing import Any

import msgspec

from protocol import codec
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from tests.fuzz import wire_kinds

NUMBERS = (0, 1, 2, 3, 2**31 - 1, 2**53 - 1, -1)
TEXTS = ("", "x", "fintech-c", "bank-a/contributor", "0", "\u202e", "127.0.0.1:0")


def mutant(dice: random.Random, message: bytes, *kinds: type[Wire]) -> bytes:
    """`message`, which is one of `kinds`, with one member changed. It may break any rule."""
    value = codec.decode(message, *kinds, limit=1 << 20)
    return codec._encoder.encode(_changed(dice, value))


def _changed(dice: random.Random, value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        name = dice.choice(value.__struct_fields__)
        return msgspec.structs.replace(value, **{name: _changed(dice, getattr(value, name))})
    if isinstance(value, tuple):
        return _other_tuple(dice, value)
    if isinstance(value, bytes):
        return _other_bytes(dice, value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return dice.choice((*NUMBERS, value + 1, max(0, value - 1)))
    if isinstance(value, str):
        return dice.choice((*TEXTS, value + "x", value[:-1]))
    return dice.choice((None, 0, ""))


def _other_tuple(dice: random.Random, value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value or dice.random() < 0.1:
        return dice.choice(((), value * 2))
    place = dice.randrange(len(value))
    return dice.choice(
        (
            value[:place] + value[place + 1 :],
            (*value, value[place]),
            tuple(reversed(value)),
            (*value[:place], _changed(dice, value[place]), *value[place + 1 :]),
            (*value[:place], _changed(dice, value[place]), *value[place + 1 :]),
            (*value[:place], _changed(dice, value[place]), *value[place + 1 :]),
        )
    )


def _other_bytes(dice: random.Random, value: bytes) -> bytes:
    """A message within, changed; else one byte flipped, or others of the same length."""
    try:
        return mutant(dice, value, *wire_kinds.kinds().values())
    except RemoteProtocolError:
        pass
    if not value or dice.random() < 0.2:
        return dice.choice((b"", b"x", bytes(32), bytes(len(value)), dice.randbytes(len(value))))
    place = dice.randrange(len(value))
    return value[:place] + bytes([value[place] ^ 1 << dice.randrange(8)]) + value[place + 1 :]
