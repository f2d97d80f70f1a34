"""Flower's SecAgg+: the stages of its client mod and the server's steps, in one process.

Flower gives its clients' own code only to a running federation; here its functions are called in
the order in which the server's workflow calls them, so no time is spent on a network.
"""

import importlib
import json
import sys
import time

import numpy as np
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

# The package gives the name of this module to a function in it.
client = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")

OWNERS, THRESHOLD = 3, 2
REPEATS = 3
CLIP = 8.0
TARGET_RANGE, MODULUS = 1 << 22, 1 << 32
NAMES = range(1, OWNERS + 1)


def aggregate(features: list[np.ndarray]) -> np.ndarray:
    """The mean of the owners' matrices, as SecAgg+ reveals it to the server."""
    states = {name: client.SecAggPlusState() for name in NAMES}
    plan = {
        Key.SAMPLE_NUMBER: OWNERS,
        Key.SHARE_NUMBER: OWNERS,
        Key.THRESHOLD: THRESHOLD,
        Key.CLIPPING_RANGE: CLIP,
        Key.TARGET_RANGE: TARGET_RANGE,
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: 1.0,
    }
    keys = {}
    for name, state in states.items():
        state.nid = name
        told = client._setup(state, plan)
        keys[str(name)] = (told[Key.PUBLIC_KEY_1], told[Key.PUBLIC_KEY_2])
    letters = {name: {Key.SOURCE_LIST: [], Key.CIPHERTEXT_LIST: []} for name in NAMES}
    for name, state in states.items():
        told = client._share_keys(state, keys)
        pairs = zip(told[Key.DESTINATION_LIST], told[Key.CIPHERTEXT_LIST], strict=True)
        for receiver, letter in pairs:
            letters[receiver][Key.SOURCE_LIST].append(name)
            letters[receiver][Key.CIPHERTEXT_LIST].append(letter)
    total = None
    for (name, state), z in zip(states.items(), features, strict=True):
        given = ndarrays_to_parameters([z])
        told = client._collect_masked_vectors(state, letters[name], 1, given)
        masked = [bytes_to_ndarray(each) for each in told[Key.MASKED_PARAMETERS]]
        total = masked if total is None else parameters_addition(total, masked)
    return unmasked(states, parameters_mod(total, MODULUS))


def unmasked(states: dict[int, client.SecAggPlusState], total: list[np.ndarray]) -> np.ndarray:
    shares: dict[int, list[bytes]] = {name: [] for name in NAMES}
    asked = {Key.ACTIVE_NODE_ID_LIST: list(NAMES), Key.DEAD_NODE_ID_LIST: []}
    for state in states.values():
        told = client._unmask(state, asked)
        for name, share in zip(told[Key.NODE_ID_LIST], told[Key.SHARE_LIST], strict=True):
            shares[name].append(share)
    for given in shares.values():
        seed = combine_shares(given)
        mask = pseudo_rand_gen(seed, MODULUS, get_parameters_shape(total))
        total = parameters_subtraction(total, mask)
    weight, total = factor_extract(parameters_mod(total, MODULUS))
    (real,) = dequantize(total, CLIP, TARGET_RANGE)
    return (real - (OWNERS - 1) * CLIP) * (TARGET_RANGE / weight)


def main() -> None:
    rows, width = int(sys.argv[1]), int(sys.argv[2])
    features = [np.random.default_rng(i).standard_normal((rows, width)) for i in range(OWNERS)]
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        opened = aggregate(features) * OWNERS
        seconds.append(time.perf_counter() - began)
    error = float(np.abs(opened - sum(features)).max())
    print(json.dumps({"seconds": seconds, "error": error}))


main()
