"""A contributor that breaks the protocol in the way that EVIL says."""

import itertools
import os

import msgspec
import numpy as np

from mpc import checking, lane, transport
from node.workers import contributor

EVIL = os.environ["EVIL"]

if EVIL in ("not-a-polynomial", "later-not-a-polynomial"):
    _split = lane.split
    rounds = itertools.count(1)

    def split(field, secret, drawn, outputs):
        _split(field, secret, drawn, outputs)
        if next(rounds) >= (1 if EVIL == "not-a-polynomial" else 3):
            field.add_into(outputs[1], np.ones(outputs[1].size, field.dtype))

    lane.split = split

if EVIL == "frank":  # the sums that it opens are those of what it dealt
    _extended = checking.extended

    def extended(field, base, members):
        shares = _extended(field, base, members)
        field.add_into(shares[-1], np.ones(shares[-1].size, field.dtype))
        return shares

    checking.extended = extended

if EVIL in ("other-stream", "other-streams", "replayed"):
    _committed = checking.StreamsCommitted

    def committed(stretch, streams):
        if EVIL == "replayed":
            stretch = msgspec.structs.replace(stretch, number=stretch.number - 1)
        else:
            changed = 1 if EVIL == "other-stream" else 2
            streams = streams[:-changed] + (bytes(32),) * changed
        return _committed(stretch=stretch, streams=streams)

    checking.StreamsCommitted = committed

if EVIL == "other-certificate":
    _identity = transport.Identity

    class Identity(_identity):
        """Shows a certificate in the manifest and another one on the wire."""

        def __init__(self):
            super().__init__()
            self._pem = _identity()._pem

    from node.workers import session

    session.Identity = Identity

if EVIL == "out-of-field":
    _split = lane.split

    def split_outside(field, secret, drawn, outputs):
        _split(field, secret, drawn, outputs)
        outputs[0][0] = field.modulus

    lane.split = split_outside

contributor.main()
