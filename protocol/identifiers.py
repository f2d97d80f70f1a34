"""How a row's id is spelt, hashed for all to compare, and named in its owner's own ledger."""

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable
from typing import Final, Literal

ROW_KEY_BYTES = 16
IdentifierRule = Literal["exact", "trimmed", "caseless", "trimmed-unpadded", "caseless-unpadded"]
COARSEST: Final[IdentifierRule] = "caseless-unpadded"
"""What any other rule takes for equal, this one does."""


def normalise(identifier: str, rule: IdentifierRule) -> str:
    """The form of an identifier in which two organisations' spellings meet.

    `exact` keeps it; `trimmed` drops surrounding white space and composes characters (Unicode NFC);
    `caseless` also folds case; with `-unpadded` leading zeros do not count either ("007" is "7",
    "000" is "0").
    """
    if rule == "exact":
        return identifier
    found = unicodedata.normalize("NFC", identifier.strip())
    if rule.startswith("caseless"):
        found = unicodedata.normalize("NFC", found.casefold())
    if rule.endswith("unpadded"):
        found = found.lstrip("0") or found[-1:]
    return found


def rows_hash(salt: bytes, identifiers: Iterable[str]) -> bytes:
    """SHA-256 over the salt and each identifier of the common order, with its length in bytes."""
    digest = hashlib.sha256(salt)
    for identifier in identifiers:
        data = identifier.encode()
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return digest.digest()


def row_key(key: bytes, identifier: str) -> bytes:
    """The ledger's name of one row, 16 bytes: HMAC-SHA256 under its owner's key names nobody.

    Of the coarsest form, whatever rule the row is matched by: under another rule, or spelt
    otherwise in another dataset, a person has the same key. Two who differ only by spelling share
    one, and with it one budget: too little may be opened about them, never too much.
    """
    coarse = normalise(identifier, COARSEST)
    return hmac.digest(key, coarse.encode(), "sha256")[:ROW_KEY_BYTES]


def row_keys(key: bytes, identifiers: Iterable[str]) -> bytes:
    """The row keys of `identifiers`, one after another."""
    return b"".join(row_key(key, identifier) for identifier in identifiers)
