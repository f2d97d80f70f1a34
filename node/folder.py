"""The folder of one node: where its files are, who may read them, and that only one daemon runs.

Everything that a node keeps stands in one folder of mode 0700; files with a secret are 0600 and
are born so, never widened and narrowed again.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.errors import Fault

FOLDER_MODE = 0o700
FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Folder:
    """Names the files of one node; `path` is absolute."""

    path: Path

    @property
    def config_file(self) -> Path:
        """northbund.toml, written by an administrator."""
        return self.path / "northbund.toml"

    @property
    def peer_key(self) -> Path:
        """The 32-byte seed of the node's Ed25519 key."""
        return self.path / "peer.key"

    @property
    def keystore(self) -> Path:
        """The encrypted key of the node's chain account."""
        return self.path / "keystore.json"

    @property
    def network_key(self) -> Path:
        """The key of a closed network, where `init --closed` puts it."""
        return self.path / "network.key"

    @property
    def database(self) -> Path:
        """The node's SQLite database."""
        return self.path / "node.sqlite3"

    @property
    def log_file(self) -> Path:
        """The daemon's log, one JSON object in each line."""
        return self.path / "northbund.log"

    @property
    def rpc_cookie(self) -> Path:
        """Address and secret of the running daemon's JSON-RPC, new at each start."""
        return self.path / "rpc.cookie"

    @property
    def rpc_socket(self) -> Path:
        """The running daemon's Unix socket."""
        return self.path / "rpc.sock"

    @property
    def lock_file(self) -> Path:
        """Locked while a daemon runs; holds its process id."""
        return self.path / "lock"

    @property
    def sessions(self) -> Path:
        """Folders of the sessions' worker processes: checkpoints, results, logs."""
        return self.path / "sessions"


def create_folder(path: Path) -> Folder:
    """A folder of mode 0700 that holds no node yet.

    Fault `folder-exists` if a node lives there, `folder-unsafe` if it cannot be made private.
    """
    folder = Folder(path.expanduser().absolute())
    for present in (folder.config_file, folder.peer_key, folder.keystore, folder.network_key):
        if present.exists():
            raise Fault("folder-exists", f"{folder.path} already holds a node: {present.name}")
    try:
        folder.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.path.chmod(FOLDER_MODE)
    except OSError as error:
        raise Fault(
            "folder-unsafe", f"{folder.path} cannot be made private: {error.strerror}"
        ) from None
    return folder


def open_folder(path: Path) -> Folder:
    """The folder of an existing node.

    Fault `config-missing` if there is none, `folder-unsafe` if others can look into it.
    """
    folder = Folder(path.expanduser().absolute())
    try:
        status = folder.path.stat()
    except OSError as error:
        raise Fault(
            "config-missing", f"{folder.path} is no node's folder: {error.strerror}"
        ) from None
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise Fault(
            "folder-unsafe",
            f"{folder.path} has mode {stat.S_IMODE(status.st_mode):04o}, so that other users can"
            " look into it; 0700 would be right",
        )
    if not folder.config_file.exists():
        raise Fault("config-missing", f"{folder.path} holds no {folder.config_file.name}")
    return folder


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """`path` holds exactly `content`, mode 0600, on the disk, or is as it was before.

    FileExistsError if it exists and `replace` is false; Fault `disk-full`.
    """
    target = path.with_name(path.name + ".new") if replace else path
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if replace else os.O_EXCL)
    descriptor = os.open(target, flags, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            target.replace(path)
    except OSError as error:
        target.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise Fault("disk-full", f"{path} could not be written: the disk is full") from None
        raise


@contextmanager
def instance_lock(folder: Folder) -> Iterator[None]:
    """No other daemon runs on `folder` inside this context; Fault `already-running` else.

    The kernel drops the lock with the process, so that a killed daemon leaves nothing to clean.
    The file stays: removing it would let two processes lock two different files of one name.
    """
    descriptor = os.open(folder.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Fault(
                "already-running",
                f"a daemon (process {owner}) already runs on {folder.path}",
                process=owner,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)
