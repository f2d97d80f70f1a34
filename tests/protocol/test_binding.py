"""Bindings: both keys have signed exactly this, here; and an organisation's small document."""

import msgspec
import pytest
from eth_account import Account as EthAccount
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from protocol import binding, organisation, typed_data
from protocol.binding import Binding
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import Account, hexadecimal
from protocol.organisation import Organisation
from protocol.peers import peer_bytes, peer_id_from, peer_id_of
from protocol.typed_data import Bind

LOCAL = EthAccount.from_key(b"\x07" * 32)
ACCOUNT = Account(bytes.fromhex(LOCAL.address[2:]))
KEY = SigningKey(b"\x09" * 32)
PEER = peer_id_of(bytes(KEY.verify_key))
DOMAIN = typed_data.registry_domain(31337, Account(b"\x11" * 20))
UNTIL = 1_900_000_000


def signed(message: Bind, *, domain=DOMAIN, local=LOCAL, key=KEY) -> Binding:
    digest = typed_data.digest(domain, message)
    return Binding(
        account=message.account,
        peer_id=peer_id_from(message.peer_id) if message.peer_id else "",
        valid_until=message.valid_until,
        seq=message.seq,
        account_signature=bytes(local.unsafe_sign_hash(digest).signature),
        peer_signature=binding.sign_as_peer(key, domain, message) if message.peer_id else b"",
    )


RIGHT = signed(binding.bind_to(KEY, ACCOUNT, UNTIL, 3))


def test_both_have_signed() -> None:
    binding.check(RIGHT, DOMAIN)
    binding.check(signed(Bind(ACCOUNT, b"", 0, 4)), DOMAIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 4},
        {"valid_until": UNTIL + 1},
        {"account": b"\x01" * 20},
        {"peer_id": peer_id_of(b"\x05" * 32)},
        {"peer_id": ""},
        {"peer_id": "notapeer"},
        {"peer_signature": bytes(64)},
        {"peer_signature": b""},
        {"account_signature": bytes(65)},
        {"account_signature": b""},
    ],
)
def test_whatever_is_changed_no_signature_covers(changes: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        binding.check(msgspec.structs.replace(RIGHT, **changes), DOMAIN)


def test_it_counts_in_one_registry_on_one_chain() -> None:
    for other in (
        typed_data.registry_domain(1, DOMAIN.contract),
        typed_data.registry_domain(31337, Account(b"\x12" * 20)),
        typed_data.market_domain(31337, DOMAIN.contract),
    ):
        with pytest.raises(RemoteProtocolError, match="account"):
            binding.check(RIGHT, other)


def test_neither_half_alone_binds() -> None:
    message = binding.bind_to(KEY, ACCOUNT, UNTIL, 3)
    stranger = EthAccount.from_key(b"\x08" * 32)
    with pytest.raises(RemoteProtocolError, match="account"):
        binding.check(signed(message, local=stranger), DOMAIN)
    with pytest.raises(RemoteProtocolError, match="peer"):
        binding.check(signed(message, key=SigningKey(b"\x0a" * 32)), DOMAIN)
    nobody = msgspec.structs.replace(signed(Bind(ACCOUNT, b"", 0, 4)), peer_signature=bytes(64))
    with pytest.raises(RemoteProtocolError, match="nobody"):
        binding.check(nobody, DOMAIN)


@given(st.binary(max_size=70), st.binary(max_size=64))
def test_garbage_is_only_ever_a_remote_error(account: bytes, peer: bytes) -> None:
    wrong = msgspec.structs.replace(RIGHT, account_signature=account, peer_signature=peer)
    with pytest.raises(RemoteProtocolError):
        binding.check(wrong, DOMAIN)


def test_it_outlives_its_end_by_what_clocks_may_be_apart() -> None:
    assert binding.holds_at(1_000, 1_000 + binding.CLOCK_TOLERANCE_S)
    assert not binding.holds_at(1_000, 1_001 + binding.CLOCK_TOLERANCE_S)


def test_a_peer_id_and_its_bytes() -> None:
    assert peer_id_from(peer_bytes(PEER)) == PEER
    for raw in (b"", peer_bytes(PEER)[:-1], b"\x12" + peer_bytes(PEER)[1:]):
        with pytest.raises(RemoteProtocolError):
            peer_id_from(raw)


# ---------------------------------------------------------------------- the record

RECORD = Organisation(
    type="organisation",
    account=hexadecimal(ACCOUNT),
    name="bank-a",
    description="a bank",
    peer_id=PEER,
    addresses=("/ip4/192.0.2.1/tcp/4001", "/dns4/node.example/tcp/4001"),
)


def test_a_record_and_its_bytes() -> None:
    body = organisation.canonical(RECORD)
    assert organisation.is_one(body)
    assert organisation.parse(body) == RECORD
    organisation.check(RECORD, ACCOUNT)
    with pytest.raises(RemoteProtocolError, match="another account"):
        organisation.check(RECORD, Account(bytes(20)))


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": ("/ip4/192.0.2.1/udp/1",)},
        {"addresses": ("http://evil",)},
        {"addresses": ("/ip4/192.0.2.1/tcp/4001",) * 9},
        {"addresses": ("/dns4/" + "a" * 300 + "/tcp/1",)},
        {"name": ""},
        {"name": "n" * 65},
        {"description": "d" * 1025},
        {"account": "0x12"},
    ],
)
def test_a_record_keeps_its_bounds(changes: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        organisation.canonical(msgspec.structs.replace(RECORD, **changes))


@given(st.binary(max_size=200))
def test_garbage_is_no_record(body: bytes) -> None:
    assert not organisation.is_one(body)
    with pytest.raises(RemoteProtocolError):
        organisation.parse(body)


def test_another_encoding_or_too_many_bytes_is_no_record() -> None:
    body = organisation.canonical(RECORD)
    for wrong in (body.replace(b":", b": "), body + b" " * organisation.MAX_ORGANISATION_BYTES):
        with pytest.raises(RemoteProtocolError):
            organisation.parse(wrong)
