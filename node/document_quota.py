"""How much this node serves to whom, of documents, whatever the protocol.

Peer ids are free to make, so a limit for each does not bound the whole: those that this node's own
configuration does not name share one more allowance, and cannot use up what the named ones have.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from node.directory import Directory

PEERS_MOST = 10_000
STRANGERS = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` units at once, and `per_second` of them in the long run."""

    per_second: float
    burst: float


REQUESTS = Rate(per_second=50, burst=5_000)
BYTES = Rate(per_second=(256 << 20) / 3600, burst=256 << 20)
"""256 MiB an hour: some 100,000 small documents, or 1,024 of the largest."""
STRANGERS_REQUESTS = Rate(per_second=200, burst=2_000)
STRANGERS_BYTES = Rate(per_second=(256 << 20) / 3600, burst=256 << 20)


class Allowances:
    """What is left to each key; beyond PEERS_MOST the one unused for longest is forgotten."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str, amount: float, now: float) -> float:
        """0 if the key may have `amount` now, else in how many seconds it may. Takes nothing."""
        return max(0.0, (amount - self._now(key, now)) / self._rate.per_second)

    def take(self, key: str, amount: float, now: float) -> None:
        """Afterwards `amount` is used up."""
        self._left[key] = (self._now(key, now) - amount, now)
        self._left.move_to_end(key)
        if len(self._left) > PEERS_MOST:
            self._left.popitem(last=False)

    def _now(self, key: str, now: float) -> float:
        left, at = self._left.get(key, (self._rate.burst, now))
        return min(self._rate.burst, left + (now - at) * self._rate.per_second)


class ServingQuota:
    """The allowances of all peers, in requests and bytes; `clock` never goes back."""

    def __init__(self, directory: Directory, clock: Callable[[], float]) -> None:
        self._named = frozenset(each.peer_id for each in directory.everybody)
        self._clock = clock
        self._requests = Allowances(REQUESTS)
        self._bytes = Allowances(BYTES)
        self._strangers_requests = Allowances(STRANGERS_REQUESTS)
        self._strangers_bytes = Allowances(STRANGERS_BYTES)

    def asked(self, peer_id: str, requests: int = 1) -> float:
        """0, and so many requests less, if the peer may ask now; else the seconds to wait."""
        return self._spend(peer_id, float(requests), self._requests, self._strangers_requests)

    def served(self, peer_id: str, size: int) -> float:
        """0, and `size` bytes less, if the peer may have them now; else the seconds to wait."""
        return self._spend(peer_id, float(size), self._bytes, self._strangers_bytes)

    def _spend(self, peer_id: str, amount: float, own: Allowances, shared: Allowances) -> float:
        now = self._clock()
        purses = [(own, peer_id)]
        if peer_id not in self._named:
            purses.append((shared, STRANGERS))
        wait_s = max(purse.wait_s(key, amount, now) for purse, key in purses)
        if not wait_s:
            for purse, key in purses:
                purse.take(key, amount, now)
        return wait_s
