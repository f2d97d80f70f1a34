"""Who is who, by this node's own configuration: names, accounts, peers, operators.

Trust is local. What an announcement, a manifest or a publisher says about who belongs together
counts for nothing here: only `[[organisations]]` does. An account that stands there nowhere has
no operator, and the floors count it as the recipient's.
"""

from dataclasses import dataclass

from node.config import Config, Organisation
from node.errors import Fault
from protocol.ids import Account, PeerId, hexadecimal


@dataclass(frozen=True, slots=True)
class Directory:
    """Every organisation that this node knows, itself included."""

    own: Organisation
    others: tuple[Organisation, ...]

    @classmethod
    def of(cls, config: Config, account: Account, peer_id: PeerId) -> "Directory":
        """The directory that `config` describes, for a node with this account and peer id."""
        own = Organisation(name=config.name, account=account, peer_id=peer_id, operator=config.name)
        return cls(own, tuple(each for each in config.organisations if each.account != account))

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
        return next((each for each in self.everybody if each.account == account), None)

    def of_peer(self, peer_id: str) -> Organisation | None:
        """The organisation that runs this peer, or None."""
        return next((each for each in self.everybody if each.peer_id == peer_id), None)

    def operator(self, account: bytes) -> str | None:
        """Who runs the machines of this account, or None if nobody here knows it."""
        organisation = self.of_account(account)
        return organisation.operator if organisation else None

    def name(self, account: bytes) -> str:
        """The account's name for people: the organisation's, or the account in hexadecimal."""
        organisation = self.of_account(account)
        return organisation.name if organisation else hexadecimal(account)

    def peer_of(self, account: bytes) -> PeerId:
        """The peer id of this account's node; Fault `peer-unknown` if none is configured."""
        organisation = self.of_account(account)
        if organisation is None:
            raise Fault("peer-unknown", f"no organisation here has account {hexadecimal(account)}")
        return organisation.peer_id
