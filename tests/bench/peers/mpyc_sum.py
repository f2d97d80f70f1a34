"""MPyC as it comes: three processes, Shamir over GF(2^61-1) with t = 1, input, add, output.

Run with `-M3`. The rows go through in portions, because MPyC's arrays of Python integers take
3 GB a party for all 100,000 x 64 at once.
"""

import json
import sys
import time

import numpy as np
from mpyc.runtime import mpc

OWNERS = 3
PORTION = 10_000
FRACTION_BITS = 16
MODULUS = (1 << 61) - 1


async def main() -> None:
    rows, width, repeats = (int(word) for word in sys.argv[1:4])
    secure = mpc.SecFld(modulus=MODULUS)
    every = [np.random.default_rng(i).standard_normal((rows, width)) for i in range(OWNERS)]
    mine = np.rint(every[mpc.pid] * 2**FRACTION_BITS).astype(np.int64).ravel()
    seconds = []
    await mpc.start()
    for _ in range(repeats):
        await mpc.barrier()
        began = time.perf_counter()
        opened = [
            await total(secure, mine[at : at + PORTION * width])
            for at in range(0, mine.size, PORTION * width)
        ]
        seconds.append(time.perf_counter() - began)
    await mpc.shutdown()
    if mpc.pid == 0:
        wide = np.concatenate([part.value.astype(np.uint64) for part in opened]).astype(np.int64)
        wide[wide > MODULUS // 2] -= MODULUS
        error = float(np.abs(wide / 2**FRACTION_BITS - sum(every).ravel()).max())
        print(json.dumps({"seconds": seconds, "error": error}), flush=True)


async def total(secure: type, values: np.ndarray) -> object:
    array = secure.array(secure.field.array(values.astype(object)))
    terms = mpc.input(array)
    return await mpc.output(terms[0] + terms[1] + terms[2], receivers=0)


mpc.run(main())
