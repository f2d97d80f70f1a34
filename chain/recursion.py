"""Undo what an import does to the whole process.

eth-account imports py_ecc, which raises the interpreter's recursion limit to 100,000. With that
limit one deeply nested JSON text, from an endpoint, a peer or a local client, overflows the C
stack and kills the process instead of raising RecursionError.
"""

import sys
from typing import Final

LIMIT: Final = 1000
"""The interpreter's own default."""


def restore_limit() -> None:
    """Afterwards deep nesting raises again. To be called after importing web3 or eth-account."""
    sys.setrecursionlimit(LIMIT)
