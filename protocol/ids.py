"""Names for the identifiers that everything else passes around.

Bytes inside, text only at the edges: `hexadecimal` and `from_hexadecimal` are those edges.
"""

from typing import NewType

from protocol.errors import RemoteProtocolError

Digest = NewType("Digest", bytes)
"""A SHA-256 digest, 32 bytes."""

CdtId = NewType("CdtId", bytes)
"""The identity of an asset in the registry, 32 bytes."""

TaskId = NewType("TaskId", bytes)
"""The identity of a task in the market, 32 bytes."""

SessionId = NewType("SessionId", bytes)
"""One run of an attested task, 32 bytes drawn by the recipient's node."""

Account = NewType("Account", bytes)
"""An EVM account, 20 bytes."""

PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58."""


def hexadecimal(value: bytes) -> str:
    """`value` as lower-case hexadecimal with the prefix `0x`."""
    return "0x" + value.hex()


def from_hexadecimal(text: str, size: int) -> bytes:
    """The `size` bytes that `text` spells; RemoteProtocolError if it spells anything else."""
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        value = b""
    if len(value) != size or len(digits) != 2 * size:
        raise RemoteProtocolError(f"{text!r:.80} is not {size} bytes in hexadecimal")
    return value
