"""A recipient that treats its owners unequally or breaks their rules; EVIL says how."""

import os

import numpy as np

from mpc import judging, opening, rounds
from node.workers.recipient import main

EVIL = os.environ["EVIL"]
AT_ROUND = 3

_orders_for = opening.Opener._orders_for


def lying(self, stage, rows, gradient):
    orders = dict(_orders_for(self, stage, rows, gradient))
    if self.number != AT_ROUND:
        return orders
    if EVIL in UNEQUAL:
        victim = sorted(self._orders)[0]
        rows, gradient = UNEQUAL[EVIL](rows, gradient)
        header = self._header(stage, rows, gradient)
        orders[victim] = rounds.pack_order(header, rows, gradient)
        return orders
    if EVIL == "unsigned-rows":  # the header is kept, what comes with it is not what it says
        victim = sorted(self._orders)[0]
        orders[victim] = rounds.pack_order(orders[sorted(self._headers)[0]], rows[::-1], gradient)
        return orders
    if EVIL == "repeat":
        self.number -= 1
    stage, rows, gradient = FORBIDDEN[EVIL](stage, rows, gradient)
    return _orders_for(self, stage, rows, gradient)


UNEQUAL = {
    "zero-gradient": lambda rows, gradient: (rows, np.zeros_like(gradient)),
    "shifted-rows": lambda rows, gradient: (np.roll(rows, 1), gradient),
}
FORBIDDEN = {
    "repeat": lambda stage, rows, gradient: (stage, rows, gradient * 2),
    "small-batch": lambda stage, rows, gradient: (stage, rows[:15], gradient),
    "far-row": lambda stage, rows, gradient: (stage, np.append(rows, 1_000_000), gradient),
    "huge-gradient": lambda stage, rows, gradient: (stage, rows, gradient * np.inf),
    "close-early": lambda _stage, _rows, gradient: ("close", rounds.NO_ROWS, gradient),
}
if EVIL == "curious":  # it asks an honest member for a stream of an honest contributor

    def compare(self, case):
        said = {party: self._next(party) for party in self._proofs}
        owner = next(iter(case.setting.contributors))
        self._settle(case, 0, 1, said[owner], np.zeros(2, "<u8"))

    judging.Judge._compare = compare
else:
    opening.Opener._orders_for = lying
main()
