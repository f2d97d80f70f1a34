"""Every wire type of the repository, found by its source: a new one is fuzzed by itself."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from protocol.codec import Wire

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protocol", "mpc", "chain", "node")
_DEFINES = re.compile(r"^class \w+\((\w+\.)?Wire\b", re.MULTILINE)


def modules() -> list[str]:
    """The names of the modules that define a wire type."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if _DEFINES.search(path.read_text("utf-8"))
    ]


@cache
def kinds() -> dict[str, type[Wire]]:
    """tag -> type of everything that `protocol.codec` can read."""
    for name in modules():
        importlib.import_module(name)
    return {str(kind.__struct_config__.tag): kind for kind in _below(Wire)}


def _below(kind: type[Wire]) -> Iterator[type[Wire]]:
    for each in kind.__subclasses__():
        if each.__module__.partition(".")[0] in PACKAGES:
            yield each
        yield from _below(each)
