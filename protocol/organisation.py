"""What an organisation says of itself: a small document, found by its content address.

The registry's `declare` ties the address of this document to the account that sent it, so the
document needs no signature; it names its account, so that nobody can declare somebody else's.
Adversary: whoever declares. The name, the text and the addresses are its own claims; nothing here
proves more than that this account made them.
"""

from typing import Annotated, Literal

import msgspec
import rfc8785

from protocol.codec import PeerIdText, Text
from protocol.documents import Hex20
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import Account, hexadecimal

MAX_ORGANISATION_BYTES = 8_192
MAX_ADDRESSES = 8
MAX_NAME = 64

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Address = Annotated[
    str,
    msgspec.Meta(
        max_length=256,
        pattern=r"\A/(ip4|ip6|dns|dns4|dns6)/[^/\s]+/tcp/[0-9]{1,5}(/p2p/\w+)?\Z",
    ),
]


class Organisation(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False
):
    """The document; `addresses` are multiaddrs at which the node `peer_id` can be reached."""

    type: Literal["organisation"]
    account: Hex20
    name: Name
    description: Text
    peer_id: PeerIdText
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=MAX_ADDRESSES)]


class _Typed(msgspec.Struct, frozen=True):
    type: str


def canonical(document: Organisation) -> bytes:
    """The RFC 8785 bytes of the document; LocalProtocolError if it breaks a rule."""
    try:
        body = rfc8785.dumps(msgspec.to_builtins(document))
        parse(body)
    except (rfc8785.CanonicalizationError, RemoteProtocolError) as error:
        raise LocalProtocolError(f"the organisation's document: {error}") from error
    return body


def is_one(body: bytes) -> bool:
    """True if `body` calls itself an organisation's document, whether or not it is a good one."""
    try:
        return msgspec.json.decode(body, type=_Typed).type == "organisation"
    except (msgspec.DecodeError, UnicodeError):
        return False


def parse(body: bytes) -> Organisation:
    """The document whose canonical bytes are `body`.

    RemoteProtocolError if it is too large, not canonical, or lacks or adds a member.
    """
    if len(body) > MAX_ORGANISATION_BYTES:
        raise RemoteProtocolError(
            f"an organisation's document of {len(body)} bytes; at most {MAX_ORGANISATION_BYTES}"
        )
    try:
        document = msgspec.json.decode(body, type=Organisation)
        again = rfc8785.dumps(msgspec.to_builtins(document))
    except (msgspec.DecodeError, rfc8785.CanonicalizationError, UnicodeError) as error:
        raise RemoteProtocolError(f"organisation's document: {error}") from error
    if again != body:
        raise RemoteProtocolError("the organisation's document is not in canonical form (RFC 8785)")
    return document


def check(document: Organisation, account: Account) -> None:
    """RemoteProtocolError unless the document is of this account."""
    if document.account != hexadecimal(account):
        raise RemoteProtocolError("the organisation's document is of another account")
