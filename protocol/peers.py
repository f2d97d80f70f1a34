"""Ed25519 peer ids: the libp2p identity multihash that holds the public key itself.

Source: libp2p specification, "Peer Ids and Keys": an Ed25519 key is short enough to be inlined,
so the id of such a peer gives its key without asking anybody.
"""

import base58

from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId

_INLINE = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])
"""Identity multihash of 36 bytes: protobuf {type: Ed25519, data: 32 bytes}."""
_LONGEST = 128
"""Characters: base58 takes time in proportion to the square of the length."""


def peer_key(peer_id: str) -> bytes:
    """The 32-byte Ed25519 public key in `peer_id`; RemoteProtocolError if it holds none."""
    if len(peer_id) > _LONGEST:
        raise RemoteProtocolError(f"a peer id of {len(peer_id)} characters")
    try:
        raw = base58.b58decode(peer_id)
    except ValueError as error:
        raise RemoteProtocolError(f"{peer_id!r:.80} is not a peer id") from error
    if raw[:6] != _INLINE or len(raw) != 38:
        raise RemoteProtocolError(f"{peer_id!r:.80} is not the peer id of an Ed25519 key")
    return raw[6:]


def peer_id_of(key: bytes) -> PeerId:
    """The peer id of the 32-byte Ed25519 public key `key`."""
    return PeerId(base58.b58encode(_INLINE + key).decode())


def peer_bytes(peer_id: str) -> bytes:
    """The multihash bytes of `peer_id`, as contracts have them; RemoteProtocolError if none."""
    return _INLINE + peer_key(peer_id)


def peer_id_from(raw: bytes) -> PeerId:
    """The peer id of these multihash bytes; RemoteProtocolError unless of an Ed25519 key."""
    if raw[:6] != _INLINE or len(raw) != 38:
        raise RemoteProtocolError("the bytes are not the peer id of an Ed25519 key")
    return peer_id_of(raw[6:])


def is_peer_id(text: str) -> bool:
    """Whether `text` is the peer id of an Ed25519 key, which every node here has."""
    try:
        return peer_id_of(peer_key(text)) == text
    except RemoteProtocolError:
        return False
