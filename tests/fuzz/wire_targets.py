"""Wire types, envelopes around them, and what stands on signatures."""

from functools import cache

import msgspec.inspect
from nacl.signing import SigningKey

from protocol import codec, envelope, manifest, peers, typed_data
from protocol.codec import Wire
from protocol.envelope import Signed
from protocol.messages import MAX_ANNOUNCEMENT_BYTES, Announcement
from tests.fuzz import wire_kinds
from tests.fuzz.target import Target
from tests.protocol.test_codec import example

SEED = SigningKey(bytes(range(32)))
PEER_ID = peers.peer_id_of(bytes(SEED.verify_key))


@cache
def examples() -> dict[str, bytes]:
    """tag -> the bytes of one value of every wire type: those of the golden vectors."""
    return {
        tag: codec.encode(example(msgspec.inspect.type_info(kind)))
        for tag, kind in wire_kinds.kinds().items()
    }


def wire() -> list[Target]:
    """One target for each wire type; what is accepted must be the canonical form."""
    return [_wire_target(tag, kind) for tag, kind in sorted(wire_kinds.kinds().items())]


def _wire_target(tag: str, kind: type[Wire]) -> Target:
    def run(data: bytes) -> None:
        value = codec.decode(data, kind)
        if codec.encode(value) != data:
            raise AssertionError(f"{tag}: two encodings of one value")

    return Target(f"wire:{tag}", run, (examples()[tag],))


def signed() -> list[Target]:
    """Envelopes around each kind of body, and what stands on signatures."""
    bodies = tuple(wire_kinds.kinds().values())
    roster = codec.decode(examples()["roster"], manifest.Roster)
    sealed = codec.encode(envelope.seal(roster, SEED))
    told = codec.decode(examples()["announcement"], Announcement)

    def opened(data: bytes) -> None:
        envelope.open_signed(codec.decode(data, Signed), *bodies)

    def announced(data: bytes) -> None:
        signed = codec.decode(data, Signed, limit=MAX_ANNOUNCEMENT_BYTES)
        envelope.open_signed(signed, Announcement)

    def forged(data: bytes) -> None:
        """The body under a signature of our own: what only the body's own checks can refuse."""
        signature = SEED.sign(envelope.DOMAIN + data).signature
        key = bytes(SEED.verify_key)
        envelope.open_signed(Signed(body=data, key=key, signature=signature), *bodies, key=key)

    def checked(data: bytes) -> None:
        manifest.check_roster(codec.decode(data, manifest.Roster))

    def recovered(data: bytes) -> None:
        typed_data.recover(data[:32].ljust(32, b"\0"), data[32:])

    return [
        Target("envelope", opened, (sealed,)),
        Target("announcement", announced, (codec.encode(envelope.seal(told, SEED)),)),
        Target("forged-body", forged, tuple(examples().values())),
        Target("roster", checked, (codec.encode(roster),)),
        Target("account-signature", recovered, (bytes(32) + b"\x01" * 64 + b"\x1b",)),
    ]
