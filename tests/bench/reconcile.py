"""What it costs two nodes with 100,000 announcements to find 10, 100 or 1,000 differences.

Two processes with real hosts on loopback and real databases. A third of the differences is
missing here, a third there, a third is newer there. Bytes are those of the reconciliation itself;
seconds hold everything: building both sets for the first time, and fetching, checking and storing
the announcements. `python -m tests.bench.reconcile` prints the figures.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chain.schema import MIGRATIONS
from node.announcements import Announcements, opened
from node.engine import Engine
from node.store import open_store
from protocol import codec, envelope
from protocol.messages import Announcement
from tests.node.catalogue_process import account_of, key_of

SCRIPT = Path(__file__).parents[1] / "node" / "catalogue_process.py"
ANNOUNCEMENTS = 100_000
OWNERS = 20
DIFFERENCES = (10, 100, 1_000)
BATCH = 5_000


def announcement(number: int, seq: int = 1) -> bytes:
    """The announcement of asset `number` by one of the OWNERS, as it travels."""
    seed = 10 + number % OWNERS
    said = Announcement(
        cdt=number.to_bytes(32),
        owner=account_of(seed),
        proof=bytes(32),
        kind="data",
        name=f"facts {number}",
        endpoint=key_of(seed).peer_id,
        addresses=("/ip4/127.0.0.1/tcp/4001",),
        seq=seq,
        not_after=int(time.time()) + 24 * 3_600,
    )
    return codec.encode(envelope.seal(said, key_of(seed).signing_key))


def fill(path: Path) -> None:
    """A database that holds the announcements, and nothing else, is at `path`."""
    engine = Engine(open_store(path, MIGRATIONS), time.time)
    kept = Announcements(engine)
    for at in range(0, ANNOUNCEMENTS, BATCH):
        with engine.transaction() as tx:
            for number in range(at, at + BATCH):
                kept.keep(tx, opened(announcement(number)))
    engine.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.db.close()


def differ(one: Path, other: Path, differences: int) -> None:
    """The two databases differ in so many announcements: missing in one, in the other, newer."""
    step = ANNOUNCEMENTS // differences
    places = range(0, ANNOUNCEMENTS, step)[:differences]
    for path, gone in ((one, places[0::3]), (other, places[1::3])):
        db = sqlite3.connect(path)
        with db:
            db.executemany(
                "DELETE FROM announcements WHERE cdt = ?", [[cdt.to_bytes(32)] for cdt in gone]
            )
        db.close()
    engine = Engine(open_store(other, MIGRATIONS), time.time)
    with engine.transaction() as tx:
        for number in places[2::3]:
            Announcements(engine).keep(tx, opened(announcement(number, seq=2)))
    engine.db.close()


class Node:
    """One node in a process of its own."""

    def __init__(self, seed: int, folder: Path, stack: ExitStack) -> None:
        job = {
            "seed": seed,
            "folder": str(folder),
            "listen": "/ip4/127.0.0.1/tcp/0",
            "seeds": [1, 2, *range(10, 10 + OWNERS)],
            "known": [],
            "loss": 0.0,
            "scheduled": False,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self.end)

    def receive(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def do(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.receive()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def exchange(full: Path, folder: Path, differences: int) -> dict[str, Any]:
    """What the exchange of two nodes with so many differences took."""
    folders = [folder / f"{differences}-{side}" for side in ("one", "other")]
    for each in folders:
        each.mkdir()
        shutil.copy(full, each / "node.sqlite3")
    differ(folders[0] / "node.sqlite3", folders[1] / "node.sqlite3", differences)
    with ExitStack() as stack:
        one, other = (Node(seed, each, stack) for seed, each in enumerate(folders, start=1))
        one.receive()
        told = other.receive()
        one.do(know=[told["address"]])
        while not one.do(connected=1):
            time.sleep(0.02)
        before_mb = one.do(memory=1)
        figures = dict(one.do(reconcile=told["peer"]))
        assert figures["finished"], figures
        assert one.do(held=1) == other.do(held=1)
        figures["set_mb"] = one.do(memory=1) - before_mb
        figures["again"] = one.do(reconcile=told["peer"])
    return figures


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fill(folder / "full.sqlite3")
        for differences in DIFFERENCES:
            took = exchange(folder / "full.sqlite3", folder, differences)
            end = "" if differences == DIFFERENCES[0] else f".{differences}"
            what = f"{differences} differences in {ANNOUNCEMENTS:,} announcements"
            most = 16_000 + 1_500 * differences
            found |= {
                f"reconcile.bytes{end}": figure(
                    took["range_bytes"], "bytes", f"{what}; at most {most:,}"
                ),
                f"reconcile.seconds{end}": figure(
                    took["seconds"], "s", f"{what}, in {took['requests']} requests, sets built"
                ),
            }
    found["reconcile.set_mb"] = figure(took["set_mb"], "MB", "memory that an exchange took")
    again = took["again"]
    found["reconcile.equal_bytes"] = figure(
        again["range_bytes"], "bytes", f"nothing to do, {1_000 * again['seconds']:.1f} ms"
    )
    return found


def figure(value: float, unit: str, what: str) -> dict[str, object]:
    return {"value": round(value, 3), "unit": unit, "baseline": None, "ratio": None, "what": what}


if __name__ == "__main__":
    for name, line in measure().items():
        print(f"{name:24} {line['value']:>10} {line['unit']:10} {line['what']}")  # noqa: T201
