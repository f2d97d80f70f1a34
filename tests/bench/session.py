"""From the proposal of a session to its first round: four real daemons and a chain on loopback.

Two owners with 1,600 applicants between them and the recipient, three members. A session is
stopped once its first round is done, and the same task is started again.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest import mock

from node.demo import applicants as data
from node.demo import organisations as making
from node.demo.in_clear import Settings
from node.demo.journey import Journey
from node.demo.network import Network, prepare_folder
from node.demo.processes import Processes

PEOPLE = 1_600
TIMES = 5
LIMIT_S = 30.0
GLANCE_S = 0.005
NUMBERS_MAX = 400  # budgets wide enough for all the sessions
OVER = ("ABORTED", "COMPLETED")


class Silence:
    """What the demo shows to a person, here to nobody."""

    def await_(self, _who: tuple[str, ...]) -> None: ...
    def say(self, _who: str, _what: str) -> None: ...
    def train(self, _done: int, _total: int, _losses: list[float]) -> None: ...


class LongJourney(Journey):
    """The demo's journey with rounds enough to be stopped in the middle of them."""

    def _compose(self, name: str, width: int, noise: float, settings: Settings) -> str:
        return super()._compose(name, width, noise, replace(settings, epochs=4, batch_rows=16))


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    with (
        tempfile.TemporaryDirectory() as root,
        mock.patch.object(making, "NUMBERS_MAX", NUMBERS_MAX),
    ):
        folder = Path(root) / "scene"
        prepare_folder(folder)
        processes = Processes(folder / "processes.json", keep=False)
        network = Network(folder, processes, Silence())
        try:
            journey = attested(network)
            taken = [first_round_s(network, journey) for _ in range(TIMES)]
        finally:
            processes.stop()
    return {
        "session.start_s": {
            "value": round(median(taken), 3),
            "unit": "s",
            "baseline": None,
            "ratio": None,
            "what": f"from the proposal to the first round, 3 members, {PEOPLE:,} rows aligned",
        }
    }


def attested(network: Network) -> Journey:
    """The network runs, and its journey has come to the attested task."""
    everybody = data.load()
    columns = {name: column[:PEOPLE] for name, column in everybody.columns.items()}
    some = data.Applicants(everybody.ids[:PEOPLE], columns, everybody.labels[:PEOPLE])
    network.make_folders(some, 1)
    network.start_daemons(network.start_chain())
    journey = LongJourney(network, Silence())
    for step in (
        journey.meet,
        journey.publish,
        journey.discover,
        journey.negotiate,
        journey.anchor,
    ):
        step()
    return journey


def first_round_s(network: Network, journey: Journey) -> float:
    """Seconds until the recipient's worker had done its first round; the session is over then."""
    fintech = network[data.FINTECH_C]
    began = time.perf_counter()
    session = journey.start_session(1)
    while True:
        shown = fintech.call("session_show", session=session)
        if shown["state"] == "ABORTED":
            raise RuntimeError(f"the session ended: {shown['reason']}")
        told = shown["progress"].get("recipient") or {"stage": "", "done": 0}
        if told["stage"] in ("evaluate", "close") or (told["stage"] == "train" and told["done"]):
            break
        if time.perf_counter() - began > LIMIT_S:
            raise RuntimeError("the first round was awaited in vain")
        time.sleep(GLANCE_S)
    seconds = time.perf_counter() - began
    fintech.call("session_stop", session=session)
    for name in data.ORGANISATIONS:
        while network[name].call("session_show", session=session)["state"] not in OVER:
            time.sleep(GLANCE_S)
    return seconds
