"""Methods about contracts: negotiate, explain, grants given and received, revoke."""

import json
import secrets
from typing import Any

from node import assets, grant_records, negotiations
from node.api.rooms import Rooms
from node.errors import Fault
from node.grant_records import KeptGrant
from node.negotiations import Negotiation
from node.publishing import price_of
from node.rpc import Method, Parameters
from protocol import codec
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.messages import ContractRequest

EXAMPLE = "0x" + "11" * 32
GRANT_LIFE_S = 7 * 86_400


class Start(Parameters, frozen=True):
    """Which algorithm; `children` names the leaves to ask for, all if it is empty."""

    algorithm: str
    children: tuple[str, ...] = ()
    uses: int = 1
    valid_s: int = GRANT_LIFE_S


class OfId(Parameters, frozen=True):
    """One negotiation."""

    id: str


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
        Method("negotiation_list", methods.every, summary="All negotiations, the latest first"),
        Method("negotiation_show", methods.show, OfId, "One negotiation", {"id": EXAMPLE}),
        Method(
            "terms_explain",
            methods.explain,
            Edge,
            "How this node's terms would answer a request for one edge today, and why",
            edge,
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
        wanted = [from_hexadecimal(child, 32) for child in given.children]
        leaves = wanted or list(assets.children(self._db, algorithm))
        requests = [self._request(leaf, algorithm, given) for leaf in leaves]
        for request in requests:
            self._rooms.negotiations.start(request)
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
            pay_amount=price_of(document).amount,
            uses=given.uses,
            expires=int(house.engine.clock()) + given.valid_s,
        )

    async def every(self, _: Parameters) -> list[dict[str, Any]]:
        """Every negotiation of this node, on either side."""
        return [self._line(each) for each in negotiations.every(self._db)]

    async def show(self, given: OfId) -> dict[str, Any]:
        """One negotiation with what each constraint said."""
        found = negotiations.find(self._db, from_hexadecimal(given.id, 32))
        if found is None:
            raise Fault("negotiation-unknown", f"no negotiation {given.id:.80} is known here")
        return self._line(found)

    async def explain(self, given: Edge) -> dict[str, Any]:
        """The findings for the latest request that came for this edge, by today's terms."""
        child, parent = from_hexadecimal(given.child, 32), from_hexadecimal(given.parent, 32)
        asked = [
            each
            for each in negotiations.every(self._db)
            if (each.child, each.parent, each.side) == (child, parent, "provider")
        ]
        if not asked:
            raise Fault("negotiation-unknown", "nobody has asked this node for that edge")
        request = codec.decode(asked[0].request, ContractRequest)
        judgement = self._rooms.house.judging.judge_again(request)
        return {
            "verdict": judgement.verdict,
            "findings": negotiations.plain(judgement.findings),
        }

    async def grants(self, _: Parameters) -> list[dict[str, Any]]:
        """Every signed grant that this node gave or holds."""
        return [self._grant(each) for each in grant_records.every(self._db)]

    async def revoke(self, given: Edge) -> dict[str, Any]:
        """The grant is void: sessions under it stop at once, the chain follows."""
        child, parent = from_hexadecimal(given.child, 32), from_hexadecimal(given.parent, 32)
        await self._rooms.tasks.revoke(child, parent)
        return {"revoked": True}

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
            "findings": findings,
            "failed": [finding for finding in findings if not finding["passed"]],
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
        }

    def _name(self, cdt: bytes) -> str:
        asset = assets.find(self._db, cdt)
        return asset.name if asset else ""

    @property
    def _db(self) -> Any:
        return self._rooms.house.engine.db
