"""SPU's own simulator: three nodes in threads of one process, ABY3 or SEMI2K, modulo 2^64."""

import json
import sys
import time

import jax
import numpy as np
import spu
from spu.utils import simulation

OWNERS = 3
REPEATS = 3


def seconds_of(
    protocol: "spu.ProtocolKind", features: list[np.ndarray]
) -> tuple[list[float], float]:
    simulator = simulation.Simulator.simple(OWNERS, protocol, spu.FieldType.FM64)
    add = simulation.sim_jax(simulator, lambda a, b, c: a + b + c)
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        opened = add(*features)
        seconds.append(time.perf_counter() - began)
    return seconds[1:], float(
        np.abs(np.asarray(opened) - sum(features)).max()
    )  # the first compiles


def main() -> None:
    rows, width = int(sys.argv[1]), int(sys.argv[2])
    jax.config.update("jax_platforms", "cpu")
    features = [np.random.default_rng(i).standard_normal((rows, width)) for i in range(OWNERS)]
    protocol = getattr(spu.ProtocolKind, sys.argv[3])
    seconds, error = seconds_of(protocol, [z.astype(np.float32) for z in features])
    print(json.dumps({"seconds": seconds, "error": error}))


main()
