"""What peers say on streams: messages of the right form whose ids the node knows, and worse.

`KINDS` names for each protocol what its handler reads; a test compares it with what a daemon
serves, so that a new protocol is here or the test fails.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from node import negotiations, reconcile_service, sessions
from protocol import codec, envelope, messages
from protocol.bitswap import BITSWAP_PROTOCOL
from protocol.codec import Wire
from protocol.reconcile_messages import RECONCILE_PROTOCOL
from tests.fuzz import hostile, wire_kinds
from tests.fuzz.wire_targets import SEED
from tests.node.rooms.contracts import ALGORITHM, ARBITER, COMPUTE, DATA
from tests.protocol.test_codec import strategy

KINDS: dict[str, tuple[type[Wire], ...]] = {
    messages.DOCUMENT_PROTOCOL: (messages.DocumentRequest,),
    messages.NEGOTIATION_PROTOCOL: negotiations.KINDS,
    messages.ATTESTATION_PROTOCOL: (messages.AttestationRequest,),
    messages.SESSION_PROTOCOL: sessions.REQUESTS,
    messages.REVOCATION_PROTOCOL: (messages.Revocation, envelope.Signed),
    messages.TUNNEL_PROTOCOL: (messages.TunnelRequest,),
    RECONCILE_PROTOCOL: reconcile_service.KINDS,
    BITSWAP_PROTOCOL: (),
}
PROTOCOLS = tuple(KINDS)
PROCESSES = tuple(bytes([200 + number]) * 32 for number in range(3))
IDS: dict[int, tuple[bytes, ...]] = {
    32: (*DATA.values(), *COMPUTE.values(), ALGORITHM, *PROCESSES, bytes(32)),
    20: (ARBITER, bytes(20)),
}


def delimited(payload: bytes) -> bytes:
    """`payload` behind its length as a varint, as libp2p's own protocols have it."""
    size, prefix = len(payload), bytearray()
    while size >= 0x80:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(prefix) + bytes([size]) + payload


def framed(payload: bytes) -> bytes:
    """`payload` as one frame of `node.streams`."""
    return len(payload).to_bytes(4, "big") + payload


def framing(protocol: str) -> Callable[[bytes], bytes]:
    """How `protocol` frames."""
    return delimited if protocol == BITSWAP_PROTOCOL else framed


def placed(value: Any, dice: random.Random, ids: dict[int, tuple[bytes, ...]]) -> Any:
    """`value` with most of its ids, at any depth, replaced by some that mean something."""
    if isinstance(value, bytes) and len(value) in ids and dice.random() < 0.8:
        return dice.choice(ids[len(value)])
    if isinstance(value, tuple):
        return tuple(placed(each, dice, ids) for each in value)
    if isinstance(value, msgspec.Struct):
        members = {name: getattr(value, name) for name in value.__struct_fields__}
        return msgspec.structs.replace(
            value, **{name: placed(member, dice, ids) for name, member in members.items()}
        )
    return value


def values(ids: dict[int, tuple[bytes, ...]], *kinds: type[Wire]) -> st.SearchStrategy[Wire]:
    """Values of `kinds`, or of any kind there is, with ids out of `ids`."""
    some = kinds or tuple(wire_kinds.kinds().values())
    drawn = st.sampled_from(some).flatmap(lambda kind: strategy(inspect.type_info(kind)))
    return st.tuples(drawn, st.randoms(use_true_random=False)).map(
        lambda pair: placed(pair[0], pair[1], ids)
    )


def encoded(value: Wire) -> bytes:
    """Its bytes, though it may break a rule that no peer would keep either."""
    return codec._encoder.encode(value)


def payloads(protocol: str, ids: dict[int, tuple[bytes, ...]]) -> st.SearchStrategy[bytes]:
    """What somebody sends as the payload of a frame."""
    right = values(ids, *KINDS[protocol]).map(encoded)
    signed = values(ids, *KINDS[protocol]).map(lambda value: encoded(_sealed(encoded(value))))
    other = values(ids).map(encoded)
    broken = right.flatmap(hostile.from_seed)
    return st.one_of(right, right, signed, other, broken, hostile.hostile(()))


def _sealed(body: bytes) -> envelope.Signed:
    signature = SEED.sign(envelope.DOMAIN + body).signature
    return envelope.Signed(body=body, key=bytes(SEED.verify_key), signature=signature)


def streams(protocol: str, ids: dict[int, tuple[bytes, ...]]) -> st.SearchStrategy[bytes]:
    """All bytes of one stream: a frame, several, a lying length, none."""
    frame = framing(protocol)
    payload = payloads(protocol, ids)
    whole = payload.map(frame)
    return st.one_of(
        whole,
        whole,
        whole,
        payload,
        st.lists(whole, max_size=3).map(b"".join),
        whole.flatmap(hostile.from_seed),
    )
