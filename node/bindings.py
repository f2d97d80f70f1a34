"""Who speaks for an account, beyond this node's own configuration: by the chain, by gossip.

The chain's newest binding wins over gossip while it is in force. Where the chain has none, or its
newest has ended, a gossiped one counts if its `seq` is higher than the chain's. Within each, a
higher `seq` takes the place of a lower one, and one that names no peer ends the matter.

Adversary: keys are free to make, so what gossip says is kept for accounts alone that own an
asset which the followed chain has registered: to fill this table costs gas.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from sqlite_utils import Database

from node.engine import Transaction
from node.log import get_logger
from node.rows import first, select
from protocol import binding as bindings
from protocol import codec, typed_data
from protocol.binding import Binding
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, PeerId
from protocol.peers import peer_id_from, peer_key
from protocol.typed_data import Bind, Domain

log = get_logger("bindings")

MOST_NUMBER: Final = 2**53 - 1
"""What a wire message can say; the chain's 64 bits are told as this at most."""

OF_ACCOUNT: Final = "bindings WHERE account = ? ORDER BY source = 'chain' DESC"
OF_PEER: Final = "bindings WHERE peer_id = ? ORDER BY source = 'chain' DESC, account LIMIT 16"


@dataclass(frozen=True, slots=True)
class Bound:
    """One checked binding as it is kept; without `peer_id` it ends what was before."""

    account: Account
    source: Literal["chain", "gossip"]
    peer_id: PeerId
    valid_until: int
    seq: int


class Bindings:
    """The bindings that this node has heard of and checked, in its database."""

    def __init__(self, db: Database, domain: Domain, clock: Callable[[], float]) -> None:
        self.db = db
        self._domain = domain
        self._clock = clock

    def of_account(self, account: bytes) -> Bound | None:
        """The binding of this account that counts now, or None."""
        ended = -1
        for each in select(self.db, Bound, OF_ACCOUNT, [account]):
            if each.seq <= ended:
                break
            if self._is_in_force(each):
                return each
            ended = each.seq
        return None

    def of_peer(self, peer_id: str) -> Bound | None:
        """A binding that counts now and names this peer, or None."""
        for each in select(self.db, Bound, OF_PEER, [peer_id]) if peer_id else ():
            if self.of_account(each.account) == each:
                return each
        return None

    def accounts(self, after: bytes, limit: int) -> list[Account]:
        """At most `limit` accounts above `after` that have ever bound a peer, in rising order."""
        sql = "SELECT DISTINCT account FROM bindings WHERE account > ? ORDER BY account LIMIT ?"
        return [Account(account) for (account,) in self.db.execute(sql, [after, limit]).fetchall()]

    def has_ended(self, account: bytes) -> bool:
        """True if the chain's newest word of this account is that no peer speaks for it."""
        newest = first(self.db, Bound, "bindings WHERE account = ? AND source = 'chain'", [account])
        return newest is not None and not newest.peer_id

    def latest_seq(self, account: bytes) -> int:
        """The highest `seq` that this account has used, as far as is known here."""
        sql = "SELECT coalesce(max(seq), 0) FROM bindings WHERE account = ?"
        return int(self.db.execute(sql, [account]).fetchone()[0])

    def is_news(self, heard: Binding, now: float) -> bool:
        """True if the gossiped binding would be the newest of its account, and would be kept.

        False if it is old, or of an account that owns nothing on the followed chain.
        RemoteProtocolError if it is past.
        """
        if not bindings.holds_at(heard.valid_until, now):
            raise RemoteProtocolError("the binding is past")
        return heard.seq > self.latest_seq(heard.account) and self._owns_something(heard.account)

    def check(self, heard: Binding) -> None:
        """RemoteProtocolError unless the account and the peer have signed the binding."""
        bindings.check(heard, self._domain)

    def hear(self, tx: Transaction, heard: Binding) -> bool:
        """True if the gossiped binding is news (`is_news`), and is kept from now on.

        RemoteProtocolError if it is past or a signature is wrong.
        """
        if not self.is_news(heard, tx.now):
            return False
        self.check(heard)
        self.keep(tx, heard)
        return True

    def keep(self, tx: Transaction, checked: Binding) -> None:
        """Afterwards this checked binding is what gossip says of its account."""
        values = [checked.peer_id, checked.valid_until, checked.seq, codec.encode(checked)]
        tx.db.execute(
            "INSERT OR REPLACE INTO bindings VALUES (?, 'gossip', ?, ?, ?, ?)",
            [checked.account, *values],
        )

    def signed(self, account: bytes) -> Binding | None:
        """The doubly signed binding of this account that counts now, for showing to others."""
        current = self.of_account(account)
        if current is None or current.source == "chain":
            return None
        sql = "SELECT body FROM bindings WHERE account = ? AND source = 'gossip'"
        return codec.decode(self.db.execute(sql, [account]).fetchone()[0], Binding)

    # ------------------------------------------------------------------ the chain's

    def follow(self, tx: Transaction, account: bytes) -> None:
        """Afterwards the chain's part is what the followed chain says of this account, checked.

        A statement that the peer has not signed ends what was before, as the account wished.
        """
        tx.db.execute("DELETE FROM bindings WHERE account = ? AND source = 'chain'", [account])
        row = tx.db.execute(
            "SELECT seq, valid_until, peer_id, peer_signature FROM chain_bindings "
            "WHERE account = ?",
            [account],
        ).fetchone()
        if row is None:
            return
        seq, valid_until = int(row[0]), int(row[1])
        message = Bind(Account(account), bytes(row[2]), valid_until, seq)
        tx.db.execute(
            "INSERT INTO bindings VALUES (?, 'chain', ?, ?, ?, x'')",
            [
                account,
                self._proved(message, bytes(row[3])),
                min(valid_until, MOST_NUMBER),
                min(seq, MOST_NUMBER),
            ],
        )

    def take_back(self, tx: Transaction) -> None:
        """Afterwards the chain's part is that of the events which are left.

        What gossip said of accounts that own nothing on chain any more goes with it.
        """
        rows = tx.db.execute(
            "SELECT account FROM bindings WHERE source = 'chain' UNION "
            "SELECT account FROM chain_bindings"
        )
        for (account,) in rows.fetchall():
            self.follow(tx, account)
        tx.db.execute(
            "DELETE FROM bindings WHERE source = 'gossip' AND account NOT IN "
            "(SELECT owner FROM assets WHERE state != 'announced')"
        )

    def _proved(self, message: Bind, signature: bytes) -> str:
        if not message.peer_id:
            return ""
        try:
            peer_id = peer_id_from(message.peer_id)
            digest = typed_data.digest(self._domain, message)
            bindings.check_peer(digest, peer_key(peer_id), signature)
        except RemoteProtocolError as error:
            log.info("binding on chain refused", account=message.account.hex(), why=str(error))
            return ""
        return peer_id

    def _is_in_force(self, bound: Bound) -> bool:
        return bool(bound.peer_id) and bindings.holds_at(bound.valid_until, self._clock())

    def _owns_something(self, account: bytes) -> bool:
        sql = "assets WHERE owner = ? AND state != 'announced'"
        return first(self.db, _Owner, sql, [account]) is not None


@dataclass(frozen=True, slots=True)
class _Owner:
    owner: bytes
