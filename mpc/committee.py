"""The committee of one session: who holds which point, and what its answers can show.

Model: m members, of whom at most t pool what they see, 2t < m. Member number x, from 1 in the
roster's order, holds the value of every sharing polynomial at x.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MIN_MEMBERS: Final = 3


@dataclass(frozen=True, slots=True)
class Committee:
    """Members in the order of their points, and the threshold t.

    ValueError unless m >= 3, t >= 1, 2t < m and no name stands twice.
    """

    members: tuple[str, ...]
    threshold: int

    def __post_init__(self) -> None:
        m, t = len(self.members), self.threshold
        if len(set(self.members)) != m:
            raise ValueError("a committee names a member twice")
        if m < MIN_MEMBERS or t < 1 or 2 * t >= m:
            raise ValueError(f"a committee needs m >= 3, t >= 1 and 2t < m, not m = {m}, t = {t}")

    @property
    def points(self) -> tuple[int, ...]:
        """The points of all members, 1 to m."""
        return tuple(range(1, len(self.members) + 1))

    @property
    def detectable(self) -> int:
        """How many wrong answers are noticed when all answer: m - t - 1."""
        return len(self.members) - self.threshold - 1

    @property
    def correctable(self) -> int:
        """How many wrong answers are named and left out when all answer."""
        return self.detectable // 2

    @property
    def keyed(self) -> tuple[str, ...]:
        """The members that get the keys of their shares instead of the shares: the first t."""
        return self.members[: self.threshold]

    def named(self, points: Iterable[int]) -> tuple[str, ...]:
        """The members at these points."""
        return tuple(self.members[point - 1] for point in points)
