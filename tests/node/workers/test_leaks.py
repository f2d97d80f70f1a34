"""Nothing of an owner's row leaves its worker, in any form that is looked for.

A tap in every worker's entry module writes down what is handed to TLS. Marker values that stand
in bank A's rows are looked for as text, float32 and float64, encoded, and as rows of Z_a; each
kind of leak is also committed on purpose, to show that the search would find it.
"""

from pathlib import Path

import numpy as np
import pytest

from mpc.features import restore
from mpc.fixedpoint import NOISY_FRACTION_BITS
from node.datasets import load
from node.workers import messages as m


def tapped(harness, plan, **others: str):
    modules = {p: f"tapped_{p.split('/')[1]}" for p in plan.parties} | others
    folder = plan.folder / "taps"
    folder.mkdir()
    return plan.replaced(modules=modules, environment={"TAP_FOLDER": str(folder)})


def sent(plan) -> bytes:
    data = b"".join(path.read_bytes() for path in (plan.folder / "taps").glob("*.tap"))
    assert len(data) > 50_000
    return data


def needles(values: np.ndarray) -> list[bytes]:
    """Single values as text, and whole runs of values as bytes: no value alone is rare enough."""
    flat = values.ravel()
    pairs = [flat[i : i + 2] for i in range(0, len(flat) - 1, 2)]
    return [pair.astype(kind).tobytes() for pair in pairs for kind in ("<f8", "<f4")]


def leaks(data: bytes, searched: list[bytes]) -> list[bytes]:
    return [needle for needle in searched if needle in data]


def source_needles(plan) -> list[bytes]:
    columns = load(plan.datasets["bank-a"]).columns
    texts = [f"{value:.6g}".encode() for column in columns.values() for value in column[:100]]
    long = [text for text in texts if len(text) >= 7]
    assert long
    return long + [n for column in columns.values() for n in needles(column[:100])]


async def test_no_row_leaves_its_owner(harness, small):
    plan = tapped(harness, small)
    session = await harness.finished(plan)
    owner = session.summary("bank-a/contributor")
    encoder, weights = checkpoint(owner)
    encoded = encoder.transform(load(plan.datasets["bank-a"]).columns)
    features = encoded @ weights  # of the final W, as the held-out rows were opened
    steps = np.rint(features * (1 << NOISY_FRACTION_BITS))
    searched = source_needles(plan) + needles(encoded) + needles(features)
    searched += [row.astype("<i8").tobytes() for row in steps]
    assert leaks(sent(plan), searched) == []


def checkpoint(owner: m.ContributorSummary):
    encoder, weights, _ = restore(Path(owner.checkpoint).read_bytes(), bytes(range(32)))
    return encoder, weights


@pytest.mark.parametrize("leak", ["text", "float64", "float32", "z"])
async def test_the_search_finds_a_leaked_column(harness, small, leak):
    plan = tapped(harness, small, **{"bank-a/contributor": "leaking_contributor"})
    plan = plan.replaced(environment={**plan.environment, "LEAK": leak})
    session = await harness.finished(plan)
    assert isinstance(session.end_of("bank-b/contributor"), m.Failed)
    own = needles(np.load(plan.folder / "taps" / "z.npy"))
    assert leaks(sent(plan), own if leak == "z" else source_needles(plan))
