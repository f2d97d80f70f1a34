"""The operations that this installation can run, each pinned by the hash of its own code.

A workflow names an operation and the SHA-256 of its files; a node compares it with what it would
run. Operations come with this package, or from installed packages by the entry point group
`northbund.operations`, whose entries name an `Operation`. Nothing is ever downloaded and run.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Final

GROUP: Final = "northbund.operations"


@dataclass(frozen=True, slots=True)
class Operation:
    """A named operation and the files that it declares as its own: `package/…/file.py`."""

    name: str
    files: tuple[str, ...]

    @property
    def code(self) -> bytes:
        """SHA-256 over (path, bytes) of the files in the order of their paths, 32 bytes."""
        return _code(self.files)


# All that a worker process loads of this distribution: what it checks is pinned with what it
# computes. Other distributions are pinned by the lock file, not by the hash.
_COMMON: Final = (
    "mpc/__init__.py",
    "mpc/channels.py",
    "mpc/check_board.py",
    "mpc/checking.py",
    "mpc/committee.py",
    "mpc/field.py",
    "mpc/fixedpoint.py",
    "mpc/intersection.py",
    "mpc/lane.py",
    "mpc/mesh.py",
    "mpc/reaching.py",
    "mpc/rounds.py",
    "mpc/setting.py",
    "mpc/shares.py",
    "mpc/sharing_check.py",
    "mpc/topology.py",
    "mpc/transport.py",
    "mpc/watch.py",
    "node/__init__.py",
    "node/dataset_spec.py",
    "node/errors.py",
    "node/workers/__init__.py",
    "node/workers/alignment.py",
    "node/workers/desk.py",
    "node/workers/messages.py",
    "node/workers/session.py",
    "protocol/__init__.py",
    "protocol/codec.py",
    "protocol/draw.py",
    "protocol/envelope.py",
    "protocol/errors.py",
    "protocol/identifiers.py",
    "protocol/ids.py",
    "protocol/manifest.py",
)
SHARED_FEATURES: Final = Operation(
    "shared-features",
    (
        *_COMMON,
        "mpc/encoder.py",
        "mpc/features.py",
        "mpc/noise.py",
        "mpc/privacy_loss.py",
        "node/datasets.py",
        "node/workers/contributor.py",
    ),
)
COMMITTEE_MEMBER: Final = Operation(
    "committee-member", (*_COMMON, "mpc/programs.py", "node/workers/member.py")
)
TOP_MODEL: Final = Operation("top-model", ("mpc/top_model.py",))
BUILT_IN: Final = (SHARED_FEATURES, COMMITTEE_MEMBER, TOP_MODEL)


def installed(name: str) -> Operation | None:
    """The operation of that name, or None if nothing installed brings it."""
    for operation in BUILT_IN:
        if operation.name == name:
            return operation
    for entry in entry_points(group=GROUP, name=name):
        found = entry.load()
        if isinstance(found, Operation) and found.name == name:
            return found
    return None


@cache
def _code(paths: tuple[str, ...]) -> bytes:
    """Lengths stand before path and bytes, so that no two sets of files hash the same input."""
    hashed = hashlib.sha256()
    for path in sorted(paths):
        package, _, inside = path.partition("/")
        for part in (path.encode(), files(package).joinpath(inside).read_bytes()):
            hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.digest()
