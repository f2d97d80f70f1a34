"""What keeps a node's catalogue: hearing, announcing and reconciling, joined in one place."""

from dataclasses import dataclass

import trio

from node.announcements import Announcements
from node.announcing import Announcing
from node.catalogue import Catalogue
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine
from node.host import Host
from node.keys import PeerKey
from node.reconcile_schedule import ReconcileSchedule
from node.reconcile_service import ReconcileService
from node.reconciling import Reconciling
from node.unwanted import Unwanted


@dataclass(frozen=True, slots=True)
class CatalogueRooms:
    """The rooms; `run` is to be started once."""

    announcements: Announcements
    catalogue: Catalogue
    announcing: Announcing
    reconciling: Reconciling
    service: ReconcileService
    schedule: ReconcileSchedule

    @classmethod
    def of(
        cls,
        engine: Engine,
        host: Host,
        directory: Directory,
        key: PeerKey,
        exchange: DocumentExchange,
    ) -> "CatalogueRooms":
        """They serve, and listen to gossip, from now on."""
        announcements, unwanted = Announcements(engine), Unwanted(trio.current_time)
        catalogue = Catalogue(engine, host, directory, exchange, announcements)
        announcing = Announcing(engine, host, directory, key, announcements)
        reconciling = Reconciling(host, catalogue, announcements, unwanted)
        service = ReconcileService(host, catalogue, announcements, unwanted)
        schedule = ReconcileSchedule(host, reconciling)
        for tell in (announcing.on_announced, service.on_taken, catalogue.on_promoted):
            tell(schedule.soon)
        catalogue.on_promoted(unwanted.forget)
        return cls(announcements, catalogue, announcing, reconciling, service, schedule)

    async def run(self) -> None:
        """Announces, reconciles and tidies for as long as the node lives."""
        async with trio.open_nursery() as nursery:
            for room in (self.catalogue, self.announcing, self.schedule):
                nursery.start_soon(room.run)
