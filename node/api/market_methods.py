"""Methods about the market: what is offered, by whom, and whether this node could meet terms."""

from typing import Annotated, Any

import msgspec
from sqlite_utils import Database

from node import asset_terms, assets
from node.api.rooms import Rooms
from node.asset_terms import Offer, Prospect
from node.assets import Asset
from node.errors import Fault, nearest
from node.rpc import Method, Parameters
from node.search import PAGE_MOST, TEXT_MOST, OwnerNames, Query, Search
from protocol import documents, terms
from protocol.codec import Name
from protocol.documents import AssetType, Metadata
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, from_hexadecimal, hexadecimal

TREE_HEIGHT = 4
TREE_MOST = 1_000
EXAMPLE_CDT = "0x" + "11" * 32
State = Annotated[str, msgspec.Meta(pattern=rf"\A({'|'.join(assets.STATES)}|all)\Z")]


class Listed(Parameters, frozen=True):
    """Which assets: by type, owner (a name or an account), state (`all` for any).

    `meetable`: only those whose published terms this node could meet, for `purpose` if it is
    named. `after` is the cursor that the page before gave.
    """

    type: AssetType | None = None
    owner: str | None = None
    state: State = "confirmed"
    meetable: bool = False
    purpose: Name | None = None
    after: Annotated[str, msgspec.Meta(max_length=120)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MOST)] = 50


class Searched(Listed, frozen=True):
    """The same, with words that must stand in name, description, purpose or owner's name."""

    text: Annotated[str, msgspec.Meta(max_length=TEXT_MOST)] = ""


class OfCdt(Parameters, frozen=True):
    """One asset."""

    cdt: str


def table(rooms: Rooms) -> list[Method]:
    """The methods of this room."""
    methods = MarketMethods(rooms)
    cdt = {"cdt": EXAMPLE_CDT}
    return [
        Method("cdt_list", methods.find, Listed, "The catalogue, newest first", {"type": "data"}),
        Method("cdt_search", methods.find, Searched, "Assets by words", {"text": "credit"}),
        Method("cdt_show", methods.show, OfCdt, "One asset with its document and terms", cdt),
        Method("cdt_withdraw", methods.withdraw, OfCdt, "Offer an own asset no more", cdt),
        Method("cdt_offer", methods.offer, OfCdt, "Offer an own asset that was withdrawn", cdt),
        Method("cdt_tree", methods.tree, OfCdt, "What an asset is composed of", cdt),
    ]


class MarketMethods:
    """What can be asked about everybody's assets."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def find(self, given: Listed) -> dict[str, Any]:
        """A page of the catalogue."""
        if given.purpose is not None and not given.meetable:
            raise Fault("input-invalid", "a purpose narrows the search only with --meetable")
        query = Query(
            text=given.text if isinstance(given, Searched) else "",
            kind=given.type or "",
            owner=self._account(given.owner) if given.owner is not None else None,
            state="" if given.state == "all" else given.state,
            offer=self._offer(given.purpose) if given.meetable else None,
        )
        names = OwnerNames(self._db, self._rooms.house.directory.accounts.items())
        page = Search(self._db, names).page(query, given.after, given.limit)
        return {
            "assets": [self._line(each) for each in page.assets],
            "after": page.after,
            "ranked": page.ranked,
        }

    async def show(self, given: OfCdt) -> dict[str, Any]:
        """One asset; once its document is here, that and what its terms say to this node."""
        asset = self._asset(given.cdt)
        document = self._document(asset)
        offer = self._offer(None)
        return {
            **self._line(asset),
            "proof": asset.proof,
            "storage_path": documents.storage_path(asset.proof),
            "children": asset.child_ids,
            "meetable": None if document is None else asset_terms.is_met(document, offer),
            "terms": [_told(e) for e in asset_terms.prospects(document, offer)] if document else [],
            "document": document,
        }

    async def tree(self, given: OfCdt) -> dict[str, Any]:
        """The asset with its children, theirs, and so on."""
        return self._branch(self._asset(given.cdt), TREE_HEIGHT, [TREE_MOST])

    async def withdraw(self, given: OfCdt) -> dict[str, Any]:
        """Everybody is told; nothing new is granted, what was granted goes on."""
        cdt = from_hexadecimal(given.cdt, 32)
        return self._line(self._rooms.publishing.offer(cdt, withdrawn=True))

    async def offer(self, given: OfCdt) -> dict[str, Any]:
        """Everybody is told; requests are judged by the terms again."""
        cdt = from_hexadecimal(given.cdt, 32)
        return self._line(self._rooms.publishing.offer(cdt, withdrawn=False))

    def _branch(self, asset: Asset, height: int, left: list[int]) -> dict[str, Any]:
        """`left` counts down, over the whole tree: an endpoint may lie about children."""
        children = []
        for child in asset.child_ids if height else ():
            below = assets.find(self._db, child)
            if below is not None and left[0] > 0:
                left[0] -= 1
                children.append(self._branch(below, height - 1, left))
        return {**self._line(asset), "children": children}

    def _document(self, asset: Asset) -> Metadata | None:
        """The asset's document if it is here and is one: an owner may register any hash."""
        if not assets.has_document(self._db, asset.proof):
            return None
        try:
            return documents.parse(assets.body_of(self._db, asset.proof))
        except RemoteProtocolError:
            return None

    def _line(self, asset: Asset) -> dict[str, Any]:
        return {
            "cdt": asset.cdt,
            "name": asset.name,
            "type": asset.kind,
            "owner": self._rooms.house.directory.name(asset.owner),
            "account": asset.owner,
            "state": asset.standing,
            "reason": asset.why,
        }

    @property
    def _db(self) -> Database:
        return self._rooms.house.engine.db

    def _offer(self, purpose: str | None) -> Offer:
        house = self._rooms.house
        own = house.directory.own.account
        return asset_terms.offer_of(house.config, own, house.engine.clock(), purpose)

    def _account(self, text: str) -> Account:
        """The account that a configured name or hexadecimal means; Fault `input-invalid`."""
        known = self._rooms.house.directory.accounts
        if text in known:
            return known[text]
        try:
            return Account(from_hexadecimal(text, 20))
        except RemoteProtocolError:
            near = nearest(text, list(known))
            hint = f"; did you mean {near!r}?" if near else ""
            raise Fault(
                "input-invalid",
                f"{text[:80]!r} is neither an account nor an organisation of northbund.toml{hint}",
            ) from None

    def _asset(self, text: str) -> Asset:
        cdt = from_hexadecimal(text, 32)
        asset = assets.find(self._db, cdt)
        if asset is None:
            raise Fault("cdt-unknown", f"no asset {hexadecimal(cdt)} is known here")
        return asset


def _told(prospect: Prospect) -> dict[str, Any]:
    return {
        "what": terms.describe(prospect.operand),
        "ours": prospect.ours,
        "allowed": prospect.allowed,
        "met": prospect.met,
    }
