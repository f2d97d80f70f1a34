"""The grants that a live session stands on, as this node sees them now.

Every node looks at every edge of the plan, not only at its own: what the chain says of a grant is
known to all, and expiry goes by the time of the newest confirmed block, so clocks may be apart.
"""

from sqlite_utils import Database

from node import grant_records
from node.house import House
from node.live_session import LiveSession
from protocol.ids import from_hexadecimal


def edge_ended(house: House, live: LiveSession) -> str | None:
    """Why the session has to stop: a grant under it is revoked or has expired; None if none is."""
    db = house.engine.db
    now = grant_records.chain_time(db, house.engine.clock())
    for leaf, owner in edges_of(live).items():
        ended = _own_word(db, leaf, live.algorithm, now) or _chains_word(
            db, leaf, live.algorithm, now
        )
        if ended is not None:
            return f"the grant of {house.directory.name(owner)} {ended}"
    return None


def edges_of(live: LiveSession) -> dict[bytes, bytes]:
    """The leaves that the session uses, with their owners: all data, and the compute that sits."""
    sitting = live.seating.members if live.seating else ()
    pool = live.plan.pool_owners
    every = {from_hexadecimal(cdt, 32): owner for cdt, owner in live.plan.owners.items()}
    return {leaf: owner for leaf, owner in every.items() if leaf not in pool or owner in sitting}


def grant_stands(db: Database, child: bytes, parent: bytes, *, above: int) -> bool:
    """True if a grant of this edge with a `seq` above this one is alive, kept here or on chain."""
    row = db.execute(
        "SELECT 1 FROM known_grants WHERE child = :child AND parent = :parent AND seq > :seq "
        "AND NOT revoked UNION SELECT 1 FROM chain_grants "
        "WHERE child = :child AND parent = :parent AND seq > :seq AND live",
        {"child": child, "parent": parent, "seq": above},
    ).fetchone()
    return row is not None


def _own_word(db: Database, child: bytes, parent: bytes, now: float) -> str | None:
    kept = grant_records.latest(db, child, parent)
    if kept is None:
        return None
    return _told(live=not kept.revoked, expiry=kept.terms.expiry, now=now)


def _chains_word(db: Database, child: bytes, parent: bytes, now: float) -> str | None:
    row = db.execute(
        "SELECT live, expiry FROM chain_grants WHERE child = ? AND parent = ? "
        "ORDER BY owner_epoch DESC, seq DESC LIMIT 1",
        [child, parent],
    ).fetchone()
    return _told(live=bool(row[0]), expiry=int(row[1]), now=now) if row else None


def _told(*, live: bool, expiry: int, now: float) -> str | None:
    if not live:
        return "was revoked"
    return "has expired" if expiry <= now else None
