"""The demo's processes: started so that they die with it, written down so that they can be ended.

Three ends must all leave nothing behind. An orderly end and Ctrl-C go through `Processes.stop`. A
`kill -9` of the demo reaches its children as SIGTERM through PR_SET_PDEATHSIG, unless the network
was to stay (`--keep`). And what is left then is ended by `end_recorded`, which trusts a process id
only together with the start time that was written down for it.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from node.errors import Fault

STOP_GRACE_S = 5.0
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_START_TIME_FIELD = 19  # of /proc/PID/stat, counted from the process's state
_PARENT_FIELD = 1


@dataclass(frozen=True, slots=True)
class Started:
    """A process that is certainly ours: its start time in clock ticks since boot tells it apart."""

    pid: int
    start_ticks: int
    what: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return start_ticks(self.pid) == self.start_ticks


class Processes:
    """Everything that one demo has started, recorded in `record` before anything else is done."""

    def __init__(self, record: Path, *, keep: bool) -> None:
        self._record = record
        self._keep = keep
        self._children: list[tuple[subprocess.Popen[bytes], Started]] = []
        self._known: dict[int, Started] = {}
        self._noting = threading.Lock()  # the meter of memory notes what it sees, too
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.note(os.getpid(), "demo")

    def start(
        self, what: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """A process whose output is appended to `log`; to be called from the main thread alone.

        The kernel ties PDEATHSIG to the thread that started the child, so a thread that ends would
        take its children along.
        """
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C reaches the demo, which then stops its children
                preexec_fn=None if self._keep else self._die_with_parent(),  # noqa: PLW1509
            )
        self._children.append((child, self.note(child.pid, what)))
        return child

    def note(self, pid: int, what: str) -> Started:
        """Writes down a process of the demo; the same one twice changes nothing."""
        started = Started(pid, start_ticks(pid) or 0, what)
        with self._noting:
            if self._known.get(pid) != started:
                self._known[pid] = started
                lines = json.dumps([asdict(each) for each in self._known.values()], indent=1)
                partial = self._record.with_suffix(".partial")
                partial.write_text(lines)
                partial.replace(self._record)
        return started

    def note_descendants(self) -> list[int]:
        """Every process under the demo that runs now, itself included; all are written down."""
        family = descendants(os.getpid())
        for pid in family:
            if pid not in self._known:
                self.note(pid, "of " + _what(self._known, pid))
        return family

    def stop(self) -> None:
        """Afterwards no child and no descendant runs: each is asked, and killed if it stays.

        All but the first at once, then the first: the chain goes last, so that no daemon ends in
        complaints about it.
        """
        self.note_descendants()
        for some in (self._children[1:], self._children[:1]):
            for child, _ in some:
                if child.poll() is None:
                    child.terminate()
            _wait_until(lambda some=some: all(child.poll() is not None for child, _ in some))  # type: ignore[misc]
        for child, _ in self._children:
            if child.poll() is None:
                child.kill()
                child.wait()
        end([each for each in self._known.values() if each.pid != os.getpid()])
        self._record.unlink(missing_ok=True)

    def _die_with_parent(self) -> Callable[[], None]:
        prctl = self._libc.prctl  # looked up before the fork: afterwards only the call is safe
        parent = os.getpid()

        def set_signal() -> None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        return set_signal


def end_recorded(record: Path) -> list[str]:
    """Ends exactly the processes that `record` names, and their descendants; what they were.

    Fault `demo-failed` if the record cannot be read.
    """
    if not record.exists():
        return []
    try:
        recorded = [Started(**entry) for entry in json.loads(record.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise Fault("demo-failed", f"{record} cannot be read: {error}") from None
    ended = [each for each in recorded if each.pid != os.getpid() and each.alive()]
    below = [pid for each in ended for pid in descendants(each.pid)]
    end([*ended, *(Started(pid, start_ticks(pid) or 0, "descendant") for pid in below)])
    record.unlink(missing_ok=True)
    return [each.what for each in ended]


def running_demo(record: Path) -> bool:
    """Whether a demo that wrote `record`, or the network that it left behind, still runs."""
    try:
        recorded = [Started(**entry) for entry in json.loads(record.read_bytes())]
    except (OSError, ValueError, TypeError):
        return False
    return any(each.alive() for each in recorded)


def end(processes: Iterable[Started]) -> None:
    """SIGTERM to each that is alive, SIGKILL to what is still there after STOP_GRACE_S."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        left = [each for each in processes if each.alive()]
        for each in left:
            _signal(each, sent)
        _wait_until(lambda left=left: not any(each.alive() for each in left))  # type: ignore[misc]


def descendants(root: int) -> list[int]:
    """`root` and every process below it, by the parents that /proc names now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[_PARENT_FIELD]), []).append(int(entry.name))
    family = [root]
    for pid in family:
        family += children.get(pid, [])
    return family


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if it does not run."""
    fields = _stat(pid)
    return int(fields[_START_TIME_FIELD]) if fields and fields[0] != "Z" else None


def northbund(*arguments: str) -> list[str]:
    """The command line of our own commands under this very interpreter."""
    return [sys.executable, "-P", "-c", "from node.cli import main; main()", *arguments]


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _what(known: Mapping[int, Started], pid: int) -> str:
    fields = _stat(pid)
    parent = known.get(int(fields[_PARENT_FIELD])) if fields else None
    return parent.what if parent else "the demo"


def _signal(process: Started, sent: signal.Signals) -> None:
    try:
        os.kill(process.pid, sent)
    except ProcessLookupError:
        return  # it ended in between


def _wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + STOP_GRACE_S
    while not done() and time.monotonic() < until:
        time.sleep(_POLL_S)
