"""The targets as a coverage-guided fuzzer takes them: a few functions of bytes, with their seeds.

An input's first byte chooses the target within its group. The daemon's handlers are a group, too:
the second byte chooses who speaks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.target import Target
from tests.fuzz.targets import targets

Run = Callable[[bytes], None]
DECODERS = ("wire", "others")
HANDLERS = "handlers"
GROUPS = (*DECODERS, HANDLERS)
PEERS = ("stranger", "fintech-c", "bank-b", "regulator-d")


@dataclass(frozen=True, slots=True)
class Group:
    """`names` are the targets in the order of the first byte."""

    names: tuple[str, ...]
    run: Run
    seeds: tuple[bytes, ...]


def decoders(name: str) -> Group:
    """All wire types, or all other decoders."""
    table = [
        target
        for target in targets().values()
        if target.name.startswith("wire:") == (name == "wire")
    ]

    def run(data: bytes) -> None:
        if data:
            table[data[0] % len(table)].feed(data[1:])

    return Group(tuple(target.name for target in table), run, tuple(_seeds(table)))


def _seeds(table: list[Target]) -> Iterator[bytes]:
    for number, target in enumerate(table):
        for seed in target.seeds or (b"",):
            yield bytes([number]) + seed


@contextmanager
def handlers(folder: Path) -> Iterator[Group]:
    """What a daemon in `folder` serves, alive."""
    from tests.fuzz import speech  # noqa: PLC0415  the decoders start without the daemon
    from tests.fuzz.live_rooms import live_rooms  # noqa: PLC0415
    from tests.fuzz.wire_targets import examples  # noqa: PLC0415

    protocols = speech.PROTOCOLS
    with live_rooms(folder) as live:

        def run(data: bytes) -> None:
            if len(data) < 2:
                return
            peer = PEERS[data[1] % len(PEERS)]
            place = data[0] % (len(protocols) + 1)
            if place == len(protocols):
                live.hear(peer, data[2:])
            else:
                live.feed(protocols[place], peer, data[2:])

        seeds = [
            bytes([place, peer]) + speech.framing(protocol)(examples()[kind.__struct_config__.tag])
            for place, protocol in enumerate(protocols)
            for kind in speech.KINDS[protocol]
            for peer in range(len(PEERS))
        ]
        signed = [seed for target, seed in _named() if target == "announcement"]
        seeds += [bytes([len(protocols), 0]) + seed for seed in signed]
        yield Group((*protocols, "gossip"), run, tuple(seeds))


def _named() -> Iterator[tuple[str, bytes]]:
    for target in targets().values():
        for seed in target.seeds:
            yield target.name, seed
