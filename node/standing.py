"""What this node thinks of its peers: penalties that decay, and bans with a reason.

Peer ids are free to make, so a ban only costs the peer its connections and its address another
handshake; it protects time and memory, and it shows an operator who misbehaves. Time is an
argument, in seconds of any clock that does not go backwards.
"""

from collections import OrderedDict
from dataclasses import dataclass

BAN_AT = 100.0
BAN_S = 600.0
HALF_LIFE_S = 120.0
TABLE_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Ban:
    """`peer_id` is refused until `until` for `reason`, its last offence."""

    peer_id: str
    reason: str
    until: float


@dataclass(slots=True)
class _Record:
    penalty: float
    at: float


class Standing:
    """The penalties of the peers that earned some lately, and the bans in force.

    Bounded: beyond TABLE_LIMIT the record that was touched longest ago is forgotten.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._bans: OrderedDict[str, Ban] = OrderedDict()

    def penalise(self, peer_id: str, points: float, reason: str, now: float) -> Ban | None:
        """`points` are added to what is left of earlier ones; the ban if that makes one.

        A ban starts with a clean record: after it the peer has its whole credit again.
        """
        penalty = self.penalty(peer_id, now) + points
        if penalty < BAN_AT:
            self._records[peer_id] = _Record(penalty, now)
            self._records.move_to_end(peer_id)
            if len(self._records) > TABLE_LIMIT:
                self._records.popitem(last=False)
            return None
        self._records.pop(peer_id, None)
        ban = Ban(peer_id, reason, now + BAN_S)
        self.restore(ban)
        return ban

    def restore(self, ban: Ban) -> None:
        """`ban` is in force, whatever its peer did."""
        self._bans[ban.peer_id] = ban
        self._bans.move_to_end(ban.peer_id)
        if len(self._bans) > TABLE_LIMIT:
            self._bans.popitem(last=False)

    def penalty(self, peer_id: str, now: float) -> float:
        """The points of `peer_id`, halved every HALF_LIFE_S."""
        record = self._records.get(peer_id)
        if record is None:
            return 0.0
        return float(record.penalty * 0.5 ** ((now - record.at) / HALF_LIFE_S))

    def ban(self, peer_id: str, now: float) -> Ban | None:
        """The ban of `peer_id` that is in force, or None."""
        ban = self._bans.get(peer_id)
        if ban is not None and ban.until <= now:
            del self._bans[peer_id]
            return None
        return ban


class AuthorRate:
    """How much each author may say: `per_second` messages, `burst` of them at once.

    Bounded like Standing; an author that was forgotten has its whole burst again.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, author: str, now: float) -> bool:
        """Whether one more message of `author` is within its rate; it counts if it is."""
        left, at = self._left.get(author, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        allowed = left >= 1.0
        self._left[author] = (left - 1.0 if allowed else left, now)
        self._left.move_to_end(author)
        if len(self._left) > TABLE_LIMIT:
            self._left.popitem(last=False)
        return allowed


class ByteRate:
    """How fast each key may send: `per_second` bytes, as many at once as in one second.

    Bounded like AuthorRate; what was forgotten owes nothing.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, key: str, size: int, now: float) -> float:
        """The seconds that `key`, which sent `size` bytes, must wait; they count from now on."""
        paid = max(self._paid_until.get(key, 0.0), now - 1.0) + size / self._per_second
        self._paid_until[key] = paid
        self._paid_until.move_to_end(key)
        if len(self._paid_until) > TABLE_LIMIT:
            self._paid_until.popitem(last=False)
        return max(0.0, paid - now)
