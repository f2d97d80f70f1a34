"""Looking through the catalogue: by words, type, owner, standing, and terms that could be met.

Adversary: whoever names assets, and whoever types the query. A query is words: what has a meaning
for the index (quotes, operators, columns) has none here. Work is bounded: of many matches none is
ranked, and of terms at most EXAMINED_MOST are examined for one page.

The cursor of the next page says where this one ended, so that what is added or withdrawn between
two pages moves nothing else.
"""

import base64
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlite_utils import Database

from node import asset_terms, asset_words, assets
from node.asset_terms import Offer
from node.asset_words import spelled
from node.assets import Asset
from node.errors import Fault
from node.rows import select
from protocol.documents import Metadata
from protocol.ids import Account

RANKED_MOST: Final = 1_000
EXAMINED_MOST: Final = 200
"""At least PAGE_MOST."""
PAGE_MOST: Final = 200
WORDS_MOST: Final = 16
TEXT_MOST: Final = 500
OWNERS_MOST: Final = 16
PART_LEAST: Final = 3
_ENTRY: Final = re.compile(r"0[xX][0-9a-fA-F]{6,64}")
_CURSOR: Final = re.compile(r"([rn])\.([0-9]{1,6})\.([0-9]{1,18})")
TOP: Final = 2**62
_KINDS: Final = ("data", "compute", "algorithm")


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for; what is left out is not asked about.

    `owners_named` gives the accounts whose organisation's name contains a word. With `offer`,
    only assets whose published terms it could meet.
    """

    text: str = ""
    kind: str = ""
    owner: Account | None = None
    state: str = ""
    offer: Offer | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what was found; `after` is the cursor of the rest, empty at the end.

    `ranked` says whether the best come first; else, of too many, those heard of last.
    """

    assets: tuple[Asset, ...]
    after: str
    ranked: bool


class Search:
    """The catalogue's index, asked."""

    def __init__(self, db: Database, owners: "OwnerNames") -> None:
        self._db = db
        self._owners = owners

    def page(self, query: Query, after: str = "", limit: int = 50) -> Page:
        """At most `limit` (1 to PAGE_MOST) assets that fit, after the cursor `after`.

        Fault `input-invalid` for a cursor that no page gave, or too long a text.
        """
        limit = max(1, min(limit, PAGE_MOST))
        words = _words(query.text)
        start = _Cursor.read(after)
        places = self._places(self._match(words, query), words, start)
        found, last = self._chosen(places, query.offer, limit)
        ranked = bool(words) and (not places or places[0].ranked)
        return Page(found, str(last) if last else "", ranked)

    # ------------------------------------------------------------------ what fits

    def _match(self, words: list[str], query: Query) -> str:
        """The expression for the index; empty if everything fits."""
        parts = [self._word(word) for word in words]
        facets = []
        if query.kind:
            facets.append(asset_words.kind_token(query.kind))
        if query.owner is not None:
            facets.append(asset_words.owner_token(query.owner))
        if query.state and not (words and query.state == "confirmed"):
            facets.append(asset_words.state_token(query.state))
        parts += [f"facets : {_quoted(token)}" for token in facets]
        if query.offer is not None:
            parts += [
                f"terms : ({' OR '.join(map(_quoted, tokens))})"
                for tokens in asset_terms.could_be_met(query.offer)
            ]
        match = " AND ".join(parts)
        if words and query.state == "confirmed":  # nearly all are: the others are quicker left out
            others = [
                asset_words.state_token(each) for each in assets.STATES if each != query.state
            ]
            match = f"({match}) NOT facets : ({' OR '.join(map(_quoted, others))})"
        return match

    def _word(self, word: str) -> str:
        """One word as a prefix in name or description, as an owner's name, a type or an id."""
        spelling = spelled(word)
        star = " *" if len(spelling) > 1 else ""
        ways = [f"{{title body}} : {_quoted(spelling)}{star}"]
        facets = [asset_words.owner_token(each) for each in self._owners(word)]
        if word.lower() in _KINDS:
            facets.append(asset_words.kind_token(word.lower()))
        ways += [f"facets : {_quoted(token)}" for token in facets]
        if _ENTRY.fullmatch(word):
            begun = word[2:].lower()
            ways += [
                f"facets : {_quoted(asset_words.MARK + what + begun)} *"
                for what in ("cdt", "owner")
            ]
        return f"({' OR '.join(ways)})"

    # ------------------------------------------------------------------ in which order

    def _places(self, match: str, words: list[str], start: "_Cursor | None") -> "Sequence[_Cursor]":
        """The results that come after `start`: the best first, or of too many the newest."""
        if start is not None and not start.ranked:
            return self._newest(match, start.number, EXAMINED_MOST + 1)
        newest = self._newest(match, TOP, RANKED_MOST + 1 if words else EXAMINED_MOST + 1)
        if not words or len(newest) > RANKED_MOST:
            return newest
        marks = ", ".join("?" * len(newest))
        sql = f"SELECT id, title FROM assets WHERE id IN ({marks})"  # noqa: S608
        rows = self._db.execute(sql, [place.number for place in newest]).fetchall()
        folded = [_folded(word) for word in words]
        ranked = sorted(_Cursor(True, _rank(folded, title), number) for number, title in rows)
        return [place for place in ranked if start is None or place > start]

    def _newest(self, match: str, below: int, most: int) -> "list[_Cursor]":
        if match:
            sql = (
                "SELECT rowid FROM asset_words WHERE asset_words MATCH ? AND rowid < ? "
                "ORDER BY rowid DESC LIMIT ?"
            )
            rows = self._db.execute(sql, [match, below, most])
        else:
            sql = "SELECT id FROM assets WHERE id < ? ORDER BY id DESC LIMIT ?"
            rows = self._db.execute(sql, [below, most])
        return [_Cursor(False, 0, int(number)) for (number,) in rows.fetchall()]

    def _chosen(
        self, places: "Sequence[_Cursor]", offer: Offer | None, limit: int
    ) -> "tuple[tuple[Asset, ...], _Cursor | None]":
        """The first `limit` of these that truly fit, and where the rest begins, if there is one."""
        found: list[Asset] = []
        last = None
        for examined, place in enumerate(places):
            if len(found) == limit or examined == EXAMINED_MOST:
                return tuple(found), last
            (asset,) = select(self._db, Asset, "assets WHERE id = ?", [place.number])
            if offer is None or self._is_met(asset, offer):
                found.append(asset)
            last = place
        return tuple(found), None

    def _is_met(self, asset: Asset, offer: Offer) -> bool:
        if asset.state != "confirmed" or not assets.has_document(self._db, asset.proof):
            return False
        # What is stored was checked when it came: here it is only read.
        body = assets.body_of(self._db, asset.proof)
        metadata = msgspec.json.decode(body, type=Metadata)
        return asset_terms.is_met(metadata, offer)


@dataclass(frozen=True, slots=True)
class _Cursor:
    """A place in the order of results: lower ranks first, of these what was heard of last."""

    ranked: bool
    rank: int
    number: int

    def __lt__(self, other: "_Cursor") -> bool:
        return (self.rank, -self.number) < (other.rank, -other.number)

    def __str__(self) -> str:
        text = f"{'r' if self.ranked else 'n'}.{self.rank}.{self.number}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> "_Cursor | None":
        """The place that `text` spells, None if it is empty; Fault `input-invalid`."""
        if not text:
            return None
        try:
            plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            spelling = _CURSOR.fullmatch(plain)
        except ValueError:
            spelling = None
        if spelling is None:
            raise Fault("input-invalid", f"{text[:80]!r} is no cursor that a page of results gave")
        return cls(spelling[1] == "r", int(spelling[2]), int(spelling[3]))


class OwnerNames:
    """Finds accounts by the names of their organisations, configured and declared on chain."""

    def __init__(self, db: Database, configured: Iterable[tuple[str, Account]]) -> None:
        self._db = db
        self._configured = [(name.casefold(), account) for name, account in configured]

    def __call__(self, word: str) -> list[Account]:
        """At most OWNERS_MOST accounts whose name contains the word, configured ones first.

        A word of one or two letters stands in too many: it must be the whole name.
        """
        folded = word.casefold()
        whole = len(folded) < PART_LEAST
        found = [
            a for name, a in self._configured if folded == name or (not whole and folded in name)
        ]
        where = "lower(name) = ?" if whole else "instr(lower(name), ?)"
        sql = f"SELECT account FROM chain_organisations WHERE {where} LIMIT ?"  # noqa: S608
        declared = self._db.execute(sql, [folded, OWNERS_MOST]).fetchall()
        return list(dict.fromkeys([*found, *(account for (account,) in declared)]))[:OWNERS_MOST]


def _words(text: str) -> list[str]:
    """The words of a query; those without a letter or digit left out."""
    if len(text) > TEXT_MOST:
        raise Fault("input-invalid", f"a search takes at most {TEXT_MOST} characters")
    printable = "".join(each if each.isprintable() else " " for each in text)
    words = [word for word in printable.split() if any(each.isalnum() for each in word)]
    if len(words) > WORDS_MOST:
        raise Fault("input-invalid", f"a search takes at most {WORDS_MOST} words")
    return words


def _quoted(text: str) -> str:
    """`text` as a string of the index's language: nothing in it is an operator."""
    return '"' + text.replace('"', '""') + '"'


def _rank(words: list[str], title: str) -> int:
    """Lower is better: first how many words the name lacks, then how long it is."""
    folded = _folded(title)
    return 1_000 * sum(word not in folded for word in words) + min(len(title), 999)


def _folded(text: str) -> str:
    """`text` without accents and capitals, as the index compares it."""
    if text.isascii():
        return text.casefold()
    plain = unicodedata.normalize("NFKD", spelled(text)).casefold()
    return "".join(each for each in plain if not unicodedata.combining(each))
