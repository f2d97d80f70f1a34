"""Recompile the contracts into the committed artefacts: ``python -m chain.compile``.

A node never compiles: it reads the artefacts. Vyper is a development dependency.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "contracts"
CONTRACTS: Final = ("Registry", "TaskMarket", "TestToken")


def compile_contract(name: str) -> str:
    """Return the artefact of one contract as JSON text; the same source gives the same text.

    Raises subprocess.CalledProcessError if Vyper refuses the source.
    """
    command = [sys.executable, "-m", "vyper.cli.vyper_compile"]
    formats = "abi,bytecode,bytecode_runtime"
    done = subprocess.run(
        [*command, "-f", formats, f"{name}.vy"],
        cwd=FOLDER,
        check=True,
        capture_output=True,
        text=True,
    )
    abi, bytecode, runtime = done.stdout.splitlines()
    artefact = {
        "contract": name,
        "compiler": "vyper 0.4.3",
        "abi": json.loads(abi),
        "bytecode": bytecode,
        "runtime": runtime,
    }
    return json.dumps(artefact, indent=1) + "\n"


def main() -> None:
    """Write the artefact of every contract beside its source."""
    for name in CONTRACTS:
        (FOLDER / f"{name}.json").write_text(compile_contract(name))


if __name__ == "__main__":
    main()
