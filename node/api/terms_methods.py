"""Methods about terms of use: why they permit or refuse, and second thoughts about grants given."""

from typing import Any

from node import assets, config, negotiation_records, terms_review
from node.api.rooms import Rooms
from node.errors import Fault
from node.rpc import Method, Parameters
from node.terms_review import Reviewed
from protocol.ids import Account, from_hexadecimal

EXAMPLE = "0x" + "11" * 32


class Asked(Parameters, frozen=True):
    """A negotiation, or an algorithm; with `child` one edge of that algorithm."""

    request: str
    child: str | None = None


def table(rooms: Rooms) -> list[Method]:
    """The methods of this room."""
    methods = TermsMethods(rooms)
    return [
        Method(
            "terms_explain",
            methods.explain,
            Asked,
            "Why terms permit or refuse a negotiation, an edge or a whole algorithm",
            {"request": EXAMPLE},
        ),
        Method(
            "terms_reload",
            methods.reload,
            summary="Take the terms of northbund.toml into force for new requests",
        ),
        Method(
            "grant_review",
            methods.review,
            summary="What today's terms would say of each grant given that is alive",
        ),
        Method(
            "grant_revoke_failing",
            methods.revoke_failing,
            summary="Take back every grant that today's terms would not give",
        ),
    ]


class TermsMethods:
    """What can be asked about terms."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def explain(self, given: Asked) -> dict[str, Any]:
        """Constraint by constraint: what was asked, what is allowed, and whether it passed."""
        house, asked = self._rooms.house, from_hexadecimal(given.request, 32)
        if given.child is not None:
            return terms_review.explain_edge(house, from_hexadecimal(given.child, 32), asked)
        if negotiation_records.find(house.engine.db, asked) is not None:
            return terms_review.explain(house, asked)
        if assets.find(house.engine.db, asked) is not None:
            return terms_review.explain_algorithm(house, asked)
        raise Fault(
            "negotiation-unknown",
            f"{given.request} is neither a negotiation nor an asset that is known here",
        )

    async def reload(self, _: Parameters) -> dict[str, Any]:
        """Whose terms have changed, and how many grants given today's terms would not give.

        Whatever else has changed in northbund.toml waits for the next start, and is named. Fault
        `config-invalid`; then nothing is changed.
        """
        house = self._rooms.house
        found = config.load(house.folder.path).config
        with house.engine.transaction() as tx:
            changed = house.judging.adopt(tx, found)
        failing = sum(not each.passes for each in terms_review.review(house))
        waiting = config.changed_beside_terms(house.config, found)
        return {
            "changed": list(changed),
            "waits_for_restart": list(waiting),
            "failing_grants": failing,
        }

    async def review(self, _: Parameters) -> list[dict[str, Any]]:
        """Each grant given that is alive; those that would not be given again say why."""
        return [self._line(each) for each in terms_review.review(self._rooms.house)]

    async def revoke_failing(self, _: Parameters) -> list[dict[str, Any]]:
        """Those that were taken back; sessions under them have stopped, the chain follows."""
        failing = [each for each in terms_review.review(self._rooms.house) if not each.passes]
        told = []
        for each in failing:
            kept = each.kept
            on_chain = await self._rooms.revocations.revoke(kept.child, kept.parent)
            told.append(self._line(each) | {"revoked": True, "on_chain": on_chain})
        return told

    def _line(self, reviewed: Reviewed) -> dict[str, Any]:
        grant = reviewed.kept.terms
        house = self._rooms.house
        return {
            "child": grant.child,
            "child_name": self._name(grant.child),
            "parent": grant.parent,
            "parent_name": self._name(grant.parent),
            "consumer": house.directory.name(Account(grant.consumer)),
            "expires": grant.expiry,
            "uses_left": max(0, grant.max_uses - reviewed.kept.uses_counted),
            "would_be_given": reviewed.passes,
            "why_not": list(reviewed.failures),
        }

    def _name(self, cdt: bytes) -> str:
        asset = assets.find(self._rooms.house.engine.db, cdt)
        return asset.name if asset else ""
