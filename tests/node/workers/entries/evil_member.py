"""A member that changes one word of one of its answers, or lies in a check; EVIL says how."""

import itertools
import os

from mpc import check_board, checking, lane
from node.workers import member

EVIL = os.environ.get("EVIL", "")
_adding = lane.adding
answers = itertools.count(1)


def adding(field):
    honest = _adding(field)

    def add(terms, total):
        honest(terms, total)
        if next(answers) == 4:
            total[7] = (int(total[7]) + 1) % field.modulus

    return add


if not EVIL:
    member.adding = adding

if EVIL == "other-nonce":
    _revealed = check_board.NonceRevealed
    check_board.NonceRevealed = lambda board, nonce: _revealed(board=board, nonce=nonce[::-1])

if EVIL == "wrong-sums":
    _combine = checking.combine

    def combine(field, challenge, chunks, masks):
        sums = _combine(field, challenge, chunks, masks)
        sums[0][0] = (int(sums[0][0]) + 1) % field.modulus
        return sums

    checking.combine = combine

if EVIL == "false-complaint":
    _digest = checking.Witnessing._digest

    def digest(self, place, mask):
        honest = _digest(self, place, mask)
        return bytes(32) if place == 0 else honest

    checking.Witnessing._digest = digest

member.main()
