"""A helper that names positions as EVIL says, to the first party alone."""

import os

import numpy as np

from node.workers import alignment, member

EVIL = os.environ["EVIL"]
CHANGED = {
    "other-rows": lambda own: np.roll(own, 1),
    "far": lambda own: np.append(own[1:], np.uint32(280)),
    "twice": lambda own: np.append(own[1:], own[1]),
    "too-many": lambda own: np.append(own, np.zeros(100, np.uint32)),
}
_common = alignment.common


def common(lists, floor):
    positions = _common(lists, floor)
    first = min(positions)
    return positions | {first: CHANGED[EVIL](positions[first])}


alignment.common = common
member.main()
