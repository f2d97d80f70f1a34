"""CrypTen: three processes hold additive shares modulo 2^64 over gloo; party 0 opens the sum."""

import json
import os
import socket
import sys
import time
import types

import numpy as np
import torch
import torch.multiprocessing as processes

# CrypTen 0.4.1 imports a registry for ONNX models that torch has dropped since; no sum uses it.
sys.modules["torch.onnx._internal.registration"] = types.SimpleNamespace(registry=None)
import crypten  # noqa: E402

OWNERS = 3
REPEATS = 3


def party(rank: int, port: int, rows: int, width: int) -> None:
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(OWNERS),
        RENDEZVOUS=f"tcp://127.0.0.1:{port}",
        DISTRIBUTED_BACKEND="gloo",
    )
    torch.set_num_threads(1)
    crypten.init()
    features = [
        torch.randn(rows, width, generator=torch.Generator().manual_seed(i)) for i in range(OWNERS)
    ]
    seconds = []
    for _ in range(REPEATS):
        crypten.communicator.get().barrier()
        began = time.perf_counter()
        # Whoever is not the source gives a tensor of the same shape, of which nothing is used.
        shared = [
            crypten.cryptensor(z if rank == i else torch.zeros_like(z), src=i)
            for i, z in enumerate(features)
        ]
        opened = (shared[0] + shared[1] + shared[2]).get_plain_text(dst=0)
        seconds.append(time.perf_counter() - began)
    if rank == 0:
        # Its decoding is off by one where a negative sum is a whole number: 1 in 1,000,000 here.
        error = float(np.quantile((opened - sum(features)).abs().numpy(), 0.9999))
        print(json.dumps({"seconds": seconds, "error": error}), flush=True)
    crypten.communicator.get().barrier()
    os._exit(0)  # gloo's threads sometimes abort an orderly end


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    size = int(sys.argv[1]), int(sys.argv[2])
    processes.spawn(party, (free_port(), *size), nprocs=OWNERS)
