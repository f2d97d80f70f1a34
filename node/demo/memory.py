"""How much memory all processes of the demo take together, sampled by a thread.

The sum of PSS counts a page that several processes share once; RSS would count it for each.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_INTERVAL_S = 0.5


class MemoryMeter:
    """Samples until the block ends; `peak_bytes` is the largest sum that was seen."""

    def __init__(self, processes: Callable[[], list[int]]) -> None:
        """`processes` names what is to be counted now."""
        self._processes = processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self.peak_bytes = 0
        self.processes_at_peak = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The thread has ended."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            family = self._processes()
            total = sum(map(pss_bytes, family))
            if total > self.peak_bytes:
                self.peak_bytes, self.processes_at_peak = total, len(family)


def pss_bytes(pid: int) -> int:
    """The proportional set size of a process; 0 if it has gone or is not ours to look at."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
