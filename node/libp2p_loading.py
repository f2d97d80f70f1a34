"""Imports libp2p without the packages that only its unused parts need.

`import libp2p` loads every transport and tool that the library has: ACME certificates (requests,
httpx), metrics (prometheus_client), memory probes (psutil), QUIC (aioquic) and DNS over HTTPS. A
node speaks TCP, Noise and yamux alone. Leaving them out takes 0.3 of 0.75 s off each start and
25 of 88 MB (measured on two cores); rejected: a trimmed copy of the library, which would have to
follow every release.

While libp2p is imported these packages are stand-ins whose every name is an empty class, enough
for annotations, base classes and `except` clauses. Afterwards the stand-ins are forgotten, so
whoever needs the packages gets the real ones; a package that was imported before stays as it is.
Import this module before any thread that imports on its own is started.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

UNUSED = ("aioquic", "httpx", "prometheus_client", "psutil", "requests")


class _EmptyClass(type):
    def __getattr__(cls, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _StandIn(ModuleType):
    __path__: list[str] = []  # noqa: RUF012  what makes a module a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _EmptyClass(name, (Exception,), {})
        setattr(self, name, made)
        return made


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in UNUSED:
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


@contextmanager
def without_unused() -> Iterator[None]:
    """Within the block the packages in UNUSED that are not loaded yet are stand-ins."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name, module in list(sys.modules.items()):
            if isinstance(module, _StandIn):
                del sys.modules[name]


def _load() -> None:
    from dns import _features  # noqa: PLC0415

    for feature in ("doh", "doq"):
        _features.force(feature, False)
    with without_unused():
        import libp2p  # noqa: F401, PLC0415


_load()
