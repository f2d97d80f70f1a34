"""The tables: who may follow whom, every state reachable, every end an end."""

from enum import StrEnum
from typing import Any

import pytest

from protocol.errors import RemoteProtocolError
from protocol.machine import Machine
from protocol.negotiation import NEGOTIATION
from protocol.negotiation import Event as NegotiationEvent
from protocol.negotiation import State as NegotiationState
from protocol.task import SESSION, TASK, SessionEvent, SessionState, TaskEvent, TaskState

MACHINES: list[tuple[Machine[Any, Any], type[StrEnum], type[StrEnum], set[str]]] = [
    (NEGOTIATION, NegotiationState, NegotiationEvent, {"FINALIZED", "TERMINATED"}),
    (TASK, TaskState, TaskEvent, {"SETTLED", "REFUNDED", "CANCELLED"}),
    (SESSION, SessionState, SessionEvent, {"COMPLETED", "ABORTED"}),
]


@pytest.mark.parametrize(("machine", "states", "events", "ends"), MACHINES)
def test_every_state_is_reached_and_only_the_ends_end(
    machine: Machine[Any, Any], states: type[StrEnum], events: type[StrEnum], ends: set[str]
) -> None:
    reached = {machine.initial}
    while more := {
        end for (start, _), end in machine.table.items() if start in reached and end not in reached
    }:
        reached |= more
    assert reached == set(states)
    assert {state for state in states if machine.is_final(state)} == ends
    assert {event for _, event in machine.table} == set(events)


@pytest.mark.parametrize(("machine", "states", "events", "ends"), MACHINES)
def test_what_the_table_does_not_name_changes_nothing(
    machine: Machine[Any, Any], states: type[StrEnum], events: type[StrEnum], ends: set[str]
) -> None:
    for state in states:
        for event in events:
            if machine.allows(state, event):
                assert machine.step(state, event) == machine.table[state, event]
            else:
                with pytest.raises(RemoteProtocolError, match=str(state)):
                    machine.step(state, event)


def test_nothing_runs_before_both_parts_of_the_manifest_are_signed() -> None:
    before_running = {start for (start, event) in SESSION.table if event is SessionEvent.RUN}
    assert before_running == {SessionState.ROWS_SIGNED}
    before_rows = {start for (start, event) in SESSION.table if event is SessionEvent.SIGN_ROWS}
    assert before_rows == {SessionState.ALIGNED}


def test_the_picture_shows_every_row() -> None:
    drawn = NEGOTIATION.draw()
    for (start, event), end in NEGOTIATION.table.items():
        assert f"{start} --> {end}: {event}" in drawn
