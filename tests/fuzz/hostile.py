"""Bytes that somebody might send to do harm: made from nothing, or from a message that is right."""

import struct

from hypothesis import strategies as st

LONG = 262_144

FRAGMENTS = (  # what a decoder might believe, put in at any place
    b"",
    b"\x00",
    b"\xff" * 8,
    b"\xc1",  # never used in msgpack
    b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1
    b"\xdf\xff\xff\xff\xff",  # a map of 2^32 - 1
    b"\xc6\xff\xff\xff\xff",  # 2^32 - 1 bytes
    b"\xdb\x7f\xff\xff\xff",  # a text of 2 GiB
    b"\xc9\xff\xff\xff\xff\x01",  # an extension
    b"\xd6\xff\x00\x00\x00\x00",  # a time
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # not a number
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xa4type",
    b"\x91" * 40,
    b"[" * 40,
    b'{"a":' * 20,
    b"\\ud800",
    "\u202e\u0000\uffff".encode(),
    b"1e999999",
    b"-0.0",
    b"9" * 400,
    b"null",
    b"[]",
    b"{}",
    b"-1",
    b'"\xff"',
    b"true",
    b"\r\n\r\n",
    (2**63).to_bytes(8, "little"),
    (2**32 - 1).to_bytes(4, "big"),
)

BOMBS = (  # long, and cheap to send: what they cost to refuse is measured
    b"\x91" * LONG,
    b"\x81\x01" * (LONG // 2),
    b"\x90" * LONG,
    b"\xdd" + struct.pack(">I", 65_536) + b"\x90" * (LONG - 5),
    b"\xdd" + struct.pack(">I", 65_537) + b"\x00" * (LONG - 5),
    (b"\xdd\x00\x01\x00\x00" * (LONG // 5))[:LONG],
    b"\xdf\x00\x01\x00\x00" + b"".join(b"\xcd" + struct.pack(">H", n) for n in range(65_535)),
    b"\xc6" + struct.pack(">I", LONG - 5) + bytes(LONG - 5),
    b"[" * LONG,
    b'{"a":' * (LONG // 5),
    b"[" + b"0," * (LONG // 2 - 1) + b"0]",
    b"9" * LONG,
    b'"' + b"\\u0000" * (LONG // 6) + b'"',
    b'"' + b"\\" * LONG,
    b"1" * (LONG - 1) + b"O",
    b"a = " + b"[" * LONG,
    b"a." * (LONG // 2) + b"b = 1",
    b"\xff" * LONG,
    b"\x00" * LONG,
)


def flipped(seed: bytes) -> st.SearchStrategy[bytes]:
    """`seed` with up to four bytes changed."""

    def change(places: list[tuple[int, int]]) -> bytes:
        changed = bytearray(seed)
        for place, by in places:
            changed[place % len(changed)] ^= by
        return bytes(changed)

    places = st.tuples(st.integers(0, 2**16), st.integers(1, 255))
    return st.lists(places, min_size=1, max_size=4).map(change)


def spliced(seed: bytes) -> st.SearchStrategy[bytes]:
    """`seed` with a hostile fragment put in, or put in the place of some bytes."""

    def put(choice: tuple[int, bytes, int]) -> bytes:
        place, fragment, away = choice
        place %= len(seed) + 1
        return seed[:place] + fragment + seed[place + away :]

    pieces = st.sampled_from(FRAGMENTS) | st.binary(max_size=12)
    return st.tuples(st.integers(0, 2**16), pieces, st.sampled_from((0, 1, 4, 32))).map(put)


def nested(seed: bytes) -> st.SearchStrategy[bytes]:
    """`seed` inside of very many lists or maps."""
    shells = st.sampled_from(((b"\x91", b""), (b"\x81\xa1a", b""), (b"[", b"]"), (b'{"a":', b"}")))
    return st.tuples(shells, st.sampled_from((1, 17, 1_025, 50_000))).map(
        lambda drawn: drawn[0][0] * drawn[1] + seed + drawn[0][1] * drawn[1]
    )


def from_seed(seed: bytes) -> st.SearchStrategy[bytes]:
    """What can be made of a right message: cut, prolonged, doubled, changed, wrapped."""
    if not seed:
        return st.binary(max_size=64)
    return st.one_of(
        st.just(seed),
        st.integers(0, len(seed)).map(lambda length: seed[:length]),
        st.integers(0, len(seed)).map(lambda start: seed[start:]),
        st.binary(min_size=1, max_size=16).map(lambda more: seed + more),
        st.sampled_from((2, 3)).map(lambda times: seed * times),
        flipped(seed),
        spliced(seed),
        spliced(seed),
        nested(seed),
    )


def hostile(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Garbage, and what can be made of `seeds`."""
    garbage = st.binary(max_size=300)
    fragments = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=12).map(
        b"".join
    )
    if not seeds:
        return garbage | fragments
    wrong = st.sampled_from(seeds).flatmap(from_seed)
    return st.one_of(wrong, wrong, wrong, garbage, fragments)
