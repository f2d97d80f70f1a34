"""The pictures of the documentation are those of the tables."""

from pathlib import Path

import pytest

from protocol.machine import Machine
from protocol.negotiation import NEGOTIATION
from protocol.task import SESSION, TASK

PAGE = Path(__file__).parents[2] / "protocol" / "README.md"


@pytest.mark.parametrize("machine", [NEGOTIATION, TASK, SESSION], ids=lambda each: each.name)
def test_the_page_shows_the_table(machine: Machine) -> None:
    text = PAGE.read_text("utf-8")
    shown = text.split(f"<!-- {machine.name} -->\n")[1].split("<!-- end -->")[0]
    assert shown == f"```mermaid\n{machine.draw()}\n```\n"
