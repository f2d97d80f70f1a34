"""`make bench-peers`: the same sum in other libraries, each in a virtual environment of its own.

Three owners, 256 x 64 and 100,000 x 64. The environments stand under build/peers/ and hold exactly
what `<peer>.txt` pins; the pins carry no hashes, since torch's CPU wheels differ by index and no
peer is ever loaded by the product. A peer that cannot be installed or run is named and left out.

`python -m tests.bench.peers [names]` runs only some.
"""

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.aggregate import run_parties

HERE = Path(__file__).parent
ENVIRONMENTS = Path("build/peers")
RESULT = Path("build/bench-peers.json")
SIZES = ((256, 64), (100_000, 64))
OWNERS = 3
INSTALL_S, RUN_S = 900.0, 300.0
REPEATS = 3


@dataclass(frozen=True)
class Peer:
    """A library: `words` follow the size on the command line of `<script>_sum.py`."""

    name: str
    environment: str
    words: tuple[str, ...]
    transport: str
    secret: str


PEERS = (
    Peer(
        "CrypTen 0.4.1",
        "crypten",
        (),
        "3 processes, plain TCP",
        "inputs and all that is computed, from 2 of the 3; each party follows the protocol",
    ),
    Peer(
        "SPU 0.9.5 SEMI2K",
        "spu",
        ("SEMI2K",),
        "3 threads, no network",
        "inputs and all that is computed, from 2 of the 3; each party follows the protocol",
    ),
    Peer(
        "SPU 0.9.5 ABY3",
        "spu",
        ("ABY3",),
        "3 threads, no network",
        "inputs and all that is computed, from 1 of the 3; each party follows the protocol",
    ),
    Peer(
        "flwr 1.41.0 SecAgg+",
        "flwr",
        (),
        "1 process, no network",
        "each owner's matrix, from the server and 1 owner; masks of 32-bit seeds; sum in 22 bits",
    ),
    Peer(
        "MPyC 0.11",
        "mpyc",
        (str(REPEATS), f"-M{OWNERS}", "--no-log"),
        "3 processes, plain TCP",
        "inputs and all that is computed, from 1 of the 3; each party follows the protocol",
    ),
)
OURS = "each owner's matrix, from 1 member and the recipient; a wrong answer is noticed"


def main() -> None:
    asked = sys.argv[1:]
    lines = [ours("northbund, lane", "m61"), ours("northbund, compact lane", "m31")]
    for peer in PEERS:
        if not asked or peer.environment in asked:
            lines.append(measured(peer))
    print(f"{'':24}{'256 x 64':>12}{'100,000 x 64':>14}  {'over':28}kept secret")
    for line in lines:
        seconds = line["seconds"]
        shown = [f"{1e3 * s:,.1f} ms" for s in seconds] if seconds else ["left out", ""]
        print(
            f"{line['name']:24}{shown[0]:>12}{shown[1]:>14}  {line['transport']:28}{line['secret']}"
        )
    print(
        "northbund opens the sum Z of every mini-batch to the recipient, with the owners' noise in"
        " it where the terms ask for noise; CrypTen, SPU and MPyC could compute on without opening"
        " it, and here open the sum as well."
    )
    print(f"load of this machine over the last minute: {os.getloadavg()[0]:.1f}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(lines, indent=1) + "\n", "utf-8")


def ours(name: str, kind: str) -> dict[str, object]:
    works = [
        {"name": str(rows), "kind": kind, "rows": rows, "width": width, "rounds": REPEATS}
        for rows, width in SIZES
    ]
    seconds = run_parties(works * 2)  # the first time touches every buffer and is not counted
    middle = [median(seconds[str(rows)][REPEATS:]) for rows, _ in SIZES]
    transport = "7 processes, mutual TLS"
    return {"name": name, "seconds": middle, "transport": transport, "secret": OURS}


def measured(peer: Peer) -> dict[str, object]:
    """One line of the table; without seconds, and with the reason, if the peer cannot run."""
    line = {"name": peer.name, "transport": peer.transport, "secret": peer.secret}
    try:
        python = installed(peer.environment)
        seconds = [median(run(python, peer, rows, width)) for rows, width in SIZES]
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", "") or str(error)
        reason = said.strip().splitlines()[-1] if said.strip() else type(error).__name__
        return line | {"seconds": None, "secret": f"it could not be run: {reason}"}
    return line | {"seconds": seconds}


def installed(name: str) -> Path:
    """The interpreter of an environment that holds what `<name>.txt` pins, and only that."""
    folder, pins = ENVIRONMENTS / name, HERE / f"{name}.txt"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text("utf-8") != pins.read_text("utf-8"):
        venv.create(folder, with_pip=True, clear=True)
        # The pins are complete. CrypTen's own list asks for far more than a sum needs.
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(pins)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
        stamp.write_text(pins.read_text("utf-8"), "utf-8")
    return python.absolute()


def run(python: Path, peer: Peer, rows: int, width: int) -> list[float]:
    """The seconds of each repeat. SubprocessError if the script fails or its sum is wrong."""
    script = HERE / f"{peer.environment}_sum.py"
    command = [str(python), str(script), str(rows), str(width), *peer.words]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=RUN_S, env=variables
    )
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    if said["error"] > 1e-3:
        raise subprocess.SubprocessError(f"the sum is off by {said['error']}")
    seconds: list[float] = said["seconds"]
    return seconds


if __name__ == "__main__":
    main()
