"""Methods about the node itself: status, peers, chain, payments."""

from importlib.metadata import version
from typing import Any

from node import assets, session_records, task_records
from node.api.rooms import Rooms
from node.rpc import Method, Parameters
from protocol.task import SESSION


def table(rooms: Rooms) -> list[Method]:
    """The methods of this room."""
    node = NodeMethods(rooms)
    return [
        Method("node_status", node.status, summary="How the node is"),
        Method("peer_list", node.peers, summary="Who this node is connected to"),
        Method("chain_status", node.chain, summary="The chain as this node sees it"),
        Method("chain_gas", node.gas, summary="Gas of this node's transactions, by kind"),
        Method("payment_list", node.payments, summary="What tasks paid to this node"),
        Method("payment_withdraw", node.withdraw, summary="Withdraw this account's credit"),
    ]


class NodeMethods:
    """What can be asked of the node as a whole."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def status(self, _: Parameters) -> dict[str, Any]:
        """Name, keys, peers, chain, assets and sessions in one look."""
        rooms, house = self._rooms, self._rooms.house
        db = house.engine.db
        own = house.directory.own
        live = [each for each in session_records.every(db) if not SESSION.is_final(each.state)]
        return {
            "name": own.name,
            "version": version("northbund"),
            "network": house.config.network,
            "peer_id": own.peer_id,
            "account": own.account,
            "addresses": rooms.host.addresses,
            "unlocked": rooms.unlocked_tasks is not None,
            "uptime_s": round(house.engine.clock() - rooms.started_at, 3),
            "peers": sum(1 for peer in rooms.host.peers() if peer.connected),
            "chain": await self.chain(_),
            "assets": assets.counted(db),
            "sessions_running": [each.session for each in live],
        }

    async def peers(self, _: Parameters) -> list[dict[str, Any]]:
        """Every known peer with its organisation, by this node's configuration."""
        found = []
        for peer in self._rooms.host.peers():
            organisation = self._rooms.house.directory.of_peer(peer.peer_id)
            found.append(
                {
                    "organisation": organisation.name if organisation else None,
                    "peer_id": peer.peer_id,
                    "address": peer.address,
                    "connected": peer.connected,
                    "last_seen": peer.last_seen,
                    "failures": peer.failures,
                    "trouble": peer.trouble,
                    "penalty": round(peer.penalty, 1),
                    "banned": peer.banned,
                }
            )
        return found

    async def chain(self, _: Parameters) -> dict[str, Any]:
        """Where the chain is, how far this node has followed it, and what is wrong with it."""
        link, chain = self._rooms.link, self._rooms.house.chain
        return {
            "url": chain.url,
            "chain_id": chain.chain_id,
            "registry": chain.registry,
            "market": chain.market,
            "token": chain.token,
            "connected": not link.trouble,
            "trouble": link.trouble,
            "block": link.block,
            "endpoints": [
                {
                    "url": each.url,
                    "block": each.head,
                    "age_s": round(each.age_s),
                    "trouble": each.trouble,
                }
                for each in link.endpoints
            ],
        }

    async def gas(self, _: Parameters) -> dict[str, dict[str, int]]:
        """For each kind of transaction that this node sent: how many, and gas for each."""
        figures = self._rooms.link.gas_by_kind()
        return {
            kind: {"count": count, "gas_total": gas, "gas_each": gas // count}
            for kind, (count, gas) in figures.items()
        }

    async def payments(self, _: Parameters) -> dict[str, Any]:
        """This account's balance, its credit, and what each settled task gave to it."""
        house, tasks = self._rooms.house, self._rooms.tasks
        own = house.directory.own.account
        earned = [
            {"task": record.task, "state": record.state, "amount": str(amount)}
            for record in task_records.every(house.engine.db)
            if (amount := task_records.owed_to(record, own))
        ]
        return {
            "balance": str(await tasks.balance()),
            "credit": str(await tasks.credit()),
            "tasks": earned,
        }

    async def withdraw(self, _: Parameters) -> dict[str, str]:
        """Pays out this account's credit."""
        return {"withdrawn": str(await self._rooms.tasks.withdraw())}
