"""An account whose key stays outside the node: another process signs, asked over JSON-RPC.

Adversary: whoever takes over the node finds no key in it; the outside signer (web3signer, Clef, a
custodian's gateway) shows or filters what it signs by rules of its own. What comes back is checked
here: the signature must be of this account, over exactly what was asked.

Transactions are signed by `eth_signTransaction` and sent by the outbox, which has stored them by
then. `eth_sendTransaction` was rejected: after a crash between the signer's broadcast and our
commit nobody here knows the hash, so the receipt cannot be found, and what is stuck cannot be sent
again.
"""

import itertools
import json
import time
from collections.abc import Callable
from typing import Any, Final

import httpx2
from eth_account import Account as EthAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

from chain.errors import ChainRefused, ChainUnreachable
from chain.provider import TrioProvider, refusal
from chain.recursion import restore_limit
from protocol import typed_data
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, hexadecimal
from protocol.typed_data import Domain, TypedMessage

restore_limit()

TYPED_TIMEOUT_S: Final = 5.0
REST_S: Final = 30.0
SIGN_TIMEOUT_S: Final = 120.0
"""A transaction may wait for a person; the outbox waits with it, nothing else does."""
_NO_TRANSACTION: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
    RLPException,
    BadSignature,
    ValidationError,
)
"""What the libraries raise for bytes that are no signed transaction."""


class ExternalSigner:
    """Signs for one account by asking the process at `url`."""

    def __init__(
        self, url: str, account: Account, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.url = url
        self.account = account
        self._ids = itertools.count(1)
        self._clock = clock
        self._silent_until = 0.0

    @property
    def address(self) -> str:
        """The account in hexadecimal."""
        return hexadecimal(self.account)

    def __repr__(self) -> str:
        return f"ExternalSigner({self.address})"

    async def sign_transaction(self, transaction: dict[str, Any]) -> bytes:
        """The signed raw transaction with exactly these fields.

        Raises ChainUnreachable if the signer does not answer, ChainRefused if it says no or
        signs something else.
        """
        provider = TrioProvider(self.url, timeout_s=SIGN_TIMEOUT_S)
        try:
            request = {name: _on_the_wire(value) for name, value in transaction.items()}
            answer = await provider.ask("eth_signTransaction", request | {"from": self.address})
        finally:
            await provider.aclose()
        # Clef wraps it
        return self.accept(answer.get("raw") if isinstance(answer, dict) else answer, transaction)

    def accept(self, raw: Any, wanted: dict[str, Any]) -> bytes:
        """The bytes of the signed transaction `raw`, in hexadecimal, that has the `wanted` fields.

        Raises ChainRefused if it is anything else.
        """
        try:
            signed = bytes.fromhex(str(raw).removeprefix("0x"))
            self._check(signed, wanted)
        except _NO_TRANSACTION as error:
            raise ChainRefused(f"the signer gives no signed transaction: {error!r:.200}") from error
        return signed

    def _check(self, signed: bytes, wanted: dict[str, Any]) -> None:
        if EthAccount.recover_transaction(HexBytes(signed)).lower() != self.address:
            raise ChainRefused("the signer signs with another key than the configured account's")
        found = TypedTransaction.from_bytes(HexBytes(signed)).as_dict()
        for name, value in wanted.items():
            if _on_the_wire(found[name]) != _on_the_wire(value):
                raise ChainRefused(f"the signer signed another {name} than was asked for")

    def sign_typed(self, domain: Domain, message: TypedMessage) -> bytes:
        """The 65-byte EIP-712 signature (`eth_signTypedData_v4`), checked to be this account's.

        Blocks for at most TYPED_TIMEOUT_S; a signer that was silent is not asked again for
        REST_S, so that it does not hold up the whole node. Raises as `sign_transaction`.
        """
        if self._clock() < self._silent_until:
            raise ChainUnreachable(f"the signer {self.url} did not answer a moment ago")
        answer = self._ask(
            "eth_signTypedData_v4", self.address, typed_data.typed_message(domain, message)
        )
        try:
            signature = bytes.fromhex(str(answer).removeprefix("0x"))
            if len(signature) == 65 and signature[64] < 27:
                signature = signature[:64] + bytes([signature[64] + 27])
            signer = typed_data.recover(typed_data.digest(domain, message), signature)
        except (ValueError, RemoteProtocolError) as error:
            raise ChainRefused(f"the signer gives no signature: {error}") from error
        if signer != self.account:
            raise ChainRefused("the signer signs with another key than the configured account's")
        return signature

    def _ask(self, method: str, *params: Any) -> Any:
        form = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            with httpx2.Client(timeout=TYPED_TIMEOUT_S, trust_env=False) as client:
                answer = client.post(self.url, json=form).json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
            self._silent_until = self._clock() + REST_S
            detail = str(error) or type(error).__name__
            raise ChainUnreachable(f"the signer {self.url} does not answer: {detail}") from error
        if not isinstance(answer, dict) or "result" not in answer:
            said = answer.get("error") if isinstance(answer, dict) else None
            reason = refusal(said) if isinstance(said, dict) else json.dumps(answer)[:200]
            raise ChainRefused(f"the signer refuses: {reason}")
        return answer["result"]


def _on_the_wire(value: Any) -> str:
    if isinstance(value, int):
        return hex(value)
    return "0x" + bytes(value).hex()
