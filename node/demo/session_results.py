"""What the fintech's own worker wrote of a session: its openings and its predictions."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpc.encoder import Floats
from mpc.reconstruction import Openings
from node.demo.in_clear import Split
from node.errors import Fault

_TRAINED, _EVALUATED = 0, 1


@dataclass(frozen=True, slots=True)
class SessionResults:
    """The recipient's view: everything that a curious recipient has in its hands.

    `scores` are of the rows `split.held_out`, in that order.
    """

    split: Split
    opened: Openings
    scores: Floats


def read(folder: Path) -> SessionResults:
    """The results that a recipient's worker left in `folder`; Fault `demo-failed` if it did not."""
    try:
        ids = tuple(json.loads((folder / "rows.json").read_bytes()))
        predicted = json.loads((folder / "predictions.json").read_bytes())
        with np.load(folder / "openings.npz", allow_pickle=False) as stored:
            rounds, stages = stored["round"].astype(np.int64), stored["stage"]
            rows, shared = stored["row"].astype(np.uint32), stored["z"]
    except (OSError, ValueError, KeyError) as error:
        raise Fault("demo-failed", f"the session's results cannot be read: {error}") from error
    held_out = np.array([each["row"] for each in predicted], np.uint32)
    train = np.unique(rows[stages == _TRAINED])
    if not np.array_equal(np.sort(held_out), np.unique(rows[stages == _EVALUATED])):
        raise Fault("demo-failed", f"{folder}: predictions and evaluated rows differ")
    return SessionResults(
        Split(ids, train, held_out),
        Openings(rounds, rows, shared),
        np.array([each["score"] for each in predicted]),
    )
