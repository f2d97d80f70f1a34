"""The node's chain account: it signs EIP-712 messages, and nothing shows its key."""

from typing import TYPE_CHECKING, cast

from protocol import typed_data
from protocol.ids import Account
from protocol.typed_data import Domain, TypedMessage

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from eth_typing import Hash32


class Signer:
    """An unlocked account with the two domains in which its signatures count."""

    __slots__ = ("_local", "account", "market", "registry")

    def __init__(self, local: "LocalAccount", registry: Domain, market: Domain) -> None:
        self._local = local
        self.account = Account(bytes.fromhex(local.address.removeprefix("0x")))
        self.registry = registry
        self.market = market

    @property
    def local(self) -> "LocalAccount":
        """The account as web3 signs transactions with it; never format or log it."""
        return self._local

    def sign(self, domain: Domain, message: TypedMessage) -> bytes:
        """The 65-byte signature (r, s, v) of the EIP-712 digest of `message` in `domain`."""
        digest = cast("Hash32", typed_data.digest(domain, message))
        return bytes(self._local.unsafe_sign_hash(digest).signature)

    def __repr__(self) -> str:
        return f"Signer({self.account.hex()})"
