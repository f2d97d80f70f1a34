"""`northbund demo`: the scenario of four organisations on one machine, every component real.

The demo stands outside the nodes: it drives them by commands and JSON-RPC alone. Importing the
package is free; `run` loads what it uses.
"""

import os
from pathlib import Path


def run(*, seed: int, folder: Path, keep: bool, clean: bool, as_json: bool) -> int:
    """Plays the scenario, or with `clean` ends what an earlier one left; the exit status.

    Fault says what went wrong; every process that was started has ended then. KeyboardInterrupt
    passes through in the same way.
    """
    # Before numpy is loaded: on matrices this small, threads of two processes only wait in turn.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from node.demo.scenario import end_earlier, play  # noqa: PLC0415

    if clean:
        return end_earlier(folder, as_json=as_json)
    return play(seed=seed, folder=folder, keep=keep, as_json=as_json)
