import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import Fault
from node.folder import Folder, create_folder, instance_lock, open_folder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_private_and_never_taken_from_another_node(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir(mode=0o755)
    folder = create_folder(tmp_path / "node")
    assert mode(folder.path) == 0o700
    folder.keystore.touch()
    with pytest.raises(Fault) as caught:
        create_folder(folder.path)
    assert caught.value.kind == "folder-exists"


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Fault) as caught:
        create_folder(tmp_path / "file" / "node")
    assert caught.value.kind == "folder-unsafe"


def test_private_files_are_whole_or_absent(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_private(file, b"one")
    assert (mode(file), file.read_bytes()) == (0o600, b"one")
    with pytest.raises(FileExistsError):
        write_private(file, b"two")
    write_private(file, b"three", replace=True)
    assert (mode(file), file.read_bytes()) == (0o600, b"three")
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_told_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    write_private(file, b"one")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Fault) as caught:
        write_private(file, b"two", replace=True)
    assert caught.value.kind == "disk-full"
    assert file.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [file]


HOLD = """
import sys
from pathlib import Path
from node.folder import Folder, instance_lock
with instance_lock(Folder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_daemon_is_refused_by_name_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(Fault, match=f"process {other.pid}") as caught,
            instance_lock(Folder(tmp_path)),
        ):
            pass
        assert caught.value.kind == "already-running"
        other.kill()
    with instance_lock(Folder(tmp_path)):
        pass


def test_open_folder_names_every_file_inside(tmp_path: Path) -> None:
    folder = create_folder(tmp_path / "node")
    folder.config_file.touch()
    opened = open_folder(tmp_path / "node")
    names = [name for name in dir(Folder) if isinstance(getattr(Folder, name), property)]
    assert len(names) >= 9
    assert all(getattr(opened, name).parent == opened.path for name in names)
