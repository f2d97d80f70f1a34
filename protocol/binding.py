"""Which network peer speaks for a chain account: a statement that both of them sign.

Adversary: whoever claims another's account, or another's peer. The account signs the EIP-712
message `Bind`, the peer's Ed25519 key signs the same digest, so neither can be claimed without
its key. A statement with a higher `seq` takes the place of every earlier one; one that names no
peer ends the matter. Where chain and gossip disagree is for `node.bindings` to settle.
"""

from typing import Annotated, Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from protocol import typed_data
from protocol.codec import U53, Bytes20, SmallBytes, Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, Digest
from protocol.peers import peer_bytes, peer_id_of, peer_key
from protocol.typed_data import Bind, Domain

CLOCK_TOLERANCE_S: Final = 300
"""Clocks of organisations may be minutes apart: so long a binding outlives its `valid_until`."""

BoundPeer = Annotated[str, msgspec.Meta(max_length=128, pattern=r"\A[1-9A-Za-z]*\Z")]
PeerSignature = Annotated[bytes, msgspec.Meta(max_length=64)]


class Binding(Wire, frozen=True, tag="binding"):
    """`peer_id` speaks for `account` until `valid_until` (Unix seconds); empty: nobody does.

    `account_signature` is the account's over the EIP-712 digest of `Bind`, `peer_signature` the
    peer's Ed25519 signature over the same 32 bytes (empty where there is no peer).
    """

    account: Bytes20
    peer_id: BoundPeer
    valid_until: U53
    seq: U53
    account_signature: SmallBytes
    peer_signature: PeerSignature


def message_of(binding: Binding) -> Bind:
    """The typed message that both signatures cover; RemoteProtocolError if it names no peer id."""
    peer = peer_bytes(binding.peer_id) if binding.peer_id else b""
    return Bind(Account(binding.account), peer, binding.valid_until, binding.seq)


def check(binding: Binding, domain: Domain) -> None:
    """RemoteProtocolError unless the account, and the peer if there is one, have signed this."""
    message = message_of(binding)
    digest = typed_data.digest(domain, message)
    if typed_data.recover(digest, binding.account_signature) != binding.account:
        raise RemoteProtocolError("the binding is not signed by the account that it names")
    if binding.peer_id:
        check_peer(digest, peer_key(binding.peer_id), binding.peer_signature)
    elif binding.peer_signature:
        raise RemoteProtocolError("a binding to nobody carries a peer's signature")


def check_peer(digest: Digest, key: bytes, signature: bytes) -> None:
    """RemoteProtocolError unless the peer with this Ed25519 key has signed the digest."""
    try:
        VerifyKey(key).verify(digest, signature)
    except (BadSignatureError, ValueError) as error:
        raise RemoteProtocolError("the binding is not signed by the peer that it names") from error


def sign_as_peer(key: SigningKey, domain: Domain, message: Bind) -> bytes:
    """The peer's half: 64 bytes."""
    return bytes(key.sign(typed_data.digest(domain, message)).signature)


def bind_to(key: SigningKey, account: Account, valid_until: int, seq: int) -> Bind:
    """The message by which the peer with this key is to speak for `account`."""
    return Bind(account, peer_bytes(peer_id_of(bytes(key.verify_key))), valid_until, seq)


def holds_at(valid_until: int, now: float) -> bool:
    """Whether a binding of that validity counts at Unix time `now`, clocks being apart."""
    return now <= valid_until + CLOCK_TOLERANCE_S
