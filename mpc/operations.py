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
    """A named operation and the files that it declares as its own, within one package."""

    name: str
    package: str
    files: tuple[str, ...]

    @property
    def code(self) -> bytes:
        """SHA-256 over (path, bytes) of the files in the order of their paths, 32 bytes."""
        return _code(self.package, self.files)


_COMMON: Final = (
    "channels.py",
    "committee.py",
    "field.py",
    "fixedpoint.py",
    "intersection.py",
    "lane.py",
    "mesh.py",
    "rounds.py",
    "shares.py",
    "topology.py",
    "transport.py",
    "watch.py",
)
SHARED_FEATURES: Final = Operation(
    "shared-features", "mpc", (*_COMMON, "encoder.py", "features.py", "noise.py", "privacy_loss.py")
)
COMMITTEE_MEMBER: Final = Operation("committee-member", "mpc", (*_COMMON, "programs.py"))
TOP_MODEL: Final = Operation("top-model", "mpc", ("top_model.py",))
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
def _code(package: str, names: tuple[str, ...]) -> bytes:
    """Lengths stand before path and bytes, so that no two sets of files hash the same input."""
    root = files(package)
    hashed = hashlib.sha256()
    for name in sorted(names):
        for part in (f"{package}/{name}".encode(), (root / name).read_bytes()):
            hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.digest()
