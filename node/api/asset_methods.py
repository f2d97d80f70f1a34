"""Methods about this node's own assets: check, publish, compose."""

from typing import Annotated, Any, Literal

import msgspec

from node import terms_review
from node.api.rooms import Rooms
from node.composing import algorithm_of
from node.publishing import Published
from node.rpc import Method, Parameters

EXAMPLE_CDT = "0x" + "11" * 32


class OfName(Parameters, frozen=True):
    """A dataset of northbund.toml, by name."""

    name: str


class Child(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One leaf of an algorithm and what is done to it."""

    cdt: str
    operation: str
    parameters: dict[str, Any] | None = None


class Composition(Parameters, frozen=True):
    """An algorithm over children; those in `pool` are compute, the others data.

    `terms` is a table as in northbund.toml: what the composer allows on top of the children.
    """

    name: str
    children: tuple[Child, ...]
    pool: tuple[str, ...]
    purpose: str
    description: str = ""
    seats: int = 3
    threshold: int = 1
    cohort_floor: Annotated[int, msgspec.Meta(ge=1)] = 1000
    labels: Literal["seen-by-owners", "hidden"] = "hidden"
    terms: dict[str, Any] | None = None
    check_only: bool = False


def table(rooms: Rooms) -> list[Method]:
    """The methods of this room."""
    methods = AssetMethods(rooms)
    child = {"cdt": EXAMPLE_CDT, "operation": "shared-features"}
    return [
        Method(
            "dataset_check",
            methods.check,
            OfName,
            "Read the rows and tell what they are; nothing is written",
            {"name": "credit-facts"},
        ),
        Method(
            "dataset_publish",
            methods.publish_dataset,
            OfName,
            "Check a dataset, register it and announce it",
            {"name": "credit-facts"},
        ),
        Method(
            "compute_publish", methods.publish_compute, summary="Register this node's compute asset"
        ),
        Method(
            "algorithm_compose",
            methods.compose,
            Composition,
            "Compose an algorithm and register it",
            {"name": "risk", "children": [child], "pool": [EXAMPLE_CDT], "purpose": "credit-risk"},
        ),
    ]


class AssetMethods:
    """What can be asked about this node's own assets."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def check(self, given: OfName) -> Any:
        """The profile of a dataset's rows: counts, never values."""
        return await self._rooms.publishing.check_dataset(given.name)

    async def publish_dataset(self, given: OfName) -> dict[str, Any]:
        """A dataset becomes a CDT."""
        return _published(await self._rooms.publishing.publish_dataset(given.name))

    async def publish_compute(self, _: Parameters) -> dict[str, Any]:
        """This node's compute becomes a CDT."""
        return _published(await self._rooms.publishing.publish_compute())

    async def compose(self, given: Composition) -> dict[str, Any]:
        """An algorithm becomes a CDT; this node's own organisation receives its result.

        What its children's published terms would refuse is told, child by child, and with
        `check_only` nothing else happens: their owners may have others by now, or let it pass.
        """
        house = self._rooms.house
        algorithm = algorithm_of(
            house.engine.db,
            steps=tuple((each.cdt, each.operation, each.parameters) for each in given.children),
            pool=given.pool,
            seats=given.seats,
            threshold=given.threshold,
            cohort_floor=given.cohort_floor,
            recipient=house.directory.own.account,
            purpose=given.purpose,
            labels=given.labels,
        )
        children = tuple(each.cdt for each in given.children)
        told = {"would_refuse": terms_review.refusals(house, algorithm, children)}
        if given.check_only:
            return told
        published = await self._rooms.publishing.publish_algorithm(
            given.name, given.description, algorithm, children, given.terms
        )
        return _published(published) | told


def _published(published: Published) -> dict[str, Any]:
    return {
        "cdt": published.cdt,
        "proof": published.proof,
        "cid": published.cid,
        "block": published.block,
        "gas_used": published.gas_used,
    }
