"""An owner's worker: its rows stay in this process; what leaves it are shares of noisy features."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mpc import topology
from mpc.encoder import ColumnError, Encoder
from mpc.features import OwnFeatures
from mpc.field import Elements
from mpc.fixedpoint import Grid, NotANumberError
from mpc.lane import ShareSender
from mpc.noise import NoiseError, NoiseSource
from mpc.privacy_loss import DELTA, PrivacyLoss, epsilon
from mpc.rounds import Admitted, GateRules, OwnerGate, Rows, chunk_rows, largest_order
from mpc.setting import PATIENCE_S
from mpc.watch import SessionError
from node.datasets import Dataset, load
from node.errors import Fault
from node.workers import messages as m
from node.workers.alignment import align
from node.workers.session import Session, serve
from protocol.errors import RemoteProtocolError
from protocol.identifiers import row_keys
from protocol.manifest import Parameters

CHECKPOINT = "checkpoint.bin"


def main() -> None:
    """Entry point of the worker process."""
    serve("contributor", play)


def play(session: Session, proceed: m.Proceed) -> m.ContributorSummary:
    """The owner's part of one session."""
    job = proceed.job
    if not isinstance(job, m.ContributorJob):
        raise RemoteProtocolError("a contributor needs a contributor's job")
    check_plan(session.parameters, job.limits)
    dataset = load(job.dataset)
    floor = max(session.roster.cohort_floor, job.limits.cohort_floor)
    aligned = align(session, dataset.ids, floor)
    cohort = dataset.at(aligned.rows)
    keys = row_keys(job.row_key, cohort.ids)
    session.desk.report(m.Aligned(rows_hash=aligned.rows_hash, rows=len(cohort.ids), row_keys=keys))
    row_set, manifest = session.agreed_rows(aligned.rows_hash, len(cohort.ids))
    owner = Owner(session, job, dataset, cohort, manifest)
    owner.answer_all()
    path = Path(job.folder) / CHECKPOINT
    _write_privately(path, owner.features.checkpoint(row_set.lineage, owner.encoder))
    return owner.summary(str(path))


def check_plan(parameters: Parameters, limits: m.OwnerLimits) -> None:
    """SessionError if the roster's plan breaks one of this owner's own limits."""
    if parameters.noise < limits.noise_floor:
        raise SessionError(
            f"noise {parameters.noise:g} is below this owner's floor {limits.noise_floor:g}"
        )
    if parameters.numbers_per_row > limits.numbers_cap:
        raise SessionError(
            f"{parameters.numbers_per_row} numbers would be opened about a row, "
            f"at most {limits.numbers_cap} may be"
        )
    if parameters.batch_rows < limits.batch_floor:
        raise SessionError(
            f"mini-batches of {parameters.batch_rows} rows, "
            f"at least {limits.batch_floor} are needed"
        )


class Owner:
    """W_i, its gate and its noise, for the rounds of one session."""

    def __init__(
        self,
        session: Session,
        job: m.ContributorJob,
        dataset: Dataset,
        cohort: Dataset,
        manifest: bytes,
    ) -> None:
        parameters = session.parameters
        self._session, self._limits = session, job.limits
        try:
            self.encoder = Encoder.fit(dataset.columns)
        except ColumnError as error:
            raise Fault("dataset-empty", str(error), dataset=job.dataset.name) from error
        gradient_clip = min(parameters.gradient_clip, job.limits.gradient_clip)
        self.features = OwnFeatures(
            self.encoder.transform(cohort.columns),
            parameters.width,
            clip=parameters.clip,
            gradient_clip=gradient_clip,
            learning_rate=parameters.learning_rate,
        )
        rows = len(cohort.ids)
        self._gate = OwnerGate(
            GateRules(
                manifest=manifest,
                attempt=session.roster.attempt,
                recipient_key=session.recipient_key,
                cohort_rows=rows,
                width=parameters.width,
                epochs=parameters.training_openings,
                batch_floor=max(16, job.limits.batch_floor),
                numbers_cap=job.limits.numbers_cap,
            )
        )
        self._loss = PrivacyLoss(rows, parameters.learning_rate, gradient_clip)
        self._grid: Grid = session.grid
        self._noise = NoiseSource()
        self._noise_sd = np.zeros(parameters.width)
        self._rows, self._rounds = rows, 0
        setting = session.setting(manifest)
        setting.begin()
        self._sender = ShareSender(setting)

    def answer_all(self) -> None:
        """Answer every round that the gate admits, until the closing one.

        SessionError naming the recipient if a round breaks a rule; nothing is sent for it.
        """
        session = self._session
        orders = session.mesh.of(session.recipient, topology.ORDERS)
        # The recipient's daemon may collect signatures for as long as an alignment may take.
        wait_s = float(session.roster.alignment_deadline_s)
        limit = largest_order(self._rows, session.parameters.width)
        while True:
            order = orders.receive(wait_s, limit=limit, what="the next round")
            wait_s = session.round_deadline_s + 2 * PATIENCE_S
            try:
                admitted = self._gate.admit(order)
            except RemoteProtocolError as error:
                reason = f"{session.me} refuses a round of {session.recipient}: {error}"
                raise SessionError(reason, (session.recipient,)) from error
            if admitted.header.check:
                self._sender.prove()
                continue
            session.stage = admitted.header.stage
            if admitted.gradient is not None:
                self.features.update(admitted.answered, admitted.gradient)
                self._loss.updated(admitted.answered)
            if admitted.header.stage == "close":
                return
            self._answer(admitted)

    def _answer(self, admitted: Admitted) -> None:
        parameters = self._session.parameters
        self._noise_sd = parameters.noise * self.features.column_sd()
        self._loss.opened(admitted.rows, self.features.weights, self._noise_sd)
        try:
            self._sender.send(admitted, self._chunks(admitted.rows))
        except NotANumberError as error:
            raise SessionError(f"{self._session.me} has a feature that is no number") from error
        except NoiseError as error:
            # Bounded rows under bounded gradients grow so far only by the plan's learning rate.
            recipient = self._session.recipient
            reason = f"the plan of {recipient} made the features too large: {error}"
            raise SessionError(reason, (recipient,)) from error
        self._rounds += 1
        self._session.progress(self._session.stage, self._rounds, self._rounds)

    def _chunks(self, rows: Rows) -> Iterator[Elements]:
        parameters = self._session.parameters
        step = chunk_rows(parameters.width)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            steps, _ = self._grid.quantise(self.features.forward(some))
            noise = None
            if parameters.noise > 0:
                noise = self._noise.skellam(len(some), self._noise_sd * self._grid.scale)
            yield self._grid.elements(steps, noise)

    def summary(self, checkpoint: str) -> m.ContributorSummary:
        """What was given in all."""
        mu = self._loss.mu()
        return m.ContributorSummary(
            rows=self._rows,
            rounds=self._rounds,
            numbers_opened=self._gate.numbers_opened,
            numbers_per_row=self._gate.numbers_per_row,
            rows_trained=self._gate.rows_trained,
            rows_evaluated=self._gate.rows_evaluated,
            noise=tuple(self._noise_sd.tolist()),
            mu=mu,
            epsilon=epsilon(mu),
            delta=DELTA,
            clipped_values=self.features.clipped_values,
            clipped_gradients=self.features.clipped_gradients,
            checkpoint=checkpoint,
            seconds=self._session.seconds,
        )


def _write_privately(path: Path, data: bytes) -> None:
    """Write `data` to `path` with mode 0600, whole or not at all."""
    partial = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Fault("disk-full", f"{path} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    main()
