"""What of this node a session touches, in one value."""

from dataclasses import dataclass, field

from node.attestations import Attestations
from node.config import Chain, Config
from node.directory import Directory
from node.engine import Engine
from node.folder import Folder
from node.grants import Grants
from node.judging import Judging
from node.keys import PeerKey
from node.receipts import Receipts
from node.session_jobs import Jobs


@dataclass(frozen=True, slots=True)
class House:
    """The rooms of this node that its sessions, tasks and traces share."""

    engine: Engine
    config: Config
    chain: Chain
    directory: Directory
    folder: Folder
    key: PeerKey
    judging: Judging
    grants: Grants
    attestations: Attestations
    receipts: Receipts
    jobs: Jobs
    row_key: bytes = field(repr=False)
