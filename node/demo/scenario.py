"""The demo from its first process to its last, and what it writes down of it."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from node.demo import closing_tables, processes, report
from node.demo.applicants import ORGANISATIONS, Applicants, load
from node.demo.findings import Findings, find
from node.demo.journey import Journey
from node.demo.memory import MemoryMeter
from node.demo.network import Network, prepare_folder, record_of
from node.demo.processes import Processes
from node.demo.progress import Progress
from node.demo.session_results import read
from node.errors import Fault

_EXTRA = ("matplotlib",)
_WIDTH_WITHOUT_TERMINAL = 120


@dataclass(frozen=True, slots=True)
class Ending:
    """What the demo writes: the report, and the pictures of its page."""

    report: dict[str, Any]
    pictures: dict[str, str]


def play(*, seed: int, folder: Path, keep: bool, as_json: bool) -> int:
    """Plays the scenario in `folder`; 0 once report.json and report.html stand there.

    With `keep` the network runs on. However it ends otherwise, no process of it is left.
    """
    _need_extra()
    prepare_folder(folder)
    screen = sys.stderr if as_json else sys.stdout
    width = None if screen.isatty() else _WIDTH_WITHOUT_TERMINAL
    console = Console(file=screen, width=width, highlight=False)
    started = time.monotonic()
    with _children(folder, keep=keep) as children:
        with (
            MemoryMeter(children.note_descendants) as meter,
            Progress(console) as progress,
        ):
            ending = _through(Network(folder, children, progress), progress, load(), seed)
        told = ending.report
        told["memory"] = {
            "peak_mb": round(meter.peak_bytes / 1e6, 1),
            "processes": meter.processes_at_peak,
        }
        told["seconds"] = round(time.monotonic() - started, 2)
        report.write_json(told, folder / "report.json")
        report.write_html(told, ending.pictures, folder / "report.html")
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    closing_tables.show(console, told)
    _say_where(console, folder, keep=keep)
    return 0


def end_earlier(folder: Path, *, as_json: bool) -> int:
    """Ends what an earlier demo in `folder` left running; the exit status 0."""
    ended = processes.end_recorded(record_of(folder))
    if as_json:
        sys.stdout.write(json.dumps({"ended": ended}) + "\n")
    elif ended:
        sys.stdout.write(f"ended {closing_tables.names(ended)}\n")
    else:
        sys.stdout.write("nothing of a demo was running\n")
    return 0


@contextmanager
def _children(folder: Path, *, keep: bool) -> Iterator[Processes]:
    children = Processes(record_of(folder), keep=keep)
    try:
        yield children
    except BaseException:  # Ctrl-C too: nothing may be left behind
        _stop(children)
        raise
    if keep:
        children.note_descendants()
    else:
        _stop(children)


def _stop(children: Processes) -> None:
    """Stopping takes a moment, in which a second Ctrl-C must not leave half of them behind."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        children.stop()
    finally:
        with suppress(TypeError):  # a handler that was not set by Python cannot be put back
            signal.signal(signal.SIGINT, former)


def _through(network: Network, progress: Progress, applicants: Applicants, seed: int) -> Ending:
    journey = Journey(network, progress)
    with progress.stage("folders", "Four organisations, each with its own folder and keys"):
        for holder, rows in network.make_folders(applicants, seed).items():
            progress.say(holder, f"holds {rows:,} applicants in its own order")
    with progress.stage("chain", "A local EVM chain with the contracts"):
        chain = network.start_chain()
        progress.say("devchain", f"chain {chain['chain_id']} at {chain['url']}")
    with progress.stage("daemons", "Four daemons"):
        seconds = network.start_daemons(chain)
        progress.say("demo", f"four daemons answered after {seconds:.1f} s")
        journey.meet()
    with progress.stage("publish", "Publish: rows checked, documents registered, announced"):
        journey.publish()
    with progress.stage("discover", "Discover: gossip, documents by content address, the chain"):
        journey.discover()
    with progress.stage("refuse", "Refuse: bank B is asked for more than its terms allow"):
        journey.ask_too_much()
    with progress.stage("negotiate", "Compose and negotiate: terms decide, owners sign grants"):
        journey.negotiate()
    with progress.stage("anchor", "Anchor: escrow, grants on chain, attestation"):
        journey.anchor()
    with progress.stage("align", "Align: roster signed by all, private set intersection"):
        session = journey.start_session(seed)
        journey.align(session)
    with progress.stage("train", "Train: features shared, added by the committee, Z opened"):
        journey.train(session)
    with progress.stage("evaluate", "Evaluate: held-out rows opened once, added inside MPyC"):
        journey.evaluate(session)
    with progress.stage("settle", "Settle: usage signed by all, escrow paid out"):
        journey.settle()
        journey.trace()
        facts = {"gas": journey.gas(), "assets": journey.assets(), "grants": journey.grants()}
    with progress.stage("attack", "Outside the nodes: the bound in clear, and the attack"):
        results = read(journey.results_folder)
        found = find(journey, results, applicants, facts, seed)
        _say_attack(progress, found)
    with progress.stage("report", "The report"):
        pictures = found.drawn()
    return Ending(found.report | {"stages": progress.seconds}, pictures)


def _say_attack(progress: Progress, found: Findings) -> None:
    for known, result in found.report["attack"]["with_noise"].items():
        progress.say(
            "attacker",
            f"knowing {known} applicants: {result['whole_rows']} whole rows, "
            f"{100 * result['recovered']:.1f} % of an unknown row",
        )


def _say_where(console: Console, folder: Path, *, keep: bool) -> None:
    shown = Path(os.path.relpath(folder))
    console.print()
    console.print(Text(f"The report: {shown / 'report.html'} (and report.json beside it)", "bold"))
    if not keep:
        return
    console.print("The network runs on. Talk to it:")
    for name in ORGANISATIONS:
        console.print(f"  northbund -d {shown / name} status")
    console.print(f"End it: northbund demo --clean --folder {shown}")


def _need_extra() -> None:
    missing = [module for module in _EXTRA if find_spec(module) is None]
    if missing:
        raise Fault(
            "extra-missing", f"the demo's pictures need {', '.join(missing)}", missing=missing
        )
