"""When a block counts: after some confirmations, or once the chain itself calls it finalized.

A proof-of-stake chain finalizes a block after some minutes and never replaces it while less than
a third of its stake lies; where a chain says nothing of the kind, blocks on top are counted.
"""

from typing import Any, Literal

from chain.errors import ChainUnreachable
from chain.provider import TrioProvider

Confirmations = int | Literal["finalized"]
"""How many blocks must stand on a block, or that the chain must call it finalized."""


def newest_that_counts(confirmations: Confirmations, head: int, finalized: Any = None) -> int:
    """The number of the newest block that counts; negative if none does yet.

    `finalized` is the header that the chain's node gave for that word. ChainUnreachable if it
    was needed and is none.
    """
    if confirmations != "finalized":
        return head - confirmations
    if not isinstance(finalized, dict) or not isinstance(finalized.get("number"), str):
        raise ChainUnreachable(
            "the chain's node knows no finalized block; a number of confirmations would be right"
        )
    return int(finalized["number"], 16)


async def ask_newest(provider: TrioProvider, confirmations: Confirmations, head: int) -> int:
    """The same, asking the chain's node if need be. Raises ChainUnreachable, ChainRefused."""
    if confirmations != "finalized":
        return newest_that_counts(confirmations, head)
    header = await provider.ask("eth_getBlockByNumber", "finalized", False)
    return newest_that_counts(confirmations, head, header)
