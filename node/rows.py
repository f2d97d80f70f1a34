"""Rows of the database as frozen dataclasses: one field for each column, checked on the way."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import msgspec
from sqlite_utils import Database

from protocol.errors import LocalProtocolError

T = TypeVar("T")


def select(db: Database, kind: type[T], tail: str, parameters: Sequence[Any] = ()) -> list[T]:
    """Every row of `SELECT <the fields of kind> FROM <tail>` as a `kind`.

    `tail` is SQL text of our own; values travel in `parameters`. LocalProtocolError if a column
    does not fit its field, which means that the table and the dataclass have drifted apart.
    """
    if not is_dataclass(kind):
        raise LocalProtocolError(f"{kind} is no dataclass")
    names = [field.name for field in fields(kind)]
    rows = db.execute(f"SELECT {', '.join(names)} FROM {tail}", parameters)  # noqa: S608
    try:
        return [
            msgspec.convert(dict(zip(names, row, strict=True)), kind, builtin_types=(bytes,))
            for row in rows.fetchall()
        ]
    except msgspec.ValidationError as error:
        raise LocalProtocolError(f"{kind.__name__}: {error}") from error


def first(db: Database, kind: type[T], tail: str, parameters: Sequence[Any] = ()) -> T | None:
    """The first such row, or None."""
    found = select(db, kind, f"{tail} LIMIT 1", parameters)
    return found[0] if found else None
