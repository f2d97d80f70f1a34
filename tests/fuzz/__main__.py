"""`make fuzz`: every decoder and every served protocol under coverage-guided fuzzing, for a while.

FUZZ_SECONDS (60) are shared by the groups, FUZZ_GROUPS names those to run. An input that anything
but the documented error comes out of is kept under build/fuzz/, with the trace on the screen.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.groups import GROUPS

BUILD = Path("build/fuzz")
SECONDS = 60
START_S = 60
_EXECUTED = re.compile(r"number_of_executed_units:\s+(\d+)")


def main() -> int:
    """0 if nothing was found, 1 if something was, 2 if there is no atheris for this Python."""
    if importlib.util.find_spec("atheris") is None:
        print(
            "atheris is not installed. `make fuzz` installs it where there is a build of it:\n"
            "Linux on x86-64, Python 3.11 to 3.13. The same targets run in `make test`."
        )
        return 2
    names = os.environ.get("FUZZ_GROUPS", " ".join(GROUPS)).split()
    seconds = max(1, int(os.environ.get("FUZZ_SECONDS", SECONDS)) // len(names))
    BUILD.mkdir(parents=True, exist_ok=True)
    print(f"{len(names)} groups of targets, {seconds} s each; inputs that fail: {BUILD}/")
    stood = [run(name, seconds) for name in names]
    return int(not all(stood))


def run(name: str, seconds: int) -> bool:
    """Whether the group `name` stood `seconds` of fuzzing."""
    before = set(BUILD.glob(f"{name}-*"))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.coverage_guided", name, str(seconds)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + START_S,
    )
    shutil.rmtree(BUILD / f"node-{seconds}", ignore_errors=True)
    executed = _EXECUTED.search(done.stderr)
    count = int(executed[1]) if executed else 0
    found = sorted(set(BUILD.glob(f"{name}-*")) - before)
    verdict = "nothing found" if done.returncode == 0 else "FAILED"
    print(f"{name:10} {count:>9,} inputs in {time.monotonic() - began:.0f} s: {verdict}")
    if done.returncode:
        print(*done.stderr.splitlines()[-60:], sep="\n")
        print(*(f"input kept: {file}" for file in found), sep="\n")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
