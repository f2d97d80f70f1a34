"""A contributor that breaks the protocol in the way that EVIL says."""

import os

import numpy as np

from mpc import lane, transport
from node.workers import contributor

EVIL = os.environ["EVIL"]

if EVIL == "not-a-polynomial":
    _split = lane.split

    def split(field, secret, drawn, outputs):
        _split(field, secret, drawn, outputs)
        field.add_into(outputs[1], np.ones(outputs[1].size, field.dtype))

    lane.split = split

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
