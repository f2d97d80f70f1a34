"""EIP-712 digests agree with eth-account's, and signatures lead back to their signers."""

from typing import Any

import pytest
from eth_account import Account as EthAccount
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from protocol import typed_data
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import Account
from protocol.typed_data import Attestation, Bind, Domain, Grant, Receipt, TypedMessage, Usage

KEY = EthAccount.from_key(b"\x11" * 32)
ADDRESS = Account(bytes.fromhex(KEY.address[2:]))

words = st.binary(min_size=32, max_size=32)
accounts = st.binary(min_size=20, max_size=20).map(Account)


def below(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


amounts = st.lists(below(256), max_size=5).map(tuple)
messages: st.SearchStrategy[TypedMessage] = st.one_of(
    st.builds(Bind, accounts, st.binary(max_size=40), below(64), below(64)),
    st.builds(
        Grant,
        words,
        words,
        words,
        accounts,
        accounts,
        accounts,
        accounts,
        accounts,
        below(96),
        below(8),
        below(32),
        below(40),
        below(32),
        below(32),
        below(32),
    ),
    st.builds(Attestation, words, words, below(64)),
    st.builds(Receipt, words, words, amounts),
    st.builds(Usage, words, words, words, words, amounts),
)
domains = st.builds(Domain, st.text(max_size=20), below(256), accounts)


def reference(domain: Domain, message: TypedMessage) -> bytes:
    full: dict[str, Any] = typed_data.typed_message(domain, message)
    full["message"] = {
        name: [int(item) for item in value]
        if kind == "uint256[]"
        else int(value)
        if kind.startswith("uint")
        else value
        for (name, kind), value in zip(message.FIELDS, full["message"].values(), strict=True)
    }
    return bytes(_hash_eip191_message(encode_typed_data(full_message=full)))


@given(domains, messages)
def test_digest_equals_the_reference(domain: Domain, message: TypedMessage) -> None:
    assert typed_data.digest(domain, message) == reference(domain, message)


@given(words)
def test_signature_leads_to_its_signer(digest: bytes) -> None:
    signature = bytes(KEY.unsafe_sign_hash(digest).signature)
    assert typed_data.recover(digest, signature) == ADDRESS


@given(words, st.binary(max_size=70))
def test_garbage_is_only_ever_a_remote_error(digest: bytes, signature: bytes) -> None:
    try:
        typed_data.recover(digest, signature)
    except RemoteProtocolError:
        return


def test_upper_half_is_refused() -> None:
    digest = b"\x22" * 32
    signed = KEY.unsafe_sign_hash(digest)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    other = signed.r.to_bytes(32) + (order - signed.s).to_bytes(32) + bytes([55 - signed.v])
    with pytest.raises(RemoteProtocolError, match="lower form"):
        typed_data.recover(digest, other)


def test_value_out_of_range_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError, match="deadline"):
        typed_data.struct_hash(Attestation(b"\0" * 32, b"\0" * 32, 2**64))
    with pytest.raises(LocalProtocolError, match="planHash is not 32 bytes"):
        typed_data.struct_hash(Attestation(b"\0" * 32, b"\0" * 31, 1))


def test_a_known_digest_never_changes() -> None:
    domain = typed_data.market_domain(31337, Account(b"\x01" * 20))
    attestation = Attestation(b"\x02" * 32, b"\x03" * 32, 1_800_000_000)
    assert typed_data.digest(domain, attestation).hex() == (
        "4767e7c2c592422e765a5f5eacfd9239a397eab38a3521626517be45b73a578f"
    )
