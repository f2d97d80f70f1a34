"""A contributor that breaks the alignment in the way that EVIL says."""

import os
import time

from mpc.intersection import POINT_BYTES, Masker
from node.workers import alignment, contributor

EVIL = os.environ["EVIL"]
SAID = {"longer": -10, "shorter": 10, "empty": -280}
FIRST = {"off-group": b"\xff" * POINT_BYTES, "identity": bytes(POINT_BYTES)}

_exchange, _hashed, _size = alignment._Party.exchange_sizes, Masker.hashed, alignment._size


def exchange_sizes(party, own):
    return _exchange(party, own + SAID.get(EVIL, 0))


def hashed(masker, identifiers):
    """This party's own list, after what EVIL does to it."""
    whole = b"".join(_hashed(masker, identifiers))
    if EVIL == "late":
        time.sleep(6)
    if EVIL in FIRST:
        whole = FIRST[EVIL] + whole[POINT_BYTES:]
    if EVIL == "duplicate":
        whole = whole[:-POINT_BYTES] + whole[:POINT_BYTES]
    if EVIL == "half-a-point":
        whole = whole[:-1]
    return iter([b"" if EVIL == "nothing" else whole])


alignment._Party.exchange_sizes = exchange_sizes
Masker.hashed = hashed
if EVIL == "no-size":
    alignment._size = lambda own: _size(own)[:3]

contributor.main()
