"""The Ed25519 envelope: who says it, and that it says exactly this.

A signature covers the domain "northbund/1", the tag of the body and the canonical body, so a
signature given for one kind of message can never be shown as one for another.
"""

from typing import TypeVar

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from protocol import codec
from protocol.codec import Bytes32, Bytes64, Wire
from protocol.errors import RemoteProtocolError

DOMAIN = b"northbund/1\x00"

W = TypeVar("W", bound=Wire)


class Signed(Wire, frozen=True, tag="signed"):
    """A body in its canonical bytes, the Ed25519 key that vouches for it, and the signature."""

    body: bytes
    key: Bytes32
    signature: Bytes64


def _signed_bytes(body: bytes) -> bytes:
    return DOMAIN + body


def seal(body: Wire, key: SigningKey) -> Signed:
    """`body` signed by `key` (RFC 8032, deterministic)."""
    data = codec.encode(body)
    signature = key.sign(_signed_bytes(data)).signature
    return Signed(body=data, key=bytes(key.verify_key), signature=signature)


def open_signed(signed: Signed, *kinds: type[W], key: bytes | None = None) -> W:
    """The body, after its signature has been checked.

    With `key`, only that Ed25519 public key may have signed. RemoteProtocolError if the
    signature is wrong, the signer is another, or the body is not one of `kinds`.
    """
    if key is not None and signed.key != key:
        raise RemoteProtocolError("signed by another key than the one expected")
    try:
        VerifyKey(signed.key).verify(_signed_bytes(signed.body), signed.signature)
    except (BadSignatureError, ValueError) as error:
        raise RemoteProtocolError("the signature does not fit the message") from error
    return codec.decode(signed.body, *kinds)
