"""Operations: their code is what their worker really loads, and a changed byte changes the hash."""

import subprocess
import sys
from pathlib import Path

import pytest

from mpc import operations
from mpc.operations import COMMITTEE_MEMBER, SHARED_FEATURES, Operation

LOADED = """
import sys, {module}
ours = {{"chain", "mpc", "node", "protocol"}}
print(*(m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] in ours))
"""
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("operation", "module"),
    [
        (SHARED_FEATURES, "node.workers.contributor"),
        (COMMITTEE_MEMBER, "node.workers.member"),
    ],
)
def test_an_operation_declares_every_file_that_its_worker_loads(
    operation: Operation, module: str
) -> None:
    command = [sys.executable, "-P", "-c", LOADED.format(module=module)]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert {str(Path(file).relative_to(ROOT)) for file in loaded} == set(operation.files)


def test_one_changed_byte_is_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pinned_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    operation = Operation("pinned", ("pinned_package/a.py",))
    before = operation.code
    (package / "a.py").write_text("x = 2\n")
    operations._code.cache_clear()
    assert operation.code != before


def test_nothing_but_installed_operations_is_known() -> None:
    assert operations.installed("shared-features") is SHARED_FEATURES
    assert operations.installed("anything-else") is None
