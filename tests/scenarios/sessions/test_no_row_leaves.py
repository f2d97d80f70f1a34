"""Nobody but the owner's own worker process ever holds a row, looked for where it could be.

Bank A's rows carry values that stand nowhere else in the world. They are looked for as text,
float32 and float64, encoded, and as rows of Z_a: in what every worker hands to TLS, in the
memory of every other process while the rounds run, and in every file of the other nodes. A
contributor that leaks on purpose, once in each way, shows that the search would find it.
"""

import csv
import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from mpc.encoder import Encoder
from mpc.fixedpoint import NOISY_FRACTION_BITS
from node.config import load as load_config
from node.datasets import load
from node.session_jobs import spec_of

OVER = ("ABORTED", "COMPLETED")
EACH = 6
PAGE, PIECE = 4096, 1 << 24
LEAKS = ("text", "float32", "float64", "z")
Needles = dict[str, list[bytes]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def runs(name: str, numbers: np.ndarray) -> Needles:
    """Values as float64, and pairs of neighbours as float32: one alone is not rare enough."""
    flat = numbers.ravel()[: 2 * EACH]
    pairs = flat.reshape(-1, 2)
    return {
        f"{name} as float64": [value.astype("<f8").tobytes() for value in flat[:EACH]],
        f"{name} as float32": [pair.astype("<f4").tobytes() for pair in pairs],
    }


def needles_of(folder: Path) -> Needles:
    """What is known of bank A's rows before a session: text, numbers, encoded rows."""
    config = load_config(folder).config
    dataset = load(spec_of(config.datasets[0]))
    with (folder / "applicants.csv").open(newline="") as file:
        texts = [row["Seniority"].encode() for row in csv.DictReader(file)][100 : 100 + EACH]
    columns = dataset.columns
    encoder = Encoder.fit(columns)
    encoded = encoder.transform(columns)[100:200]
    rare = [encoded[:, at] for at in range(encoded.shape[1])]
    rare = [column for column in rare if len(np.unique(column)) > 80]  # not the one-hot ones
    inner = rare[0][np.abs(rare[0]) < np.abs(rare[0]).max()]
    floats = [repr(float(value)).encode() for value in columns["Seniority"][100 : 100 + EACH]]
    return {
        "text": texts + floats,
        **runs("column", columns["Seniority"][100:130]),
        **runs("encoded row", inner),
    }


def rows_of_z(folder: Path, session: str) -> Needles:
    """Rows of Z_a under the final W, by which the held-out rows were opened."""
    body = (folder / "sessions" / session[2:] / "checkpoint.bin").read_bytes()[32:]
    with np.load(io.BytesIO(body), allow_pickle=False) as stored:
        weights = np.array(stored["weights"], np.float64)
        encoder = Encoder.from_plain(json.loads(stored["encoder"].tobytes()))
    dataset = load(spec_of(load_config(folder).config.datasets[0]))
    z = encoder.transform(dataset.columns) @ weights
    steps = np.rint(z * (1 << NOISY_FRACTION_BITS)).astype("<i8")
    return {
        "Z as float64": [row.astype("<f8").tobytes() for row in z],
        "Z as float32": [row.astype("<f4").tobytes() for row in z],
        "Z in fixed point": [row.tobytes() for row in steps],
    }


def found(data: bytes, needles: Needles) -> set[str]:
    return {kind for kind, some in needles.items() if any(each in data for each in some)}


def memory(pid: int) -> bytes:
    """Everything that the process has written into its memory and not given back."""
    parts = []
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as mem:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw") or line.endswith(("[vvar]\n", "[vsyscall]\n")):
                continue
            first, last = (int(each, 16) for each in span.split("-"))
            try:
                for at in range(first, last, PIECE):
                    mem.seek(at)
                    parts.append(without_empty_pages(mem.read(min(PIECE, last - at))))
            except OSError:
                continue  # given back between the two questions
    return b"".join(parts)


def without_empty_pages(data: bytes) -> bytes:
    """Most of what a process has reserved it has never touched."""
    pages = np.frombuffer(data[: len(data) // PAGE * PAGE], np.uint8).reshape(-1, PAGE)
    return pages[pages.any(axis=1)].tobytes()


def role(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return next((w.rpartition(b".")[2].decode() for w in words if b"node.workers." in w), "")


def files_of(scene) -> dict[str, bytes]:
    """Every file of every node, but bank A's own data and what only its worker writes."""
    own = {"applicants.csv", "checkpoint.bin"}
    return {
        str(path.relative_to(scene.folder)): path.read_bytes()
        for path in scene.folder.rglob("*")
        if path.is_file() and not (path.name in own and "bank-a" in path.parts)
    }


def leaks_on_purpose(scene, folder: Path, environment, kind: str, needles: Needles) -> None:
    """One session in which bank A's contributor leaks; the search must find it on the wire."""
    for old in folder.iterdir():
        old.unlink()
    scene.kill("bank-a")
    scene.start("bank-a", {**environment["bank-a"], "LEAK": kind})
    scene.journey.meet()
    session = scene.start_session()
    assert scene.reaches("bank-a", session, *OVER, timeout_s=40) == "ABORTED"
    scene.reaches("fintech-c", session, *OVER, timeout_s=10)
    sent = b"".join(path.read_bytes() for path in folder.glob("contributor-*.tap"))
    if kind == "z":
        z = np.frombuffer((folder / "z.bin").read_bytes(), "<f8")
        needles = {"z": [row.tobytes() for row in z.reshape(-1, 2)]}
    expected = {"text": "text", "z": "z"}.get(kind, f"column as {kind}")
    assert expected in found(sent, needles), kind


def test_no_row_leaves_its_owners_worker(staged, tapped) -> None:
    folder, environment = tapped
    with staged(environment, epochs=4, batch_rows=16) as scene:
        scene.attested()
        bank = scene.network["bank-a"].folder
        needles = needles_of(bank)
        for kind in LEAKS:
            leaks_on_purpose(scene, folder, environment, kind, needles)
        for old in folder.iterdir():
            old.unlink()
        scene.kill("bank-a")
        scene.start("bank-a", environment["bank-a"])
        scene.journey.meet()

        session = scene.start_session()
        scene.reaches("bank-b", session, "RUNNING")
        owner, held = look_into(scene)
        assert {"column as float64"} <= found(owner, needles)  # the search sees what is there
        for name in environment:
            assert scene.reaches(name, session, *OVER, timeout_s=60) == "COMPLETED"
        needles |= rows_of_z(bank, session)
        for name, process in scene.daemons.items():
            held[f"daemon of {name}"] = memory(process.pid)
        held |= {path.name: path.read_bytes() for path in folder.glob("*.tap")}
        held |= files_of(scene)
        assert sum(map(len, held.values())) > 100_000_000  # bytes
        assert len([name for name in held if name.endswith(".tap")]) == 6
        few = {kind: some[:EACH] for kind, some in needles.items()}
        taps = {name: data for name, data in held.items() if name.endswith(".tap")}
        assert {name: found(data, needles) for name, data in taps.items() if data} == {
            name: set() for name in taps
        }
        assert {name: kinds for name, data in held.items() if (kinds := found(data, few))} == {}


def look_into(scene) -> tuple[bytes, dict[str, bytes]]:
    """The memory of bank A's contributor, and of every other process of all four nodes.

    The workers are stopped while they are looked into, well within a round's deadline.
    """
    pids = [(name, pid) for name in scene.daemons for pid in scene.workers(name)]
    for _, pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        held = {f"{name}/{role(pid)}": memory(pid) for name, pid in pids}
    finally:
        for _, pid in pids:
            os.kill(pid, signal.SIGCONT)
    for name, process in scene.daemons.items():
        held[f"daemon of {name} in the rounds"] = memory(process.pid)
    owner = held.pop("bank-a/contributor")
    assert len(held) == 9
    if not owner:
        pytest.skip(f"this system does not let user {os.getuid()} read memory")
    return owner, held
