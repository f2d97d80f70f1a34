"""One decoder as a function of bytes, with the errors that it may end in."""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.errors import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class Target:
    """`run` takes any bytes and raises nothing but `allowed`; `seeds` are inputs that are right.

    `own`: the bytes are this node's administrator's, who is told what is wrong and may wait for it.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...] = ()
    allowed: tuple[type[Exception], ...] = (RemoteProtocolError,)
    own: bool = False

    def feed(self, data: bytes) -> bool:
        """True if the bytes were accepted, False if they were refused as they may be."""
        try:
            self.run(data)
        except self.allowed:
            return False
        return True
