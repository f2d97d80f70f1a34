"""The words of assets, kept beside them for searching: SQLite's FTS5 and the triggers that feed it.

The index follows every change of an asset in the very statement that makes it, whoever makes it,
so no transaction, resync or reorganisation can part the two. It is without content of its own:
what is taken out is what the asset's old columns say was put in.

Words of a person stand in the columns `title` and `body`; `facets` holds one token for each thing
that is filtered by, and `terms` one for each value that the published terms allow: who searches
makes the same tokens.
"""

import hashlib
import re
import unicodedata
from typing import Final

_WITHOUT_SPACES: Final = re.compile(r"([぀-ヿ㐀-䶿一-鿿豈-﫿])")
"""Scripts whose words stand without spaces: each sign is a token, and words are phrases."""

MARK: Final = "\ue000"
"""Begins each token of a filter. A sign for private use: `spelled` leaves none in words."""

_COLUMNS: Final = (
    "{row}.id, {row}.title, {row}.body, '{mark}kind' || {row}.kind || ' {mark}state' || "
    "CASE WHEN {row}.withdrawn AND {row}.state != 'invalid' THEN 'withdrawn' ELSE {row}.state END "
    "|| ' {mark}owner' || hex({row}.owner) || ' {mark}cdt' || hex({row}.cdt), {row}.terms"
)
_PUT: Final = (
    f"INSERT INTO asset_words (rowid, title, body, facets, terms) "
    f"SELECT {_COLUMNS.format(row='new', mark=MARK)};"
)
_TAKE: Final = (
    f"INSERT INTO asset_words (asset_words, rowid, title, body, facets, terms) "
    f"SELECT 'delete', {_COLUMNS.format(row='old', mark=MARK)};"
)
_WATCHED: Final = ("title", "body", "terms", "kind", "state", "withdrawn", "owner")
_CHANGED: Final = " OR ".join(f"new.{each} IS NOT old.{each}" for each in _WATCHED)

SCHEMA: Final = f"""
    CREATE VIRTUAL TABLE asset_words USING fts5 (
        title, body, facets, terms, content='', tokenize='unicode61 remove_diacritics 2',
        prefix='2 3'
    );
    CREATE TRIGGER asset_words_put AFTER INSERT ON assets BEGIN {_PUT} END;
    CREATE TRIGGER asset_words_taken AFTER DELETE ON assets BEGIN {_TAKE} END;
    CREATE TRIGGER asset_words_changed AFTER UPDATE ON assets WHEN {_CHANGED}
        BEGIN {_TAKE} {_PUT} END;
"""
"""To be run once, after the table `assets` was made."""


def spelled(text: str) -> str:
    """`text` as it is indexed and looked for: one form, nothing unprintable, signs apart."""
    plain = unicodedata.normalize("NFKC", text)
    printable = "".join(each if each.isprintable() else " " for each in plain)
    return " ".join(_WITHOUT_SPACES.sub(r" \1 ", printable).split())


def kind_token(kind: str) -> str:
    """Stands in `facets` of the assets of this type."""
    return f"{MARK}kind{kind}"


def state_token(state: str) -> str:
    """Stands in `facets` of the assets that are shown in this state."""
    return f"{MARK}state{state}"


def owner_token(account: bytes) -> str:
    """Stands in `facets` of this account's assets."""
    return f"{MARK}owner{account.hex()}"


def cdt_token(cdt: bytes) -> str:
    """Stands in `facets` of this asset; a shorter `cdt` is a prefix of it."""
    return f"{MARK}cdt{cdt.hex()}"


def term_token(operand: str, value: str) -> str:
    """Stands in `terms` where they allow `value` for `operand`."""
    return MARK + "t" + hashlib.sha256(f"{operand}\0{value}".encode()).hexdigest()[:20]


def open_token(operand: str) -> str:
    """Stands in `terms` where they cannot be told by a list of values: ask them."""
    return MARK + "o" + hashlib.sha256(operand.encode()).hexdigest()[:20]
