"""`make fuzz` itself: nothing is left out of its groups, and what it finds it says."""

import importlib.util

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz import groups
from tests.fuzz.targets import targets


def test_the_groups_hold_every_target_and_stand_their_seeds() -> None:
    found = [groups.decoders(name) for name in groups.DECODERS]
    assert sorted(name for group in found for name in group.names) == sorted(targets())
    for group in found:
        assert len(group.names) < 256
        for seed in group.seeds:
            group.run(seed)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="no atheris here")
@pytest.mark.parametrize("name", groups.GROUPS)
def test_a_few_seconds_find_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(name, 3), capsys.readouterr().out
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="no atheris here")
def test_a_failure_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert not command.run("no-such-group", 1)
    assert "FAILED" in capsys.readouterr().out
