"""One process of the aggregation benchmark: an owner, a member or the recipient.

It uses the product's own connections, rounds, shares and checks; only the features are made up
here instead of coming from a dataset. The parent (aggregate.py) passes certificates and ports on.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from nacl.signing import SigningKey

from mpc import topology
from mpc.channels import Channel
from mpc.committee import Committee
from mpc.field import Elements, PrimeField, field_named
from mpc.fixedpoint import Grid, grid_for
from mpc.lane import Adder, ShareSender, adding
from mpc.mesh import Mesh, Peer
from mpc.noise import NoiseSource
from mpc.opening import Opener
from mpc.programs import MpycCommittee
from mpc.rounds import GateRules, OwnerGate, chunk_rows
from mpc.setting import Setting
from mpc.transport import Frame, Identity, listen

WITHIN_S = 60.0
CLIP = 8.0
NOISE_SD = 0.3
CLEAR, BACK, MPYC = "clear", "back", "mpyc"
LONG_ROWS, REPEATED_ROWS = 131_072, 16_384
READY = b"ready"
MANIFEST = bytes(32)


@dataclass(frozen=True)
class Work:
    """`rounds` openings of one size, one after another; `kind` is clear, m61, m31 or mpyc.

    Sharings are checked in every opening of several chunks and in every `check_every`th, or never
    if that is 0.

    Where there are more than 131,072 rows, 16,384 are made up and repeat, and the recipient keeps
    no more of them either: what is to be weighed is what a party needs for the opening itself.
    """

    name: str
    kind: str
    rows: int
    width: int
    rounds: int
    draw_noise: bool = False
    check_every: int = 0

    @property
    def field(self) -> PrimeField:
        return field_named("m61" if self.kind == MPYC else self.kind)

    @property
    def kept_rows(self) -> int:
        return self.rows if self.rows <= LONG_ROWS else REPEATED_ROWS


class Bench:
    """The mesh and the names, for every role."""

    def __init__(self, me: str, owners: int, members: int, *, mpyc: bool) -> None:
        self.me, self.mpyc = me, mpyc
        self.owners = [f"owner-{i}" for i in range(owners)]
        self.committee = Committee(tuple(f"member-{i}" for i in range(members)), 1)
        self.recipient = "recipient"
        self.identity, self.listener = Identity(), listen("127.0.0.1")
        self.key = SigningKey.generate()

    def join(self) -> bytes:
        """Connect with everybody; the recipient's Ed25519 key."""
        own = {
            "name": self.me,
            "certificate": self.identity.certificate.hex(),
            "address": f"127.0.0.1:{self.listener.getsockname()[1]}",
            "key": bytes(self.key.verify_key).hex(),
        }
        say(own)
        known = json.loads(sys.stdin.readline())
        peers = {
            name: Peer(name, bytes.fromhex(p["certificate"]), p["address"])
            for name, p in known.items()
            if name != self.me
        }
        channels = topology.control_channels(sorted(known))
        channels += topology.round_channels(
            self.owners, self.committee.members, self.recipient, mpyc=self.mpyc
        )
        channels += [Channel(owner, self.recipient, CLEAR) for owner in self.owners]
        channels += [Channel(self.recipient, owner, BACK) for owner in self.owners]
        self.mesh = Mesh.open(
            self.identity,
            self.listener,
            self.me,
            peers,
            channels,
            MANIFEST,
            within_s=WITHIN_S,
            silence_s=WITHIN_S,
        )
        self.keys = {name: bytes.fromhex(party["key"]) for name, party in known.items()}
        return self.keys[self.recipient]

    def setting(self, work: Work) -> Setting:
        members = self.committee.members
        return Setting(
            mesh=self.mesh,
            key=self.key,
            recipient=self.recipient,
            recipient_key=self.keys[self.recipient],
            contributors={name: self.keys[name] for name in self.owners},
            members={name: self.keys[name] for name in members},
            threshold=self.committee.threshold,
            field=work.field,
            width=work.width,
            manifest=MANIFEST,
            attempt=0,
            check_every=work.check_every,
            deadline_s=WITHIN_S,
            answers_needed=len(members),
        )

    def grid(self, work: Work) -> Grid:
        return grid_for(work.field, CLIP, len(self.owners), noisy=True)


@cache
def drawn_noise(rows: int, width: int, deviation: float) -> np.ndarray:
    """Noise for the clock to find ready; a session would draw it anew for every opening."""
    return NoiseSource().skellam(rows, np.full(width, deviation))


def features(owner: int, work: Work) -> np.ndarray:
    return np.random.default_rng(owner).standard_normal((work.kept_rows, work.width))


def peak_mb() -> float:
    """The most memory that this program ever held; getrusage counts what it was started by."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def gradient_bytes(work: Work) -> int:
    """What comes back to an owner in clear before each round; a single opening has no answer."""
    return work.rows * work.width * 4 if work.rounds > 1 else 4


def say(value: object) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201  (the parent reads it)


def play_owner(bench: Bench, works: list[Work], key: bytes) -> None:
    for work in works:
        z = features(int(bench.me.split("-")[1]), work)
        if work.kind == CLEAR:
            owner_in_clear(bench, work, z)
        else:
            owner_in_shares(bench, work, z, key)


def owner_in_clear(bench: Bench, work: Work, z: np.ndarray) -> None:
    out, back = bench.mesh.to(bench.recipient, CLEAR), bench.mesh.of(bench.recipient, BACK)
    step = chunk_rows(work.width)
    gradient = memoryview(bytearray(gradient_bytes(work)))
    frame = Frame(step * work.width * 8)
    out.send(READY, WITHIN_S)
    for _ in range(work.rounds):
        back.receive_into(gradient, WITHIN_S)
        for start in range(0, work.rows, step):
            kept = start % work.kept_rows
            chunk = z[kept : kept + min(step, work.rows - start)]
            np.frombuffer(frame.payload, np.float64, chunk.size)[:] = chunk.ravel()
            out.send_frame(frame.prefix(chunk.nbytes), WITHIN_S)


def owner_in_shares(bench: Bench, work: Work, z: np.ndarray, key: bytes) -> None:
    grid = bench.grid(work)
    deviations = np.full(work.width, NOISE_SD * grid.scale)
    source = NoiseSource()
    drawn = drawn_noise(work.kept_rows, work.width, NOISE_SD * grid.scale)
    sender = ShareSender(bench.setting(work))
    gate = OwnerGate(
        GateRules(
            manifest=MANIFEST,
            attempt=0,
            recipient_key=key,
            cohort_rows=work.rows,
            width=work.width,
            epochs=1 << 20,
            batch_floor=16,
            numbers_cap=1 << 30,
        )
    )

    def chunks(rows: np.ndarray) -> Iterator[Elements]:
        step = chunk_rows(work.width)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            if work.rows > work.kept_rows:
                some = some % work.kept_rows
            steps, _ = grid.quantise(z[some])
            noise = source.skellam(len(some), deviations) if work.draw_noise else drawn[some]
            yield grid.elements(steps, noise)

    bench.mesh.to(bench.recipient, CLEAR).send(READY, WITHIN_S)
    orders = bench.mesh.of(bench.recipient, topology.ORDERS)
    for _ in range(work.rounds):
        admitted = gate.admit(orders.receive(WITHIN_S, limit=1 << 28))
        sender.send(admitted, chunks(admitted.rows))


def play_member(bench: Bench, works: list[Work]) -> None:
    mpyc = cache(lambda: committee_of_mpyc(bench))
    for work in works:
        if work.kind == CLEAR:
            continue
        adder = Adder(bench.setting(work))
        add = mpyc().add if work.kind == MPYC else adding(work.field)
        for _ in range(work.rounds):
            own, header = adder.next_header(WITHIN_S)
            adder.add_round(own, header, add)


def committee_of_mpyc(bench: Bench) -> MpycCommittee:
    field = field_named("m61")
    return MpycCommittee(
        bench.mesh, bench.committee, field, link_within_s=WITHIN_S, within_s=WITHIN_S
    )


def play_recipient(bench: Bench, works: list[Work]) -> None:
    results: dict[str, list[float]] = {}
    for work in works:
        run = in_clear if work.kind == CLEAR else in_shares
        want = features(0, work)
        for owner in range(1, len(bench.owners)):
            want += features(owner, work)
        for owner in bench.owners:  # its features and noise are drawn before the clock starts
            bench.mesh.of(owner, CLEAR).receive(WITHIN_S, limit=len(READY))
        seconds, opened = run(bench, work)
        error = float(np.abs(opened - want).max())
        allowed = 0.0 if work.kind == CLEAR else 8 * NOISE_SD * len(bench.owners) ** 0.5
        if error > allowed + 1e-9:
            raise SystemExit(f"{work.name}: the sum is off by {error}")
        results.setdefault(work.name, []).extend(seconds)
    say({"seconds": results})


def in_clear(bench: Bench, work: Work) -> tuple[list[float], np.ndarray]:
    ins = [bench.mesh.of(owner, CLEAR) for owner in bench.owners]
    outs = [bench.mesh.to(owner, BACK) for owner in bench.owners]
    step = chunk_rows(work.width)
    buffers = [memoryview(bytearray(step * work.width * 8)) for _ in ins]
    gradient = bytes(gradient_bytes(work))
    seconds = []
    total = np.empty((work.kept_rows, work.width))
    for _ in range(work.rounds):
        began = time.perf_counter()
        for out in outs:
            out.send(gradient, WITHIN_S)
        for start in range(0, work.rows, step):
            kept = start % work.kept_rows
            chunk = total[kept : kept + min(step, work.rows - start)]
            for place, (inbound, buffer) in enumerate(zip(ins, buffers, strict=True)):
                inbound.receive_into(buffer, WITHIN_S)
                term = np.frombuffer(buffer, np.float64, chunk.size).reshape(chunk.shape)
                if place:
                    chunk += term
                else:
                    chunk[:] = term
        seconds.append(time.perf_counter() - began)
    return seconds, total


def in_shares(bench: Bench, work: Work) -> tuple[list[float], np.ndarray]:
    opener = Opener(bench.setting(work), bench.grid(work))
    rows = np.arange(work.rows, dtype="<u4")
    gradient, small = None, work.rows == work.kept_rows
    seconds = []
    for _ in range(work.rounds):
        began = time.perf_counter()
        opened = opener.open("train", rows, gradient) if small else streamed(opener, rows, work)
        seconds.append(time.perf_counter() - began)
        gradient = np.zeros((work.rows, work.width), "<f4") if small else None
    return seconds, opened


def streamed(opener: Opener, rows: np.ndarray, work: Work) -> np.ndarray:
    opened = np.empty((work.kept_rows, work.width))
    start = 0
    for chunk in opener.opening("train", rows, None):
        kept = start % work.kept_rows
        opened[kept : kept + len(chunk)] = chunk
        start += len(chunk)
    return opened


def main() -> None:
    me, owners, members, works = sys.argv[1:5]
    planned = [Work(**work) for work in json.loads(works)]
    mpyc = any(work.kind == MPYC for work in planned)
    bench = Bench(me, int(owners), int(members), mpyc=mpyc)
    key = bench.join()
    if me.startswith("owner"):
        play_owner(bench, planned, key)
    elif me.startswith("member"):
        play_member(bench, planned)
    else:
        play_recipient(bench, planned)
    bench.mesh.finish()
    say({"name": me, "peak_mb": peak_mb()})
    os._exit(0)


main()
