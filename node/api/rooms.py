"""What the methods call: the rooms of one running node."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.errors import Fault

if TYPE_CHECKING:
    from node.catalogue_rooms import CatalogueRooms
    from node.chain_link import ChainLink
    from node.host import Host
    from node.house import House
    from node.introducing import Introducing
    from node.negotiations import Negotiations
    from node.publishing import Publishing
    from node.revocations import Revocations
    from node.sessions import Sessions
    from node.tasks import Tasks


@dataclass(slots=True)
class Rooms:
    """The daemon sets `unlocked_tasks` a moment after the start, with the account's key."""

    house: "House"
    host: "Host"
    link: "ChainLink"
    catalogue: "CatalogueRooms"
    publishing: "Publishing"
    negotiations: "Negotiations"
    sessions: "Sessions"
    revocations: "Revocations"
    introducing: "Introducing"
    started_at: float
    unlocked_tasks: "Tasks | None" = None

    @property
    def tasks(self) -> "Tasks":
        """Tasks on chain; Fault `daemon-starting` while the account is still locked."""
        if self.unlocked_tasks is None:
            raise Fault("daemon-starting", "the account is not unlocked yet")
        return self.unlocked_tasks
