"""Taps the workers of a daemon that was started with this folder on PYTHONPATH.

What a worker hands to TLS is written to $TAP_FOLDER before it is encrypted. With $LEAK in its
daemon's environment a contributor also leaks, on purpose: the control of the leak test.
"""

import os
import sys
from pathlib import Path

ROLE = next((a.rpartition(".")[2] for a in sys.orig_argv if a.startswith("node.workers.")), "")


def tap(folder: str) -> None:
    from mpc import transport  # noqa: PLC0415  in worker processes alone

    transmit = transport.transmit
    file = (Path(folder) / f"{ROLE}-{os.getpid()}.tap").open("ab", buffering=0)

    def tapped(tls, peer, label, data):
        file.write(bytes(data))
        transmit(tls, peer, label, data)

    transport.transmit = tapped


def leak(kind: str) -> None:
    import numpy as np  # noqa: PLC0415

    from mpc import features, lane  # noqa: PLC0415
    from node import datasets  # noqa: PLC0415

    load, send = datasets.load, lane.ShareSender.send
    forward = features.OwnFeatures.forward
    found: dict[str, bytes] = {}

    def leaking_load(spec):
        dataset = load(spec)
        column = dataset.columns["Seniority"]
        found["text"] = " ".join(repr(float(value)) for value in column).encode()
        found["float64"] = np.asarray(column, "<f8").tobytes()
        found["float32"] = np.asarray(column, "<f4").tobytes()
        return dataset

    def leaking_forward(self, rows):
        z = forward(self, rows)
        found["z"] = np.asarray(z, "<f8").tobytes()
        (Path(os.environ["TAP_FOLDER"]) / "z.bin").write_bytes(found["z"])
        return z

    def leaking_send(self, admitted, chunks):
        chunks = list(chunks)
        next(iter(self._channels.values())).send(found[kind], 10)
        send(self, admitted, chunks)

    datasets.load, lane.ShareSender.send = leaking_load, leaking_send
    features.OwnFeatures.forward = leaking_forward


if ROLE in ("contributor", "member", "recipient") and "TAP_FOLDER" in os.environ:
    if ROLE == "contributor" and "LEAK" in os.environ:
        leak(os.environ["LEAK"])
    tap(os.environ["TAP_FOLDER"])
elif "run" in sys.orig_argv and "TAP_FOLDER" in os.environ:  # a daemon: its workers get this too
    from mpc import supervisor

    supervisor.INHERITED |= {"PYTHONPATH", "TAP_FOLDER", "LEAK"}
