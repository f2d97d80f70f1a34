import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from node.demo.memory import MemoryMeter, pss_bytes
from node.demo.processes import Processes, Started, end_recorded, running_demo, start_ticks

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
PARENT = """
import sys, time
from pathlib import Path
from node.demo.processes import Processes
processes = Processes(Path(sys.argv[1]), keep=sys.argv[2] == "keep")
child = processes.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"],
    Path(sys.argv[1]).with_suffix(".log"), {})
print(child.pid, flush=True)
time.sleep(600)
"""


def until(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.01)


def parent(record: Path, how: str) -> tuple[subprocess.Popen[str], Started]:
    """A demo in a process of its own, and its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(record), how], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.stdout.close()
    return process, Started(pid, start_ticks(pid) or 0, "sleeper")


def test_stop_ends_children_and_what_they_started(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "processes.json", keep=False)
    nested = "import subprocess, sys, time; subprocess.Popen({0!r}); time.sleep(600)"
    command = [sys.executable, "-c", nested.format(SLEEPER)]
    child = processes.start("outer", command, tmp_path / "log", {})
    until(lambda: sum(1 for pid in processes.note_descendants() if pid != os.getpid()) >= 2)
    family = [pid for pid in processes.note_descendants() if pid != os.getpid()]
    processes.stop()
    assert child.returncode is not None
    assert not any(start_ticks(pid) for pid in family)
    assert not (tmp_path / "processes.json").exists()


def test_a_killed_demo_takes_its_children_along(tmp_path: Path) -> None:
    process, child = parent(tmp_path / "processes.json", "die")
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not child.alive())
    assert not running_demo(tmp_path / "processes.json")


def test_clean_ends_what_was_kept_and_only_that(tmp_path: Path) -> None:
    record = tmp_path / "processes.json"
    process, child = parent(record, "keep")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert child.alive()
    assert running_demo(record)
    with subprocess.Popen(SLEEPER) as stranger:
        wrong = f'[{{"pid": {stranger.pid}, "start_ticks": 1, "what": "somebody else"}},'
        record.write_text(record.read_text().replace("[", wrong, 1))
        assert end_recorded(record) == ["sleeper"]
        assert stranger.poll() is None
        stranger.kill()
    assert not child.alive()
    assert end_recorded(record) == []


def test_memory_is_counted_over_all_processes() -> None:
    seen: list[int] = []

    def family() -> list[int]:
        seen.append(os.getpid())
        return [os.getpid()]

    with MemoryMeter(family) as meter:
        until(lambda: len(seen) > 1)
    assert meter.peak_bytes > 10_000_000
    assert meter.processes_at_peak == 1
    assert pss_bytes(2**22 - 1) == 0
