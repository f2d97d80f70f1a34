"""What a person sees while the demo runs: who does what, who is awaited, how the loss falls.

On a terminal the last lines are alive; elsewhere every line is printed once. Either way the
seconds of each stage are kept.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE_COLUMNS = 60
_BAR_COLUMNS = 40
_TIME_COLUMNS = 8
_NAME_COLUMNS = 11
_PRINTED_STEPS = 5


class Progress:
    """The demo's voice. `seconds` maps each stage that has ended to its duration."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()
        self._title = ""
        self._awaited: tuple[str, ...] = ()
        self._done = self._total = 0
        self._losses: list[float] = []
        self._printed = 0
        self._spinner = Spinner("dots")
        self._live = Live(console=console, get_renderable=self._bottom, refresh_per_second=8)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The terminal is as it was."""
        self._title = ""
        self._live.stop()

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Everything inside belongs to one stage, whose seconds are kept under `name`."""
        self._title, self._awaited = title, ()
        self.console.print(Text(title, style="bold"))
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 3)
        self._title, self._total = "", 0

    def say(self, who: str, what: str) -> None:
        """What `who` did, and when; where it does not fit into one line, the next is indented."""
        line = Table.grid(padding=(0, 1))
        line.add_column(width=_TIME_COLUMNS, justify="right", style="dim", no_wrap=True)
        line.add_column(width=_NAME_COLUMNS, style="cyan", no_wrap=True)
        line.add_column()
        seconds = f"{time.monotonic() - self._started:.1f} s"
        line.add_row(Text(seconds), Text(who), Text(what))
        self.console.print(line)

    def await_(self, names: Sequence[str]) -> None:
        """Who is awaited from now on; nobody where it is empty."""
        self._awaited = tuple(names)

    def train(self, done: int, total: int, losses: Sequence[float]) -> None:
        """How far the rounds are, and the mean loss of each so far."""
        self._done, self._total, self._losses = done, total, list(losses)
        if self.console.is_terminal or not total or not losses:
            return
        if done * _PRINTED_STEPS // total > self._printed:
            self._printed = done * _PRINTED_STEPS // total
            self.say("committee", f"round {done} of {total}, loss {mean_of_last(losses):.3f}")

    def _bottom(self) -> RenderableType:
        if not self._title:
            return Text("")
        grid = Table.grid(padding=(0, 1))
        waits = f"  waiting for {', '.join(self._awaited)}" if self._awaited else ""
        seconds = f"  {time.monotonic() - self._started:.0f} s"
        grid.add_row(self._spinner, Text(self._title, style="bold").append(waits + seconds, "dim"))
        if not self._total:
            return grid
        rows = Table.grid(padding=(0, 1))
        rows.add_row("rounds", ProgressBar(self._total, self._done, width=_BAR_COLUMNS))
        if self._losses:
            rows.add_row("loss", f"{curve(self._losses)} {mean_of_last(self._losses):.3f}")
        return Group(grid, rows)


def curve(losses: Sequence[float]) -> str:
    """The losses as a line of blocks, each the mean of its share of the rounds."""
    columns = min(_CURVE_COLUMNS, len(losses))
    means = []
    for place in range(columns):
        part = losses[place * len(losses) // columns : (place + 1) * len(losses) // columns]
        means.append(sum(part) / len(part))
    low, high = min(means), max(means)
    span = high - low or 1.0
    return "".join(_BLOCKS[int((value - low) / span * (len(_BLOCKS) - 1))] for value in means)


def mean_of_last(losses: Sequence[float], count: int = 16) -> float:
    """The mean of the last losses: one mini-batch alone says little."""
    last = losses[-count:]
    return sum(last) / len(last)
