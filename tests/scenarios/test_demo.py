"""The whole journey as its user runs it: one command, four daemons, a real chain."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.devchain import find_anvil

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_anvil() is None, reason="no anvil on this machine"),
]
STAGES = (
    "folders chain daemons publish discover refuse negotiate anchor align train evaluate settle "
    "attack report"
)


def demo(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-c", "from node.cli import main; main()", "demo", *arguments]


def processes_of(folder: Path) -> list[str]:
    """The command lines of processes that were told of this folder, zombies left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and "pytest" not in line:
            found.append(line)
    return found


def until(done: Callable[[], object], timeout_s: float) -> None:
    limit = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.05)


def started(folder: Path, output: Path) -> subprocess.Popen[bytes]:
    """A demo whose daemons answer already."""
    with output.open("wb") as file:
        process = subprocess.Popen(demo("--folder", str(folder)), stdout=file, stderr=file)
    until(lambda: b"Publish" in output.read_bytes() or process.poll() is not None, 90)
    assert process.poll() is None, output.read_text()
    return process


def test_the_demo_tells_everything_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = subprocess.run(
        demo("--folder", str(folder), "--seed", "3", "--json"), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert told == json.loads((folder / "report.json").read_text())
    assert told["auc"]["shared"] > 0.74
    assert told["auc"]["clear"] > told["auc"]["a"]
    openings = told["openings"]
    assert (openings["rows"], openings["numbers_per_row"]) == (3119, 4)
    assert openings["numbers_opened"] == 2 * (2 * openings["rows_trained"] + 936)
    assert all(owner["epsilon"] > 0 for owner in openings["owners"].values())
    assert {engine for used in openings["engines"].values() for engine in used} == {"lane", "mpyc"}
    (refused,) = told["refused"]
    assert refused["organisation"] == "bank-b"
    asked = {each["operand"] for each in refused["failed"]}
    assert {"cdt:parameter.width", "cdt:noise"} <= asked
    assert told["attack"]["with_noise"]["30"]["whole_rows"] == 0
    assert {"register", "grant", "attest", "settle"} <= set(told["gas"])
    assert float(told["payments"]["bank-a"]) > 3
    assert list(told["stages"]) == STAGES.split()
    assert told["memory"]["peak_mb"] < 1300
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 4
    assert not processes_of(folder)


def test_an_interrupted_demo_ends_every_process(tmp_path: Path) -> None:
    process = started(tmp_path / "demo", tmp_path / "out")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not processes_of(tmp_path / "demo")


def test_a_killed_demo_is_cleaned_up(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = started(folder, tmp_path / "out")
    process.kill()
    process.wait()
    cleaned = subprocess.run(
        demo("--clean", "--folder", str(folder)), capture_output=True, check=True
    )
    assert cleaned.stdout
    until(lambda: not processes_of(folder), 10)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    done = subprocess.run(demo("--folder", str(tmp_path)), capture_output=True, check=False)
    assert done.returncode == 12
    assert b"not of a demo" in done.stderr
    assert (tmp_path / "thesis.tex").exists()
