"""Methods about organisations: who is who and by what right that is known; making oneself known."""

from dataclasses import asdict
from typing import Annotated, Any

import msgspec

from node import organisation_records
from node.api.rooms import Rooms
from node.directory import Organisation
from node.introducing import addresses_to_tell
from node.organisation_records import Declared
from node.rpc import Method, Parameters
from protocol.codec import Text
from protocol.ids import from_hexadecimal, hexadecimal
from protocol.organisation import MAX_ADDRESSES, Address

PAGE_MOST = 200
RIGHTS = {
    "own": "this node",
    "configuration": "northbund.toml",
    "chain": "bound on chain",
    "gossip": "bound by gossip",
}


class After(Parameters, frozen=True):
    """Where the page before ended; empty for the first."""

    after: Annotated[str, msgspec.Meta(max_length=64)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MOST)] = 100


class Published(Parameters, frozen=True):
    """For how long the binding is to hold, and what the record says.

    Without `addresses`, those at which this node listens.
    """

    valid_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 365
    description: Text = ""
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=MAX_ADDRESSES)] | None = None


def table(rooms: Rooms) -> list[Method]:
    """The methods of this room."""
    methods = OrganisationMethods(rooms)
    return [
        Method(
            "organisation_list",
            methods.every,
            After,
            "Who is who, and by what right that is known",
            {"limit": 100},
        ),
        Method(
            "organisation_publish",
            methods.publish,
            Published,
            "Bind this node's peer to its account on chain, and publish its record",
            {"valid_days": 365, "addresses": ["/ip4/192.0.2.1/tcp/4001"]},
        ),
        Method("organisation_end", methods.end, summary="End the binding on chain: no peer speaks"),
    ]


class OrganisationMethods:
    """What can be asked about organisations."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def every(self, given: After) -> dict[str, Any]:
        """This node, the configured ones, then by account those that chain and gossip tell of."""
        directory = self._rooms.house.directory
        configured = [] if given.after else [self._line(each) for each in directory.everybody]
        begin = from_hexadecimal(given.after, 20) if given.after else b""
        known = {each.account for each in directory.everybody}
        others = [
            account
            for account in directory.bindings.accounts(begin, given.limit + 1 + len(known))
            if account not in known
        ]
        page = others[: given.limit]
        found = [directory.of_account(account) for account in page]
        return {
            "organisations": [
                *configured,
                *(
                    self._line(each) if each else self._unbound(account)
                    for account, each in zip(page, found, strict=True)
                ),
            ],
            "after": hexadecimal(page[-1]) if len(others) > len(page) else "",
        }

    async def publish(self, given: Published) -> dict[str, Any]:
        """Two transactions: the binding, and the record unless it stands there already."""
        told = given.addresses
        if told is None:
            told = addresses_to_tell(self._rooms.host.addresses)
        done = await self._rooms.introducing.publish(given.valid_days, given.description, told)
        return asdict(done) | {"addresses": told}

    async def end(self, _: Parameters) -> dict[str, Any]:
        """One transaction."""
        return asdict(await self._rooms.introducing.end())

    def _line(self, each: Organisation) -> dict[str, Any]:
        directory = self._rooms.house.directory
        bound = directory.bindings.of_account(each.account)
        stands = each.source in ("own", "configuration")
        return {
            "name": each.name,
            "account": each.account,
            "peer_id": each.peer_id,
            "known_by": RIGHTS[each.source],
            "operator": each.operator,
            "bound_until": bound.valid_until if bound and bound.peer_id == each.peer_id else None,
            "conflict": bool(stands and bound is not None and bound.peer_id != each.peer_id),
            "says": self._says(each.account),
        }

    def _unbound(self, account: bytes) -> dict[str, Any]:
        return {
            "name": self._rooms.house.directory.name(account),
            "account": account,
            "peer_id": None,
            "known_by": "binding ended or past",
            "operator": None,
            "bound_until": None,
            "conflict": False,
            "says": self._says(account),
        }

    def _says(self, account: bytes) -> str | None:
        """The name by which the account calls itself on chain."""
        found: Declared | None = organisation_records.find(self._rooms.house.engine.db, account)
        return organisation_records.printable(found.name) if found else None
