"""A state machine as one table: (state, event) -> state. Nothing else decides what may follow.

An event that the table does not name for a state changes nothing; it raises. The pictures in the
documentation are drawn from the tables by `draw`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from protocol.errors import RemoteProtocolError

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Machine(Generic[S, E]):
    """A named table of transitions with its initial state."""

    name: str
    initial: S
    table: Mapping[tuple[S, E], S]

    def step(self, state: S, event: E) -> S:
        """The state after `event`; RemoteProtocolError if the table has no such row."""
        try:
            return self.table[state, event]
        except KeyError:
            raise RemoteProtocolError(
                f"{self.name}: {event} cannot happen in state {state}"
            ) from None

    def allows(self, state: S, event: E) -> bool:
        """True if the table has a row for `event` in `state`."""
        return (state, event) in self.table

    def is_final(self, state: S) -> bool:
        """True if nothing can follow `state`."""
        return all(start != state for start, _ in self.table)

    def draw(self) -> str:
        """The table as a Mermaid state diagram."""
        rows = [f"    [*] --> {self.initial}"]
        rows += [f"    {start} --> {end}: {event}" for (start, event), end in self.table.items()]
        states = list(dict.fromkeys(self.table.values()))
        rows += [f"    {state} --> [*]" for state in states if self.is_final(state)]
        return "\n".join(["stateDiagram-v2", *rows])
