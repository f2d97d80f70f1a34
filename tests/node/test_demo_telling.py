import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from node.demo import network
from node.demo.closing_tables import names
from node.demo.progress import Progress, curve, mean_of_last
from node.demo.session_results import read
from node.errors import Fault


def test_every_line_says_who_did_what_and_stages_are_timed() -> None:
    screen = io.StringIO()
    with Progress(Console(file=screen, width=100)) as progress:
        with progress.stage("publish", "Publish"):
            progress.say("bank-a", "published applicants-a")
            progress.await_(("bank-b",))
        with progress.stage("train", "Train"):
            for done in range(11):
                progress.train(done, 10, [0.7 - 0.01 * each for each in range(done)])
    told = screen.getvalue()
    assert "bank-a" in told
    assert told.count("round") == 5
    assert list(progress.seconds) == ["publish", "train"]


def test_on_a_terminal_the_awaited_and_the_loss_are_shown() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=100, force_terminal=True)
    with Progress(console) as progress, progress.stage("train", "Train"):
        progress.await_(("bank-b/contributor",))
        progress.train(5, 10, [0.7, 0.6, 0.5])
        progress._live.refresh()
        assert "waiting for bank-b/contributor" in screen.getvalue()
        assert "█▄▁" in screen.getvalue()


def test_a_curve_is_as_long_as_its_rounds_up_to_a_line() -> None:
    assert curve([1.0, 0.0]) == "█▁"
    assert curve([0.5]) == "▁"
    assert len(curve([float(value) for value in range(500)])) == 60
    assert mean_of_last([9.0, 1.0, 3.0], 2) == 2.0
    assert names(["a"]) == "a"
    assert names(["a", "b", "c"]) == "a, b and c"


def test_a_failed_command_is_told_in_its_own_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    error = {"kind": "anvil-missing", "sentence": "no anvil", "remedy": "…", "data": {}}
    log.write_text("noise\n" + json.dumps({"error": error}) + "\n")
    told = network._told(log)
    assert told is not None
    assert (told.kind, told.sentence) == ("anvil-missing", "no anvil")
    log.write_text("northbund: the port 4001 is in use\n  Stop what listens there.\n")
    told = network._told(log)
    assert told is not None
    assert "the port 4001 is in use" in told.sentence
    log.write_text("Traceback\n{}\n")
    assert network._told(log) is None


def test_only_a_folder_of_a_demo_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    network.prepare_folder(folder)
    (folder / "old").touch()
    network.prepare_folder(folder)
    assert not (folder / "old").exists()
    (tmp_path / "mine").touch()
    with pytest.raises(Fault, match="not of a demo"):
        network.prepare_folder(tmp_path)


def written(folder: Path, evaluated: list[int]) -> None:
    (folder / "rows.json").write_text(json.dumps(["x", "y", "z"]))
    predicted = [{"id": "z", "row": 2, "label": 1, "score": 0.5}]
    (folder / "predictions.json").write_text(json.dumps(predicted))
    rows = np.array([0, 1, *evaluated], "<u4")
    stages = np.array([0, 0, *([1] * len(evaluated))], "u1")
    rounds = np.arange(1, len(rows) + 1)
    np.savez(
        folder / "openings.npz", round=rounds, stage=stages, row=rows, z=np.ones((len(rows), 2))
    )


def test_what_the_recipient_wrote_is_read_and_checked(tmp_path: Path) -> None:
    written(tmp_path, [2])
    found = read(tmp_path)
    assert found.split.ids == ("x", "y", "z")
    assert (list(found.split.train), list(found.split.held_out)) == ([0, 1], [2])
    assert found.opened.shared.shape == (3, 2)
    written(tmp_path, [1])
    with pytest.raises(Fault, match="differ"):
        read(tmp_path)
    (tmp_path / "openings.npz").unlink()
    with pytest.raises(Fault, match="cannot be read"):
        read(tmp_path)
