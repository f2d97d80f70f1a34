"""Questions to the contracts; `chain.abi.read` asks them."""

from chain.abi import View, view
from chain.values import (
    GrantWord,
    Head,
    Record,
    to_account,
    unpack_grant,
    unpack_head,
    unpack_record,
)
from protocol.ids import Account


def head_of(cdt: bytes) -> View[Head | None]:
    """The registry's entry of one asset; None if it is unknown. Sent to the registry."""
    return view("Registry", "heads", unpack_head, cdt)


def grant_of(child: bytes, parent: bytes) -> View[tuple[GrantWord, bytes]]:
    """The newest grant of one edge under the child's present owner, and its key.

    The key is `chain.identities.grant_key` of what was granted.
    """
    return view("Registry", "grant_of", lambda word, key: (unpack_grant(word), key), child, parent)


def trusts(owner: Account, attester: Account) -> View[bool]:
    """Whether the owner accepts this account's attestations."""
    return view("Registry", "trusts", bool, owner, attester)


def binding_seq(account: Account) -> View[int]:
    """The `seq` of the account's latest peer binding; 0 if it has none."""
    return view("Registry", "binding_seq", int, account)


def record_of(task: bytes) -> View[Record]:
    """Where a task stands. Sent to the market."""
    return view("TaskMarket", "records", unpack_record, task)


def credit_of(token: Account, account: Account) -> View[int]:
    """What the account can withdraw."""
    return view("TaskMarket", "credits", int, token, account)


def bond_of(attester: Account) -> View[int]:
    """The attester's bond that no task has locked."""
    return view("TaskMarket", "bonds", int, attester)


def bond_amount() -> View[int]:
    """What each attestation locks."""
    return view("TaskMarket", "bond", int)


def bond_token() -> View[Account]:
    """The token in which bonds are lodged."""
    return view("TaskMarket", "bond_token", to_account)


def market_of() -> View[Account]:
    """The market that a registry believes. Sent to the registry."""
    return view("Registry", "market", to_account)


def registry_of() -> View[Account]:
    """The registry that a market believes. Sent to the market."""
    return view("TaskMarket", "registry", to_account)


def balance_of(account: Account) -> View[int]:
    """The account's tokens. Sent to the token."""
    return view("TestToken", "balanceOf", int, account)


def allowance(owner: Account, spender: Account) -> View[int]:
    """How much of the owner's tokens the spender may move. Sent to the token."""
    return view("TestToken", "allowance", int, owner, spender)
