"""The recipient's worker: it opens Z, trains its network on it, and sends gradients back."""

import json
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mpc.opening import Opener
from mpc.rounds import NO_ROWS, Gradient, Rows
from mpc.top_model import TopModel, auc, batches, split_rows
from node.datasets import Dataset, load
from node.errors import Fault
from node.workers import messages as m
from node.workers.alignment import align
from node.workers.session import Session, serve
from protocol.errors import RemoteProtocolError

MAX_LOSSES = 4096
STAGE_CODES = {"train": 0, "evaluate": 1}


def main() -> None:
    """Entry point of the worker process."""
    serve("recipient", play)


def play(session: Session, proceed: m.Proceed) -> m.RecipientSummary:
    """The recipient's part of one session."""
    job = proceed.job
    if not isinstance(job, m.RecipientJob):
        raise RemoteProtocolError("a recipient needs a recipient's job")
    dataset = load(job.dataset)
    if dataset.labels is None:
        reason = f"dataset {job.dataset.name} names no column of labels"
        raise Fault("dataset-column-missing", reason, dataset=job.dataset.name)
    aligned = align(session, dataset.ids, session.roster.cohort_floor)
    cohort = dataset.at(aligned.rows)
    rows = len(cohort.ids)
    session.desk.report(m.Aligned(rows_hash=aligned.rows_hash, rows=rows, row_keys=b""))
    _, manifest = session.agreed_rows(aligned.rows_hash, rows)
    learning = Learning(session, cohort, job.seed, manifest)
    try:
        learning.run()
    finally:
        learning.write(Path(job.folder))  # what was opened before a failure is spent: it is kept
    return learning.summary()


class Learning:
    """The rounds of one session and what they opened."""

    def __init__(self, session: Session, cohort: Dataset, seed: int, manifest: bytes) -> None:
        parameters = session.parameters
        self._session, self._cohort, self._seed = session, cohort, seed
        self._labels = np.zeros(0) if cohort.labels is None else cohort.labels
        self._training, self._held_out = split_rows(len(cohort.ids), parameters.holdout, seed)
        self._model = TopModel(parameters.width, seed)
        setting = session.setting(manifest)
        setting.begin()
        self._opener = Opener(setting, session.grid)
        self._opened: list[tuple[int, int, Rows, NDArray[np.float64]]] = []
        self._losses: list[float] = []
        self._scores: NDArray[np.float64] = np.zeros(0)

    def run(self) -> None:
        """Train on mini-batches, open the held-out rows once with the final W, and close."""
        gradient = self._train()
        if len(self._held_out):
            self._session.progress("evaluate", 0, 1)
            shared = self._open("evaluate", self._held_out, gradient)
            self._scores = self._model.predict(shared)
            gradient = None
            self._session.progress("evaluate", 1, 1)
        self._session.stage = "close"
        self._opener.open("close", NO_ROWS, gradient)

    def _train(self) -> Gradient | None:
        parameters, gradient = self._session.parameters, None
        plan = [
            batch
            for epoch in range(parameters.epochs)
            for batch in batches(self._training, parameters.batch_rows, self._seed, epoch)
        ]
        for done, batch in enumerate(plan, start=1):
            shared = self._open("train", batch, gradient)
            loss, raw = self._model.step(shared, self._labels[batch])
            gradient = _shortened(raw, parameters.gradient_clip)
            self._losses.append(loss)
            self._session.progress("train", done, len(plan), loss=loss)
        return gradient

    def _open(
        self, stage: m.OpeningStage, rows: Rows, gradient: Gradient | None
    ) -> NDArray[np.float64]:
        self._session.stage = stage
        shared = self._opener.open(stage, rows, gradient)
        self._opened.append((self._opener.number, STAGE_CODES[stage], rows, shared))
        return shared

    def write(self, folder: Path) -> None:
        """`openings.npz`, `rows.json`, `model.npz` and `predictions.json`, mode 0600.

        Fault `disk-full` if one cannot be written.
        """
        width = self._session.parameters.width
        counts = [len(rows) for _, _, rows, _ in self._opened]
        numbers = [number for number, _, _, _ in self._opened]
        stages = [stage for _, stage, _, _ in self._opened]
        try:
            with _private(folder / "openings.npz") as file:
                np.savez(
                    file,
                    round=np.repeat(np.array(numbers, "<u4"), counts),
                    stage=np.repeat(np.array(stages, "u1"), counts),
                    row=np.concatenate([NO_ROWS, *(rows for _, _, rows, _ in self._opened)]),
                    z=np.concatenate([np.empty((0, width)), *(z for *_, z in self._opened)]),
                )
            with _private(folder / "model.npz") as file:
                np.savez(file, allow_pickle=False, **self._model.to_arrays())
            with _private(folder / "rows.json") as file:
                file.write(json.dumps(self._cohort.ids).encode())
            with _private(folder / "predictions.json") as file:
                file.write(json.dumps(self._predictions()).encode())
        except OSError as error:
            raise Fault("disk-full", f"{folder} cannot be written: {error.strerror}") from error

    def _predictions(self) -> list[dict[str, object]]:
        return [
            {
                "id": self._cohort.ids[row],
                "row": int(row),
                "label": int(self._labels[row]),
                "score": float(score),
            }
            for row, score in zip(self._held_out[: len(self._scores)], self._scores, strict=True)
        ]

    def summary(self) -> m.RecipientSummary:
        """What was opened, and how well the network does on rows that it never saw."""
        opened = dict.fromkeys(STAGE_CODES.values(), 0)
        for _, stage, rows, _ in self._opened:
            opened[stage] += len(rows)
        return m.RecipientSummary(
            rows=len(self._cohort.ids),
            rounds=len(self._opened),
            rows_trained=len(self._training) if opened[0] else 0,
            rows_evaluated=opened[1],
            numbers_opened=sum(opened.values()) * self._session.parameters.width,
            losses=_thinned(self._losses),
            auc=self._auc(),
            corrected=tuple(sorted(self._opener.corrected)),
            seconds=self._session.seconds,
        )

    def _auc(self) -> float | None:
        labels = self._labels[self._held_out[: len(self._scores)]]
        if not len(labels) or labels.min() == labels.max():
            return None
        return auc(self._scores, labels)


def _thinned(losses: list[float]) -> tuple[float, ...]:
    """At most MAX_LOSSES of them, evenly: a report has a bounded length."""
    step = -(-len(losses) // MAX_LOSSES) or 1
    return tuple(losses[::step])


def _shortened(gradient: Gradient, longest: float) -> Gradient:
    """The gradient with every row at most `longest` long: owners shorten it anyway."""
    lengths = np.linalg.norm(gradient, axis=1, keepdims=True)
    factors = np.minimum(1.0, longest / np.maximum(lengths, np.finfo(np.float32).tiny))
    shortened: Gradient = (gradient * factors).astype("<f4")
    return shortened


def _private(path: Path) -> BinaryIO:
    """`path`, opened for writing bytes, readable by this user alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


if __name__ == "__main__":
    main()
