"""Endpoints compared with each other: which one is down, behind, or tells another story.

Adversary: one endpoint that lies or lags while others do not. With a single endpoint only its
age can be judged; with two that differ nobody can say which is right, so both are reported.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from chain.errors import ChainError
from chain.provider import TrioProvider

LAG_BLOCKS: Final = 5
COMMON_DEPTH: Final = 12
STALE_AFTER_S: Final = 600


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """One endpoint: its newest block, that block's age in seconds, and what is wrong, in words.

    `is_foreign` if it serves another chain, `differs` if it has another block than most others.
    """

    url: str
    head: int
    age_s: float
    trouble: str
    is_foreign: bool = False
    differs: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    chain_id: int
    head: int
    timestamp: int


async def compare(provider: TrioProvider, chain_id: int, now: float) -> list[EndpointReport]:
    """A report of each configured endpoint; `now` in Unix seconds. Raises nothing of the chain's.

    A block COMMON_DEPTH below the lowest head is asked of all: an honest chain has one there.
    """
    seen: dict[str, _Seen | ChainError] = {url: await _look(provider, url) for url in provider.urls}
    good = {u: s for u, s in seen.items() if isinstance(s, _Seen) and s.chain_id == chain_id}
    highest = max((s.head for s in good.values()), default=0)
    common = max(0, min((s.head for s in good.values()), default=0) - COMMON_DEPTH)
    hashes = {url: await _hash_at(provider, url, common) for url in good}
    counts = Counter(hashes.values()).most_common()
    majority = counts[0][0] if counts and counts[0][1] * 2 > len(hashes) else None
    reports = []
    for url, found in seen.items():
        if isinstance(found, ChainError):
            reports.append(EndpointReport(url, 0, 0.0, str(found)))
            continue
        age_s = max(0.0, now - found.timestamp)
        is_foreign = found.chain_id != chain_id
        differs = not is_foreign and hashes[url] != majority
        if is_foreign:
            trouble = f"serves chain {found.chain_id} instead of {chain_id}"
        elif differs:
            trouble = f"has another block {common} than the others"
        elif highest - found.head > LAG_BLOCKS:
            trouble = f"is {highest - found.head} blocks behind"
        elif age_s > STALE_AFTER_S:
            trouble = f"has had no new block for {age_s:.0f} s"
        else:
            trouble = ""
        reports.append(EndpointReport(url, found.head, age_s, trouble, is_foreign, differs))
    return reports


async def _look(provider: TrioProvider, url: str) -> _Seen | ChainError:
    try:
        chain_id = int(await provider.ask_at(url, "eth_chainId"), 16)
        block = await provider.ask_at(url, "eth_getBlockByNumber", "latest", False)
        return _Seen(chain_id, int(block["number"], 16), int(block["timestamp"], 16))
    except ChainError as error:
        return error
    except (TypeError, ValueError, KeyError):
        return ChainError(f"{url} answers with no block")


async def _hash_at(provider: TrioProvider, url: str, number: int) -> str:
    try:
        block = await provider.ask_at(url, "eth_getBlockByNumber", hex(number), False)
        return str(block["hash"])
    except (ChainError, TypeError, KeyError):
        return ""
