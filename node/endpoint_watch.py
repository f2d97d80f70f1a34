"""The chain's endpoints, compared with each other while the node runs.

Adversary: an endpoint that is behind, on another branch, or of another chain. One of another chain
is left out for good; one that differs from the most is asked last; whatever is wrong is told.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from node.log import get_logger

if TYPE_CHECKING:
    from chain.endpoints import EndpointReport
    from chain.provider import TrioProvider

log = get_logger("endpoints")

EVERY_S = 60.0


class EndpointWatch:
    """`reports` are those of the last comparison, in the configuration's order; none before."""

    def __init__(self, provider: "TrioProvider", chain_id: int, clock: Callable[[], float]) -> None:
        self._provider = provider
        self._chain_id = chain_id
        self._clock = clock
        self._urls = provider.urls
        self.reports: tuple[EndpointReport, ...] = ()

    async def run(self) -> None:
        """Compare for ever."""
        while True:
            await self.look()
            await trio.sleep(EVERY_S)

    async def look(self) -> None:
        """Compare once, and act on it."""
        from chain.endpoints import compare  # noqa: PLC0415  loaded with the provider

        found = await compare(self._provider, self._chain_id, self._clock())
        known = {each.url: each for each in (*self.reports, *found)}
        told = {each.url for each in self.reports if each.trouble}
        for each in found:
            if each.trouble and each.url not in told:
                log.warning("endpoint in trouble", url=each.url, why=each.trouble)
            if each.is_foreign:
                self._provider.leave_out(each.url)
            elif each.differs:
                self._provider.ask_last(each.url)
        self.reports = tuple(known[url] for url in self._urls)
