"""What may come of asking a peer, and what this node sees of it."""

from dataclasses import dataclass

from node.errors import Fault
from protocol.ids import PeerId


class PeerUnreachable(Fault):
    """No connection to the peer could be had, or it broke before the answer."""

    def __init__(self, peer_id: str, reason: str) -> None:
        super().__init__(
            "peer-unreachable", f"Peer {peer_id} cannot be reached: {reason}.", peer_id=peer_id
        )


class PeerTimeout(Fault):
    """The peer did not answer in time. Whether it acted on the request is unknown."""

    def __init__(self, peer_id: str, protocol: str, timeout_s: float) -> None:
        super().__init__(
            "peer-timeout",
            f"Peer {peer_id} did not answer on {protocol} within {timeout_s:g} s.",
            peer_id=peer_id,
            protocol=protocol,
        )


class PeerRefused(Fault):
    """The peer does not serve the protocol, or reset the stream instead of answering."""

    def __init__(self, peer_id: str, protocol: str, reason: str) -> None:
        super().__init__(
            "peer-refused",
            f"Peer {peer_id} gave no answer on {protocol}: {reason}.",
            peer_id=peer_id,
            protocol=protocol,
        )


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What this node sees of one peer.

    `address` is where it is connected (`ip:port`), else the first address under which it is
    known. `last_seen`: Unix time in seconds, None if never. `failures`: dials that failed in a
    row. `round_trip_s`: the last ping. `penalty`: points that decay, 100 of them make a ban,
    of which `banned` is the reason. `trouble`: why the last dial failed, empty if none has.
    """

    peer_id: PeerId
    address: str
    connected: bool
    last_seen: float | None
    failures: int
    known: bool
    round_trip_s: float | None
    penalty: float
    banned: str | None
    trouble: str = ""
