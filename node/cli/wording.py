"""Values in words for a person: times, numbers, long lists, and nothing that a terminal obeys."""

import json
from datetime import UTC, datetime
from typing import Any

_LONGEST_LIST = 12
_LONGEST_ROWS = 8
_TIMES = ("at", "deadline", "expires", "last_seen", "until", "valid_until", "bound_until")
_FIRST_TIME = 10**9
"""Smaller numbers under a time's name are durations."""


def plain(value: Any) -> str:
    """`value` on one line; letters that would steer a terminal are replaced."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def words(name: str, value: Any) -> str:
    """What stands beside or below `name`: a time as a date, an object or a list on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{plain(key)} {words(key, each)}" for key, each in value.items()) or "-"
    if isinstance(value, list):
        return _listed(value)
    if _is_time(name, value):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return plain(value)


def _listed(values: list[Any]) -> str:
    fields = sum(len(each) for each in values if isinstance(each, dict))
    if fields > _LONGEST_ROWS:
        return f"{len(values)} entries"
    if len(values) <= _LONGEST_LIST:
        return ", ".join(words("", each) for each in values) or "-"
    return f"{words('', values[0])} … {words('', values[-1])} ({len(values)} values)"


def _is_time(name: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and value >= _FIRST_TIME and (name in _TIMES or name.endswith("_at"))
