"""A member that changes one word of one of its answers."""

import itertools

from mpc import lane
from node.workers import member

_adding = lane.adding
answers = itertools.count(1)


def adding(field):
    honest = _adding(field)

    def add(terms, total):
        honest(terms, total)
        if next(answers) == 4:
            total[7] = (int(total[7]) + 1) % field.modulus

    return add


member.adding = adding
member.main()
