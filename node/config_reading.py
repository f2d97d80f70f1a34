"""From a TOML table to what msgspec can convert, and from its complaints to plain sentences.

Walks the table along the types: refuses keys that no type knows, turns accounts and paths into
what they mean. Everything else (types, ranges, patterns) is msgspec's, whose messages are put
into the words of the file.
"""

import re
import types
import typing
from collections.abc import Mapping
from enum import EnumMeta
from pathlib import Path
from typing import Any

import msgspec

from node.errors import Fault, nearest
from protocol.ids import Account


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of northbund.toml. Its fields are the known keys."""


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
    "bytes": "an account",
}

DIRECT_ADDRESS = r"/(ip4|ip6|dns|dns4|dns6)/[^/\s]+/tcp/[0-9]{1,5}"

_PATTERNS = {
    r"\A[\x21-\x7e]+\Z": "1 to 64 printable characters without spaces",
    r"\A[a-z0-9-]{1,32}\Z": "1 to 32 of a-z, 0-9 and the hyphen",
    r"\Ahttps?://[^\s]+\Z": "an address like http://127.0.0.1:8545",
    rf"\A{DIRECT_ADDRESS}(/p2p/\w+)?\Z": "an address like /ip4/127.0.0.1/tcp/4001",
    rf"\A{DIRECT_ADDRESS}(/p2p/\w+)?(/p2p-circuit(/p2p/\w+)?)?\Z": (
        "an address like /ip4/192.0.2.1/tcp/4001"
    ),
    rf"\A{DIRECT_ADDRESS}(/p2p/\w+/p2p-circuit)?/p2p/\w+\Z": (
        "an address that ends in the peer's id, like /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…"
    ),
    r"\A[^\s\[\]/]{0,120}\Z": "a host like 192.0.2.1 or a.example",
    r"\A[0-9]{1,5}-[0-9]{1,5}\Z": "a range of ports like 40000-40099",
    r"\A(0|[1-9][0-9]{0,28})\Z": "a whole number in quotes, of at most 29 digits",
    r"\A(odrl|cdt):[A-Za-z]{1,32}(\.[a-z_]{1,32})?\Z": (
        "a left operand in ODRL's words, like odrl:purpose or cdt:cohortSize"
    ),
}
_ONE_OF = re.compile(r"`str` matching regex '\\\\A\(([a-z|]+)\)\\\\Z'")
_NO_CHOICE = "Invalid enum value "
_LENGTHS = (
    (r"text in quotes of length >= 1\b", "text in quotes that is not empty"),
    (r"text in quotes of length <= (\d+)", r"text of at most \1 characters"),
    (r"a list of length <= (\d+)", r"a list of at most \1"),
    (r"a list of length >= (\d+)", r"a list of at least \1"),
)


def prepare(
    table: Mapping[str, Any], kind: type[msgspec.Struct], base: Path, source: str, where: str = ""
) -> dict[str, Any]:
    """`table` with accounts as bytes and paths absolute, every key known to `kind`.

    `where` names the place of `table` in the file `source`. Fault `config-invalid`.
    """
    fields = {each.encode_name: each for each in msgspec.structs.fields(kind)}
    prepared = {}
    for key, value in table.items():
        if key not in fields:
            near = nearest(key, list(fields))
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(fields)}"
            place = f"{source}, {where}" if where else source
            raise Fault("config-invalid", f"{place}: unknown key {key!r}; {hint}", file=source)
        inside = f"{where}, {key}" if where else key
        prepared[key] = _prepared(value, fields[key].type, base, source, inside)
    return prepared


def _prepared(value: Any, kind: Any, base: Path, source: str, where: str) -> Any:
    kind = _without_none(kind)
    if kind is Account:
        return _account(value, source, where)
    if kind is Path:
        return _path(value, base, source, where)
    if typing.get_origin(kind) is typing.Literal:
        return _choice(value, typing.get_args(kind), source, where)
    if isinstance(value, list | dict):
        return _prepared_inside(value, kind, base, source, where)
    return value


def _prepared_inside(value: Any, kind: Any, base: Path, source: str, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return prepare(value, kind, base, source, where)
    if isinstance(value, dict) and origin is dict:
        return {
            key: _prepared(each, inner[1], base, source, f"{where}, {key}")
            for key, each in value.items()
        }
    if isinstance(value, list) and origin is tuple:
        return [
            _prepared(each, inner[0], base, source, f"{where} number {number}")
            for number, each in enumerate(value, start=1)
        ]
    return value


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(each for each in typing.get_args(kind) if each is not types.NoneType)
    return kind


def _path(value: Any, base: Path, source: str, where: str) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise Fault("config-invalid", f"{source}, {where}: expected a path in quotes", file=source)
    return (base / Path(value).expanduser()).absolute()


def _choice(value: Any, choices: tuple[str, ...], source: str, where: str) -> str:
    if value not in choices:
        raise Fault(
            "config-invalid",
            f"{source}, {where}: {value!r} is none of {', '.join(choices)}",
            file=source,
        )
    return str(value)


def _account(value: Any, source: str, where: str) -> Account:
    if not isinstance(value, str) or not re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        raise Fault(
            "config-invalid",
            f"{source}, {where}: {value!r} is not an account; right would be 0x and 40"
            " hexadecimal digits",
            file=source,
        )
    digits = value[2:]
    if digits not in (digits.lower(), digits.upper()) and not _checksum_holds(digits):
        raise Fault(
            "config-invalid",
            f"{source}, {where}: {value} has a wrong checksum, so a digit was probably misspelt",
            file=source,
        )
    return Account(bytes.fromhex(digits))


def _checksum_holds(digits: str) -> bool:
    """Whether the capitals of an account are those of EIP-55."""
    from eth_hash.auto import keccak  # noqa: PLC0415  50 ms that lower-case accounts do not pay

    nibbles = keccak(digits.lower().encode("ascii")).hex()
    return all(
        digit.isdigit() or digit.isupper() == (int(nibble, 16) >= 8)
        for digit, nibble in zip(digits, nibbles, strict=False)
    )


def sentence_of(error: msgspec.ValidationError, kind: type[msgspec.Struct] | None = None) -> str:
    """msgspec's complaint in the words of the file: where it stands and what would be right.

    With the `kind` that was to be made, a choice that does not exist is told with those that do.
    """
    text, _, path = str(error).partition(" - at ")
    where = _place(path.strip("`"))
    missing = re.fullmatch(r"Object missing required field `(.+)`", text)
    if missing:
        return f"{where + ', ' if where else ''}the key {missing[1]!r} is missing"
    for pattern, words in _PATTERNS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    text = _ONE_OF.sub(lambda found: f"one of {found[1].replace('|', ', ')}", text)
    choices = _choices(kind, path) if kind and text.startswith(_NO_CHOICE) else []
    if choices:
        text = f"{text.removeprefix(_NO_CHOICE)} is none of {', '.join(choices)}"
    text = re.sub(r"`(\w+)( \| null)?`", lambda found: _WORDS.get(found[1], found[1]), text)
    for found, words in _LENGTHS:
        text = re.sub(found, words, text)
    return f"{where}: {text[:1].lower()}{text[1:]}" if where else text


def _choices(kind: Any, path: str) -> list[str]:
    """The words that may stand at `path` inside of `kind`; none where a list or table is passed."""
    for name in path.strip("`").removeprefix("$.").split("."):
        kind = _without_none(kind)
        fields = {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
        if name not in fields:
            return []
        kind = fields[name]
    return _words_of(kind)


def _words_of(kind: Any) -> list[str]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return [str(each) for each in inner]
    if origin in (types.UnionType, typing.Union):
        return [word for each in inner for word in _words_of(each)]
    if origin is typing.Annotated:
        return _words_of(inner[0])
    if isinstance(kind, EnumMeta):
        return [str(each.value) for each in kind]  # type: ignore[var-annotated]
    return [_WORDS[kind.__name__]] if getattr(kind, "__name__", "") in _WORDS else []


def _place(path: str) -> str:
    path = path.replace("[...]", ".a value of it")
    words = path.removeprefix("$").strip(".").replace(".", ", ")
    return re.sub(r"\[(\d+)\]", lambda found: f" number {int(found[1]) + 1}", words)
