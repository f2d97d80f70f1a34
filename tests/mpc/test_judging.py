"""What is shown in a dispute counts only if it is what was committed to, in any segment."""

from hashlib import sha256

import numpy as np
import pytest
from nacl.signing import SigningKey

from mpc.check_board import Said
from mpc.field import M61
from mpc.judging import _Case
from mpc.setting import Setting
from mpc.shares import KeyStream, fresh_key
from mpc.sharing_check import combine, fresh_masks

CHALLENGE = bytes(range(32))
OWNERS = {f"o{i}": bytes(32) for i in range(64)}  # so many that a segment is one chunk
SETTING = Setting(
    mesh=None,
    key=SigningKey(bytes(32)),
    recipient="r",
    recipient_key=bytes(32),
    contributors=OWNERS,
    members={name: bytes(32) for name in "xyz"},
    threshold=1,
    field=M61,
    width=64,
    manifest=bytes(32),
    attempt=1,
    check_every=1,
    deadline_s=1.0,
    answers_needed=3,
)
ELEMENTS = 2 * SETTING.chunk_elements + 640


def case(segment: int, member: int, shown: bytes) -> _Case:
    streams = [bytes(32)] * 3
    streams[member] = sha256(shown).digest()
    said = Said(SETTING.table(1, segment), bytes(32), {"o0": tuple(streams)}, {})
    return _Case(SETTING, said, CHALLENGE, segment, ELEMENTS)


@pytest.mark.parametrize("segment", [0, 1, 2])
@pytest.mark.parametrize("member", [0, 1])
def test_a_committed_stream_with_its_sums_fits_and_nothing_else_does(segment, member):
    assert SETTING.segment_chunks == 1
    key, mask = fresh_key(), fresh_masks(M61, 1)[0]
    stream = KeyStream(key)
    chunk = [stream.elements(M61, count) for count in SETTING.chunks(ELEMENTS)][segment]
    (sums,) = combine(M61, CHALLENGE, [[chunk]], [mask])
    shown = (key if member == 0 else chunk.tobytes()) + mask.tobytes()
    under = case(segment, member, shown)
    assert under.fits(shown, "o0", member, sums)
    assert len(shown) <= under.largest_stream
    assert not under.fits(shown[:-1] + bytes([shown[-1] ^ 1]), "o0", member, sums)
    assert not under.fits(shown, "o0", member, np.roll(sums, 1))
    short = shown[8:]
    assert not case(segment, member, short).fits(short, "o0", member, sums)
