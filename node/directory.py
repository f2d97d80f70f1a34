"""Who is who: names, accounts, peers, operators, and by what right each is known.

This node's own configuration comes first: what `[[organisations]]` says of an account stands,
whatever chain or gossip say. Of other accounts, the peer that speaks for one is known by a
binding (`node.bindings`), its name by its record on chain, which anybody may write: so that name
is always shown with the account, and terms are written with configured names or accounts alone.

Trust stays local. Who runs whose machines is known from the configuration only; an account that
stands there nowhere has no operator, and the floors count it as the recipient's.
"""

from dataclasses import dataclass
from typing import Literal

from node import organisation_records
from node.bindings import Bindings, Bound
from node.config import Config
from node.errors import Fault
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, PeerId, hexadecimal
from protocol.peers import peer_key

Source = Literal["own", "configuration", "chain", "gossip"]


@dataclass(frozen=True, slots=True)
class Organisation:
    """An organisation as this node knows it; `operator` is None where nobody here knows it."""

    name: str
    account: Account
    peer_id: PeerId
    source: Source
    addresses: tuple[str, ...] = ()
    operator: str | None = None


class Directory:
    """Every organisation that this node knows, itself included."""

    def __init__(
        self, own: Organisation, others: tuple[Organisation, ...], bindings: Bindings
    ) -> None:
        self.own = own
        self.others = others
        self.bindings = bindings
        self._by_account = {each.account: each for each in (*reversed(others), own)}
        self._by_peer = {each.peer_id: each for each in (*reversed(others), own)}

    @classmethod
    def of(
        cls, config: Config, account: Account, peer_id: PeerId, bindings: Bindings
    ) -> "Directory":
        """The directory that `config` describes, for a node with this account and peer id."""
        own = Organisation(config.name, account, peer_id, "own", operator=config.name)
        others = tuple(
            Organisation(
                name=each.name,
                account=each.account,
                peer_id=each.peer_id,
                source="configuration",
                addresses=each.addresses,
                operator=each.operator,
            )
            for each in config.organisations
            if each.account != account
        )
        return cls(own, others, bindings)

    @property
    def everybody(self) -> tuple[Organisation, ...]:
        """This organisation, then the others in the configuration's order."""
        return (self.own, *self.others)

    @property
    def accounts(self) -> dict[str, Account]:
        """name -> account, for terms that an administrator writes with names."""
        return {each.name: each.account for each in self.everybody}

    def of_account(self, account: bytes) -> Organisation | None:
        """The organisation that this chain account belongs to, or None."""
        configured = self._by_account.get(Account(account))
        return configured or self._stranger(self.bindings.of_account(account))

    def of_peer(self, peer_id: str) -> Organisation | None:
        """The organisation that runs this peer, or None."""
        configured = self._by_peer.get(PeerId(peer_id))
        if configured is not None:
            return configured
        bound = self.bindings.of_peer(peer_id)
        return None if bound and bound.account in self._by_account else self._stranger(bound)

    def bound(self, account: bytes, key: bytes) -> bool:
        """True if the peer with this Ed25519 public key speaks for the account."""
        organisation = self.of_account(account)
        try:
            return organisation is not None and peer_key(organisation.peer_id) == key
        except RemoteProtocolError:  # of a peer id in the configuration that holds no key
            return False

    def operator(self, account: bytes) -> str | None:
        """Who runs the machines of this account, or None if nobody here knows it."""
        configured = self._by_account.get(Account(account))
        return configured.operator if configured else None

    def name(self, account: bytes) -> str:
        """The account's name for people: the organisation's, or the account in hexadecimal.

        A name that is known from the chain alone stands before the account, which proves it.
        """
        configured = self._by_account.get(Account(account))
        if configured is not None:
            return configured.name
        return organisation_records.shown_name(self.bindings.db, account)

    def peer_of(self, account: bytes) -> PeerId:
        """The peer id of this account's node; Fault `peer-unknown` if none is known."""
        organisation = self.of_account(account)
        if organisation is None:
            raise Fault("peer-unknown", f"no organisation here has account {hexadecimal(account)}")
        return organisation.peer_id

    def _stranger(self, bound: Bound | None) -> Organisation | None:
        if bound is None:
            return None
        return Organisation(self.name(bound.account), bound.account, bound.peer_id, bound.source)
