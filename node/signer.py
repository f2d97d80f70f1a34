"""The node's chain account: it signs EIP-712 messages, and nothing shows its key.

The key is in the node's keystore, or with a signer outside the node ([signer] in northbund.toml).
"""

from typing import TYPE_CHECKING, cast

from node.config import FolderConfig
from node.errors import Fault
from node.keys import keystore_account
from protocol import typed_data
from protocol.ids import Account
from protocol.typed_data import Domain, TypedMessage

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from eth_typing import Hash32

    from chain.external import ExternalSigner


def own_account(configured: FolderConfig) -> Account:
    """The account of the node in this folder; Fault as `keystore_account`."""
    outside = configured.config.signer
    return outside.account if outside else keystore_account(configured.folder.keystore)


class Signer:
    """An account that can sign, with the two domains in which its signatures count."""

    __slots__ = ("_key", "account", "market", "registry")

    def __init__(
        self, key: "LocalAccount | ExternalSigner", registry: Domain, market: Domain
    ) -> None:
        self._key = key
        self.account = Account(bytes.fromhex(key.address.removeprefix("0x")))
        self.registry = registry
        self.market = market

    @property
    def key(self) -> "LocalAccount | ExternalSigner":
        """What signs transactions for the outbox; never format or log it."""
        return self._key

    def sign(self, domain: Domain, message: TypedMessage) -> bytes:
        """The 65-byte signature (r, s, v) of the EIP-712 digest of `message` in `domain`.

        Fault `signer-failed` if a signer outside does not answer, or refuses.
        """
        if hasattr(self._key, "unsafe_sign_hash"):
            digest = cast("Hash32", typed_data.digest(domain, message))
            return bytes(self._key.unsafe_sign_hash(digest).signature)
        from chain.errors import ChainError  # noqa: PLC0415  loaded with the key

        try:
            return self._key.sign_typed(domain, message)
        except ChainError as error:
            raise Fault("signer-failed", str(error)) from error

    def __repr__(self) -> str:
        return f"Signer({self.account.hex()})"
