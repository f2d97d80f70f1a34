"""What each worker of a session is told of this node's own: its rows, its limits, its folder."""

from math import ceil
from pathlib import Path

from node import plans
from node.config import Config, Dataset
from node.dataset_spec import ColumnSpec, DatasetSpec
from node.directory import Directory
from node.errors import Fault
from node.folder import Folder
from node.judging import Judging
from node.live_session import LiveSession
from node.workers.messages import ContributorJob, MemberJob, OwnerLimits, RecipientJob
from protocol import privacy, terms
from protocol.identifiers import IdentifierRule
from protocol.manifest import Role


def folder_of(folder: Folder, session: bytes) -> Path:
    """Where one session's files are."""
    return folder.sessions / session.hex()  # whole: the proposer chooses the id


def session_folder(folder: Folder, session: bytes) -> Path:
    """The folder of one session's files here; it exists afterwards, for this user alone."""
    path = folder_of(folder, session)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def spec_of(dataset: Dataset, id_rule: IdentifierRule | None = None) -> DatasetSpec:
    """The dataset of the configuration as workers are told of it.

    `id_rule` is that of a session; left out, the dataset's own.
    """
    return DatasetSpec(
        name=dataset.name,
        path=str(dataset.path),
        id_column=dataset.id_column,
        id_rule=id_rule or dataset.id_rule,
        columns=tuple(ColumnSpec(name=each.name, kind=each.kind) for each in dataset.features),
        label=dataset.label,
    )


class Jobs:
    """Makes the jobs of this node's workers."""

    def __init__(
        self, config: Config, directory: Directory, folder: Folder, judging: Judging, row_key: bytes
    ) -> None:
        self._config = config
        self._directory = directory
        self._folder = folder
        self._judging = judging
        self._row_key = row_key

    def job(self, live: LiveSession, role: Role) -> ContributorJob | MemberJob | RecipientJob:
        """The job of this node's worker in `role`; Fault if the configuration does not give it."""
        match role:
            case "contributor":
                return self._contributor(live)
            case "recipient":
                return self._recipient(live)
            case "member":
                return MemberJob()

    def _contributor(self, live: LiveSession) -> ContributorJob:
        if live.roster is None:
            raise Fault("session-refused", "there is no roster that a job could be for")
        leaf = plans.own_data_leaf(live.plan, self._directory.own.account)
        dataset = self._config.dataset(self._judging.dataset_of(leaf))
        given = self._judging.given(leaf, live.roster.algorithm)
        noise = max(terms.least(given, terms.NOISE), privacy.NOISE_FLOOR)
        rows = max(terms.least(given, terms.COHORT_SIZE), privacy.MIN_COHORT_ROWS)
        limits = OwnerLimits(
            noise_floor=0.0 if given.leakage == "accept" else noise,
            # Exactly what the ledger reserves for this session, not what the terms would allow.
            numbers_cap=min(live.roster.parameters.numbers_per_row, privacy.numbers_cap(given)),
            cohort_floor=ceil(rows),
        )
        return ContributorJob(
            dataset=spec_of(dataset, live.roster.parameters.id_rule),
            row_key=self._row_key,
            folder=str(session_folder(self._folder, live.session)),
            limits=limits,
        )

    def _recipient(self, live: LiveSession) -> RecipientJob:
        rule = live.roster.parameters.id_rule if live.roster else None
        labelled = [dataset for dataset in self._config.datasets if dataset.label]
        if len(labelled) != 1:
            raise Fault(
                "dataset-unknown",
                f"northbund.toml has {len(labelled)} datasets with a label; "
                "the recipient needs exactly one",
            )
        return RecipientJob(
            dataset=spec_of(labelled[0], rule),
            folder=str(session_folder(self._folder, live.session)),
            seed=live.seed,
        )
