"""Where the contracts are: written down, checked, and put on a chain.

Adversary: a wrong configuration, or an endpoint that serves another chain or other code.
`verify` compares the code at each address with the committed artefact, and the addresses that
the contracts believe of each other. An endpoint that lies consistently about all of it is
noticed only by comparing it with another one.
"""

import json
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from eth_hash.auto import keccak

from chain import views
from chain.abi import artefact, creation, read
from chain.errors import ContractsMissing, WrongChain
from chain.provider import TrioProvider
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.typed_data import Domain, market_domain, registry_domain

CreateContract = Callable[[bytes], Awaitable[Account]]
"""Sends a creation transaction and returns the new contract's address once it stands."""

DEFAULT_SUPPLY: Final = 10**9 * 10**18
DEFAULT_BOND: Final = 10 * 10**18


@dataclass(frozen=True, slots=True)
class Deployment:
    """One set of contracts on one chain; `block` is where the registry was created."""

    chain_id: int
    registry: Account
    market: Account
    token: Account
    block: int = 0

    @property
    def registry_domain(self) -> Domain:
        """Where `Bind` and `Grant` signatures count."""
        return registry_domain(self.chain_id, self.registry)

    @property
    def market_domain(self) -> Domain:
        """Where `Attestation`, `Receipt` and `Usage` signatures count."""
        return market_domain(self.chain_id, self.market)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, addresses as text."""
        return {
            name: hexadecimal(value) if isinstance(value, bytes) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Deployment":
        """The deployment of `to_dict`; RemoteProtocolError if an address is malformed."""
        return cls(
            chain_id=int(plain["chain_id"]),
            registry=Account(from_hexadecimal(plain["registry"], 20)),
            market=Account(from_hexadecimal(plain["market"], 20)),
            token=Account(from_hexadecimal(plain["token"], 20)),
            block=int(plain.get("block", 0)),
        )

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Deployment":
        """The deployment of `to_json`."""
        return cls.from_dict(json.loads(text))

    def to_toml(self) -> str:
        """Lines for the table [chain] of a node's configuration."""
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in self.to_dict().items())

    @classmethod
    def from_toml(cls, text: str) -> "Deployment":
        """The deployment of `to_toml`."""
        return cls.from_dict(tomllib.loads(text))

    async def verify(self, provider: TrioProvider) -> None:
        """Return if the endpoint serves this chain with exactly these contracts.

        Raises WrongChain, ContractsMissing (which address, what is wrong), ChainUnreachable.
        """
        served = int(await provider.ask("eth_chainId"), 16)
        if served != self.chain_id:
            raise WrongChain(f"{provider.url} serves chain {served} instead of {self.chain_id}")
        await _check_code(provider, "Registry", self.registry)
        await _check_code(provider, "TaskMarket", self.market)
        if not await _code(provider, self.token):
            raise ContractsMissing(f"no contract at {hexadecimal(self.token)} (token)")
        if await read(provider, self.registry, views.market_of()) != self.market:
            raise ContractsMissing("the registry believes another market than the configured one")
        if await read(provider, self.market, views.registry_of()) != self.registry:
            raise ContractsMissing("the market believes another registry than the configured one")


async def _code(provider: TrioProvider, address: Account) -> str:
    code = await provider.ask("eth_getCode", hexadecimal(address), "latest")
    return str(code).removeprefix("0x")


async def _check_code(provider: TrioProvider, contract: str, address: Account) -> None:
    code = await _code(provider, address)
    if not code:
        raise ContractsMissing(f"no contract at {hexadecimal(address)} ({contract})")
    # Vyper appends a contract's immutable values to its code.
    if not code.startswith(artefact(contract)["runtime"].removeprefix("0x")):
        raise ContractsMissing(f"another contract at {hexadecimal(address)} than our {contract}")


def created_address(creator: Account, nonce: int) -> Account:
    """The address of the contract that the creator's transaction with this nonce makes."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8)
    if nonce == 0 or nonce >= 0x80:
        number = bytes([0x80 + len(number)]) + number
    items = b"\x94" + creator + number  # RLP of [creator, nonce]
    return Account(keccak(bytes([0xC0 + len(items)]) + items)[12:])


async def deploy(
    create: CreateContract,
    provider: TrioProvider,
    deployer: Account,
    *,
    token: Account | None = None,
    bond: int = DEFAULT_BOND,
    dispute_window_s: int = 3600,
    decision_period_s: int = 86400,
    grace_s: int = 3600,
) -> Deployment:
    """Put the contracts on a chain; nobody, the deployer included, has power over them then.

    Without `token` a test token is created, whose whole supply the deployer owns; bonds are
    lodged in the same token. `create` must send nothing else from the deployer meanwhile: the
    registry is told the market's address in advance. Raises what `create` raises.
    """
    chain_id = int(await provider.ask("eth_chainId"), 16)
    block = int(await provider.ask("eth_blockNumber"), 16)
    if token is None:
        token = await create(creation("TestToken", DEFAULT_SUPPLY))
    count = await provider.ask("eth_getTransactionCount", hexadecimal(deployer), "pending")
    market = created_address(deployer, int(count, 16) + 1)
    registry = await create(creation("Registry", market))
    periods = (dispute_window_s, decision_period_s, grace_s)
    made = await create(creation("TaskMarket", registry, token, bond, *periods))
    if made != market:
        raise ContractsMissing("the market was created elsewhere: another transaction came between")
    return Deployment(chain_id, registry, market, token, block)
