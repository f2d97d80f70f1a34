"""How a row's id is spelt, hashed for all to compare, and named in its owner's own ledger."""

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable
from typing import Literal

ROW_KEY_BYTES = 16
IdentifierRule = Literal["exact", "trimmed", "caseless"]


def normalise(identifier: str, rule: IdentifierRule) -> str:
    """The form of an identifier in which two organisations' spellings meet.

    `exact` keeps it; `trimmed` drops surrounding white space and composes characters (Unicode NFC);
    `caseless` also folds case.
    """
    if rule == "exact":
        return identifier
    trimmed = unicodedata.normalize("NFC", identifier.strip())
    if rule == "trimmed":
        return trimmed
    return unicodedata.normalize("NFC", trimmed.casefold())


def rows_hash(salt: bytes, identifiers: Iterable[str]) -> bytes:
    """SHA-256 over the salt and each identifier of the common order, with its length in bytes."""
    digest = hashlib.sha256(salt)
    for identifier in identifiers:
        data = identifier.encode()
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return digest.digest()


def row_key(key: bytes, identifier: str) -> bytes:
    """The ledger's name of one row, 16 bytes: HMAC-SHA256 under its owner's key names nobody."""
    return hmac.digest(key, identifier.encode(), "sha256")[:ROW_KEY_BYTES]


def row_keys(key: bytes, identifiers: Iterable[str]) -> bytes:
    """The row keys of `identifiers`, one after another."""
    return b"".join(row_key(key, identifier) for identifier in identifiers)
