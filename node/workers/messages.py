"""What a daemon says to its worker processes and hears from them, framed on stdin and stdout.

    daemon  Start      -> worker  Ready        a fresh certificate, session key and port
            Proceed    ->         Sized        contributors and the recipient; members say nothing
            Mask       ->         Aligned      as soon as the tested ids have been counted
            Run        ->         Progress*    and then Finished
                                  Failed       at any moment, instead of everything that follows

The daemon holds no row and no share: what a report carries are sizes, digests, keyed row names
for the owner's own ledger, and figures that the owner may see of its own part.
"""

from typing import Annotated, Literal

import msgspec

from node.dataset_spec import DatasetSpec
from protocol.codec import U31, U53, Bytes32, SmallBytes, Text, Wire

REPORT_LIMIT_BYTES = 1 << 28
"""Row names of a cohort of ten million fit."""

Folder = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Stage = Literal["start", "connect", "align", "train", "evaluate", "close"]
OpeningStage = Literal["train", "evaluate"]


class Start(Wire, frozen=True, tag="start"):
    """The first message: the worker makes its keys and listens on `listen_host`.

    On one of the ports from `ports[0]` to `ports[1]`, or any free one if they are 0.
    """

    listen_host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    ports: tuple[Port, Port] = (0, 0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Ready(Wire, frozen=True, tag="ready"):
    """The worker's TLS certificate (DER), the Ed25519 key of its session, and where it listens."""

    certificate: SmallBytes
    session_key: Bytes32
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class OwnerLimits(Wire, frozen=True, tag="owner-limits"):
    """The owner's own floors, which its worker enforces whatever the roster says.

    `noise_floor` is relative to the standard deviation of a column of Z_i (0 where the owner's
    terms accept the leakage), `numbers_cap` the most numbers that may be opened about a row in
    this session, `batch_floor` the fewest rows of a mini-batch, `cohort_floor` the fewest common
    rows, `gradient_clip` the longest gradient of a row that is applied.
    """

    noise_floor: Annotated[float, msgspec.Meta(ge=0)] = 0.3
    numbers_cap: Annotated[int, msgspec.Meta(ge=1)] = 8
    batch_floor: Annotated[int, msgspec.Meta(ge=1)] = 16
    cohort_floor: Annotated[int, msgspec.Meta(ge=1)] = 100
    gradient_clip: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class ContributorJob(Wire, frozen=True, tag="contributor-job"):
    """An owner's part. `row_key` names rows for the ledger (HMAC-SHA256, 16 bytes kept);
    `folder` is where `checkpoint.bin` (W and encoder) is written at the end."""

    dataset: DatasetSpec
    row_key: Bytes32
    folder: Folder
    limits: OwnerLimits = OwnerLimits()


class MemberJob(Wire, frozen=True, tag="member-job"):
    """A member's part: it needs nothing of its own."""


class RecipientJob(Wire, frozen=True, tag="recipient-job"):
    """The recipient's part.

    `folder` receives `openings.npz`, `rows.json`, `model.npz` and `predictions.json`; `seed`
    settles the split into training and held-out rows, the order of mini-batches and the network's
    first weights.
    """

    dataset: DatasetSpec
    folder: Folder
    seed: U53


class Proceed(Wire, frozen=True, tag="proceed"):
    """The roster that all nodes have signed (its canonical bytes), and this worker's part in it.

    `entrance` is the path of the daemon's Unix socket for tunnels; empty if there is none.
    """

    roster: bytes
    me: Text
    job: ContributorJob | MemberJob | RecipientJob
    entrance: Annotated[str, msgspec.Meta(max_length=4096)] = ""


class BroughtIds(Wire, frozen=True, tag="brought-ids"):
    """How many ids one party has said that it brings to the alignment."""

    party: Text
    ids: U31


class Sized(Wire, frozen=True, tag="sized"):
    """What each party brings, this worker's own list too; nothing is masked before the answer."""

    brought: tuple[BroughtIds, ...]


class Mask(Wire, frozen=True, tag="mask"):
    """The tests of ids are counted, durably: masked points may leave this worker."""


class Aligned(Wire, frozen=True, tag="aligned"):
    """The common rows. `row_keys` is 16 bytes for each in the common order, at owners alone."""

    rows_hash: Bytes32
    rows: U53
    row_keys: bytes


class Run(Wire, frozen=True, tag="run"):
    """The row set that all nodes have signed (its canonical bytes); shares may flow."""

    row_set: bytes


class Progress(Wire, frozen=True, tag="progress"):
    """How far a stage is; `loss` is the recipient's alone, `awaited` whom this worker waits for."""

    stage: Stage
    done: U53
    total: U53
    loss: float | None = None
    awaited: tuple[Text, ...] = ()


class ContributorSummary(Wire, frozen=True, tag="contributor-summary"):
    """What an owner gave, in figures that concern its own rows alone.

    `numbers_per_row` is the most that was opened about one row; `noise` the standard deviations
    of its noise at the last opening; `mu` and `epsilon` (at `delta`) bound what all openings tell
    of one replaced row, infinite where there was no noise.
    """

    rows: U53
    rounds: U53
    numbers_opened: U53
    numbers_per_row: U53
    rows_trained: U53
    rows_evaluated: U53
    noise: tuple[float, ...]
    mu: float
    epsilon: float
    delta: float
    clipped_values: U53
    clipped_gradients: U53
    checkpoint: Text
    seconds: float


class MemberSummary(Wire, frozen=True, tag="member-summary"):
    """What a member added up, and with which engine."""

    rounds: U53
    numbers: U53
    engines: tuple[Text, ...]
    seconds: float


class RecipientSummary(Wire, frozen=True, tag="recipient-summary"):
    """What the recipient opened and what its network makes of it.

    `losses` are the mean losses of mini-batches in order, thinned evenly where there are many.
    `auc` is that of the held-out rows, or None where none were held out or one label alone was
    among them. `corrected` names members whose answers were wrong and could be left out.
    """

    rows: U53
    rounds: U53
    rows_trained: U53
    rows_evaluated: U53
    numbers_opened: U53
    losses: tuple[float, ...]
    auc: float | None
    corrected: tuple[Text, ...]
    seconds: float


class Finished(Wire, frozen=True, tag="finished"):
    """The worker's part is done; it leaves with exit code 0."""

    summary: ContributorSummary | MemberSummary | RecipientSummary


class Failed(Wire, frozen=True, tag="failed"):
    """The session ended here. `blamed` are party names: empty if the cause is this worker's own
    (its dataset, its disk), a pair where nobody can tell which of two; exit code 3."""

    stage: Stage
    reason: Text
    blamed: tuple[Text, ...]
    kind: Text = "session-failed"


FROM_WORKER = (Ready, Sized, Aligned, Progress, Finished, Failed)
"""All reports of a session worker: what `supervisor.open_worker` is told to expect."""
