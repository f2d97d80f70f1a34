"""What accounts say of themselves on chain, as the follower has read it: anybody, anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from node.rows import first, select
from protocol.ids import Account, hexadecimal


@dataclass(frozen=True, slots=True)
class Declared:
    """The newest declaration of one account: a name, and where its document is found."""

    account: Account
    name: str
    document: str


def find(db: Database, account: bytes) -> Declared | None:
    """What this account has declared last, or None."""
    return first(db, Declared, "chain_organisations WHERE account = ?", [account])


def every(db: Database) -> Sequence[Declared]:
    """All declarations, by account."""
    return select(db, Declared, "chain_organisations ORDER BY account")


def shown_name(db: Database, account: bytes) -> str:
    """`name (0x…)` if the account has declared a name that can be shown, else the account alone.

    A configured name has no spaces, so this one cannot be taken for it.
    """
    declared = find(db, account)
    name = printable(declared.name) if declared else ""
    return f"{name} ({hexadecimal(account)})" if name else hexadecimal(account)


def printable(text: str) -> str:
    """`text` without what a terminal would obey or what shows nothing, blanks made one."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
