"""Methods about contracts: negotiate, grants given and received, revoke."""

import json
import secrets
from typing import Annotated, Any

import msgspec

from node import assets, grant_records, negotiation_records
from node.api.rooms import Rooms
from node.composing import price_of
from node.errors import Fault
from node.grant_records import KeptGrant
from node.negotiation_records import Negotiation
from node.rpc import Method, Parameters
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.messages import ContractRequest
from protocol.negotiation import State
from protocol.negotiation_consumer import Limits

EXAMPLE = "0x" + "11" * 32
GRANT_LIFE_S = 7 * 86_400
MOST_S = 3650 * 86_400
VALID_LEAST_S = 86_400
"""A grant that an owner offers for a shorter time than was asked, but for a day, is taken."""


class Start(Parameters, frozen=True):
    """Which algorithm; `children` names the leaves to ask for, all if it is empty.

    Counter-offers are accepted at once if their price is at most `pay_most` (the document's, if
    left out), their uses at least `uses_least` (as asked), their time at least `valid_least_s`,
    and if this node trusts their attester and decider. Others wait for a person.
    """

    algorithm: str
    children: tuple[str, ...] = ()
    uses: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] = 1
    valid_s: Annotated[int, msgspec.Meta(ge=1, le=MOST_S)] = GRANT_LIFE_S
    pay_most: Annotated[str, msgspec.Meta(pattern=r"\A(0|[1-9][0-9]{0,28})\Z")] | None = None
    uses_least: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] | None = None
    valid_least_s: Annotated[int, msgspec.Meta(ge=1, le=MOST_S)] | None = None


class OfId(Parameters, frozen=True):
    """One negotiation."""

    id: str


class Listed(Parameters, frozen=True):
    """At most `limit`; `after` is the id that stood last on the page before."""

    state: State | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 200
    after: str = ""


class Edge(Parameters, frozen=True):
    """One edge: an asset and what it is used under."""

    child: str
    parent: str


def table(rooms: Rooms) -> list[Method]:
    """The methods of this room."""
    methods = ContractMethods(rooms)
    edge = {"child": EXAMPLE, "parent": EXAMPLE}
    return [
        Method(
            "negotiation_start",
            methods.start,
            Start,
            "Ask every owner of an algorithm's children for its grant",
            {"algorithm": EXAMPLE},
        ),
        Method(
            "negotiation_list",
            methods.listed,
            Listed,
            "Negotiations of this node on either side, the latest begun first",
            {"state": "OFFERED"},
        ),
        Method("negotiation_show", methods.show, OfId, "One negotiation", {"id": EXAMPLE}),
        Method(
            "negotiation_accept",
            methods.accept,
            OfId,
            "Take the counter-offer that waits for a person",
            {"id": EXAMPLE},
        ),
        Method(
            "negotiation_withdraw",
            methods.withdraw,
            OfId,
            "Give a negotiation up, before its grant is held",
            {"id": EXAMPLE},
        ),
        Method("grant_list", methods.grants, summary="Grants given and received"),
        Method("grant_revoke", methods.revoke, Edge, "Take a grant back", edge),
    ]


class ContractMethods:
    """What can be asked about negotiations and grants."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def start(self, given: Start) -> list[dict[str, Any]]:
        """One process for each leaf; poll `negotiation_show` until each is final."""
        algorithm = from_hexadecimal(given.algorithm, 32)
        asset, _ = assets.confirmed(self._db, algorithm)
        if asset.kind != "algorithm":
            name = asset.name or given.algorithm
            raise Fault("input-invalid", f"{name} is no algorithm: grants are for an algorithm")
        wanted = [from_hexadecimal(child, 32) for child in given.children]
        leaves = wanted or list(assets.children(self._db, algorithm))
        requests = [self._request(leaf, algorithm, given) for leaf in leaves]
        limits = [self._limits(request, given) for request in requests]
        for request, limit in zip(requests, limits, strict=True):
            self._rooms.negotiations.start(request, limit)
        return [await self.show(OfId(id=hexadecimal(request.process))) for request in requests]

    def _request(self, child: bytes, algorithm: bytes, given: Start) -> ContractRequest:
        house = self._rooms.house
        parent, _ = assets.confirmed(self._db, algorithm)
        _, document = assets.confirmed(self._db, child)
        attesters = sorted(house.config.attesters())
        decider = house.config.trust.decider
        if not attesters or decider is None:
            raise Fault(
                "config-invalid",
                "northbund.toml names no [trust] attesters or no decider to propose to the owners",
            )
        return ContractRequest(
            process=secrets.token_bytes(32),
            child=child,
            parent=algorithm,
            parent_proof=parent.proof,
            consumer=house.directory.own.account,
            attester=attesters[0],
            decider=decider,
            pay_amount=self._pay(price_of(document).amount, given),
            uses=given.uses,
            expires=int(house.engine.clock()) + given.valid_s,
        )

    def _pay(self, price: str, given: Start) -> str:
        return price if given.pay_most is None else str(min(int(price), int(given.pay_most)))

    def _limits(self, request: ContractRequest, given: Start) -> Limits:
        shortest = min(given.valid_s, VALID_LEAST_S)
        least_s = shortest if given.valid_least_s is None else given.valid_least_s
        now = request.expires - given.valid_s
        return Limits(
            pay_most=given.pay_most or request.pay_amount,
            uses_least=given.uses_least or request.uses,
            expires_least=now + least_s,
            attesters=tuple(sorted(self._rooms.house.config.attesters())),
            deciders=(request.decider,),
        )

    async def listed(self, given: Listed) -> list[dict[str, Any]]:
        """A page of negotiations; Fault `negotiation-unknown` if `after` is none."""
        after = from_hexadecimal(given.after, 32) if given.after else None
        if after is not None:
            negotiation_records.known(self._db, after)
        found = negotiation_records.page(self._db, given.limit, after, given.state)
        return [self._line(each) for each in found]

    async def show(self, given: OfId) -> dict[str, Any]:
        """One negotiation with what each constraint said."""
        return self._line(negotiation_records.known(self._db, from_hexadecimal(given.id, 32)))

    async def accept(self, given: OfId) -> dict[str, Any]:
        """The offer is accepted; its owner's node is told until it answers."""
        self._rooms.negotiations.consumer.accept(from_hexadecimal(given.id, 32))
        return await self.show(given)

    async def withdraw(self, given: OfId) -> dict[str, Any]:
        """The process is over here; its owner's node is told until it knows."""
        self._rooms.negotiations.consumer.withdraw(from_hexadecimal(given.id, 32))
        return await self.show(given)

    async def grants(self, _: Parameters) -> list[dict[str, Any]]:
        """Every signed grant that this node gave or holds."""
        return [self._grant(each) for each in grant_records.every(self._db)]

    async def revoke(self, given: Edge) -> dict[str, Any]:
        """The grant is void and sessions under it stop; whether the chain has it by now."""
        child, parent = from_hexadecimal(given.child, 32), from_hexadecimal(given.parent, 32)
        on_chain = await self._rooms.revocations.revoke(child, parent)
        return {"revoked": True, "on_chain": on_chain}

    def _line(self, each: Negotiation) -> dict[str, Any]:
        findings = json.loads(each.findings)
        return {
            "id": each.process,
            "side": each.side,
            "counterparty": self._rooms.house.directory.name(each.counterparty),
            "child": each.child,
            "child_name": self._name(each.child),
            "parent": each.parent,
            "parent_name": self._name(each.parent),
            "state": each.state,
            "sentence": each.sentence,
            "deadline_at": each.deadline,
            "offer": self._offer(each),
            "findings": findings,
            "failed": [finding for finding in findings if not finding["passed"]],
        }

    def _offer(self, each: Negotiation) -> dict[str, Any] | None:
        offer = each.newest_offer
        if offer is None:
            return None
        name = self._rooms.house.directory.name
        return {
            "number": offer.number,
            "price": offer.price,
            "uses": offer.uses,
            "expires": offer.expires,
            "attester": name(offer.attester),
            "decider": name(offer.decider),
        }

    def _grant(self, kept: KeptGrant) -> dict[str, Any]:
        grant = kept.terms
        own = self._rooms.house.directory.own.account
        return {
            "given": kept.owner == own,
            "child": grant.child,
            "child_name": self._name(grant.child),
            "parent": grant.parent,
            "parent_name": self._name(grant.parent),
            "owner": self._rooms.house.directory.name(Account(grant.owner)),
            "consumer": self._rooms.house.directory.name(Account(grant.consumer)),
            "price": grant.price,
            "uses": grant.max_uses,
            "uses_counted": kept.uses_counted,
            "expires": grant.expiry,
            "seq": grant.seq,
            "revoked": bool(kept.revoked),
            "withdrawn": bool(kept.withdrawn),
            "waived": sorted(kept.waived_operands),
        }

    def _name(self, cdt: bytes) -> str:
        asset = assets.find(self._db, cdt)
        return asset.name if asset else ""

    @property
    def _db(self) -> Any:
        return self._rooms.house.engine.db
