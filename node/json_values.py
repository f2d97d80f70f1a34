"""Values as JSON carries them to those who call: bytes as hexadecimal, types as plain objects."""

from typing import Any

import msgspec


def to_json(value: Any) -> Any:
    """`value` as plain JSON values: structs and dataclasses as objects, bytes as `0x…`."""
    return _hexadecimal(msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=str))


def _hexadecimal(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, dict):
        return {str(_hexadecimal(key)): _hexadecimal(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hexadecimal(each) for each in value]
    return value
