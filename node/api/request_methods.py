"""Methods about the requests that wait for a person of this node: look, approve, refuse."""

import json
from typing import Annotated, Any

import msgspec

from node import assets, negotiation_records, referrals
from node.api.rooms import Rooms
from node.errors import Fault
from node.referrals import Referral
from node.rpc import Method, Parameters
from protocol.contract_request import step_for
from protocol.errors import RemoteProtocolError
from protocol.ids import from_hexadecimal
from protocol.terms import describe

EXAMPLE = "0x" + "11" * 32


class Listed(Parameters, frozen=True):
    """`decided`: those too that were decided, or ended without a decision."""

    decided: bool = False


class OfId(Parameters, frozen=True):
    """One request, by its negotiation's id."""

    id: str


class Decision(Parameters, frozen=True):
    """`by` says who decides, as far as the caller knows; a refusal's `remark` is told as reason."""

    id: str
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=120)] = "the holder of rpc.cookie"
    remark: Annotated[str, msgspec.Meta(max_length=500)] = ""


def table(rooms: Rooms) -> list[Method]:
    """The methods of this room."""
    methods = RequestMethods(rooms)
    one = {"id": EXAMPLE}
    return [
        Method(
            "request_list",
            methods.every,
            Listed,
            "Requests that wait for a person of this node, the most urgent first",
        ),
        Method("request_show", methods.show, OfId, "One request with every finding", one),
        Method(
            "request_approve",
            methods.approve,
            Decision,
            "Waive what the terms refer to a person, and sign the grant",
            one,
        ),
        Method("request_refuse", methods.refuse, Decision, "Refuse a request, with a reason", one),
    ]


class RequestMethods:
    """Runs the methods over one node's rooms."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def every(self, given: Listed) -> list[dict[str, Any]]:
        """What waits, or all that ever waited."""
        found = referrals.every(self._db) if given.decided else referrals.waiting(self._db)
        return [self._line(each) for each in found]

    async def show(self, given: OfId) -> dict[str, Any]:
        """Who asks for what, what each constraint says of it, who decided."""
        process = from_hexadecimal(given.id, 32)
        referral = referrals.find(self._db, process)
        if referral is None:
            raise Fault("request-unknown", f"no request {given.id:.80} was referred to you")
        known = negotiation_records.known(self._db, process)
        wanted = known.wanted
        return self._line(referral) | {
            "operation": self._operation(known.child, known.parent),
            "price": wanted.pay_amount,
            "uses": wanted.uses,
            "expires": wanted.expires,
            "attester": self._rooms.house.directory.name(wanted.attester),
            "findings": json.loads(known.findings),
        }

    async def approve(self, given: Decision) -> dict[str, Any]:
        """The grant is signed; the waiver is kept with it."""
        process = from_hexadecimal(given.id, 32)
        self._rooms.negotiations.provider.approve(process, given.by, given.remark)
        return await self.show(OfId(id=given.id))

    async def refuse(self, given: Decision) -> dict[str, Any]:
        """The request is over; the other side is told why."""
        process = from_hexadecimal(given.id, 32)
        self._rooms.negotiations.provider.refuse(process, given.by, given.remark)
        return await self.show(OfId(id=given.id))

    def _line(self, each: Referral) -> dict[str, Any]:
        known = negotiation_records.known(self._db, each.process)
        return {
            "id": each.process,
            "counterparty": self._rooms.house.directory.name(known.counterparty),
            "child": known.child,
            "child_name": self._name(known.child),
            "parent": known.parent,
            "parent_name": self._name(known.parent),
            "state": known.state,
            "to_decide": [describe(operand) for operand in sorted(each.waivable)],
            "asked_at": each.asked_at,
            "until": each.until,
            "decision": each.decision,
            "decided_by": each.decided_by,
            "decided_at": each.decided_at,
            "remark": each.remark,
        }

    def _operation(self, child: bytes, parent: bytes) -> str:
        try:
            _, metadata = assets.confirmed(self._db, parent)
            return step_for(metadata, child)[1].operation
        except (Fault, RemoteProtocolError):  # taken back by a reorganisation meanwhile
            return "unknown"

    def _name(self, cdt: bytes) -> str:
        asset = assets.find(self._db, cdt)
        return asset.name if asset else ""

    @property
    def _db(self) -> Any:
        return self._rooms.house.engine.db
