"""The contracts inside an EVM in memory (titanoboa), each test on a fresh copy of one state.

titanoboa's own pytest plugin stays off: it swallows failures of other packages' async tests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boa
import pytest
from eth_account import Account as EthAccount
from eth_account.signers.local import LocalAccount

from chain.compile import FOLDER
from chain.contracts import witness_arguments
from chain.deployment import created_address
from chain.identities import dues_hash, task_id
from chain.values import ALGORITHM, DATA, Due, Node, SignedBy, TaskTerms, fields_of
from protocol import typed_data
from protocol.ids import Account, CdtId
from protocol.typed_data import Domain, Grant, Receipt, Usage

BOND = 1_000
WINDOW_S = 600
DECISION_S = 900
GRACE_S = 300
DECIDER = Account(b"\x0d" * 20)
TERMS = b"\x07" * 32


def address(account: bytes) -> str:
    return "0x" + account.hex()


@dataclass(frozen=True, slots=True)
class World:
    """The three contracts and what tests do with them again and again."""

    registry: Any
    market: Any
    token: Any

    @property
    def now(self) -> int:
        return int(boa.env.evm.patch.timestamp)

    @property
    def chain_id(self) -> int:
        return int(boa.env.evm.patch.chain_id)

    @property
    def market_account(self) -> Account:
        return Account(bytes.fromhex(self.market.address[2:]))

    @property
    def token_account(self) -> Account:
        return Account(bytes.fromhex(self.token.address[2:]))

    def domain(self, contract: Any) -> Domain:
        account = Account(bytes.fromhex(contract.address[2:]))
        if contract is self.registry:
            return typed_data.registry_domain(self.chain_id, account)
        return typed_data.market_domain(self.chain_id, account)

    @staticmethod
    def account(key: LocalAccount) -> Account:
        return Account(bytes.fromhex(key.address[2:]))

    @staticmethod
    def load(name: str, *arguments: Any) -> Any:
        return boa.load(Path(__file__).parent / f"{name}.vy", *arguments)

    def as_(self, who: bytes | LocalAccount) -> Any:
        account = who if isinstance(who, bytes) else self.account(who)
        return boa.env.prank(address(account))

    def register(self, owner: LocalAccount, proof: bytes, kind: int = DATA) -> CdtId:
        with self.as_(owner):
            return CdtId(self.registry.register(kind, proof, "ipfs://x", 0))

    def compose(
        self,
        owner: LocalAccount,
        children: Sequence[bytes],
        kind: int = ALGORITHM,
        proof: bytes = b"\xaa" * 32,
    ) -> CdtId:
        with self.as_(owner):
            return CdtId(self.registry.compose(kind, proof, "ipfs://y", sorted(children), 0))

    def node(
        self,
        owner: LocalAccount,
        children: Sequence[bytes],
        kind: int = ALGORITHM,
        proof: bytes = b"\xaa" * 32,
    ) -> Node:
        terms = tuple(TERMS for _ in children)
        return Node(self.account(owner), kind, proof, 0, tuple(sorted(children)), terms)

    def grant(
        self,
        child: bytes,
        parent: bytes,
        owner: LocalAccount,
        consumer: LocalAccount,
        **changes: Any,
    ) -> Grant:
        made = Grant(
            child=child,
            parent=parent,
            terms_hash=TERMS,
            owner=self.account(owner),
            consumer=self.account(consumer),
            market=self.market_account,
            token=self.token_account,
            decider=DECIDER,
            price=5,
            price_unit=0,
            max_uses=3,
            expiry=self.now + 10_000,
            seq=1,
        )
        return replace(made, **changes)

    def sign(self, key: LocalAccount, contract: Any, message: typed_data.TypedMessage) -> bytes:
        digest = typed_data.digest(self.domain(contract), message)
        return bytes(key.unsafe_sign_hash(digest).signature)

    def signed(self, key: LocalAccount, grant: Grant) -> tuple[tuple[Any, ...], bytes]:
        return self.values(grant), self.sign(key, self.registry, grant)

    @staticmethod
    def values(value: Any) -> tuple[Any, ...]:
        """A dataclass as titanoboa wants it: accounts as text."""
        fields = value.values() if isinstance(value, Grant) else fields_of(value)
        return tuple(address(f) if isinstance(f, bytes) and len(f) == 20 else f for f in fields)

    def many(self, items: Sequence[Any]) -> list[tuple[Any, ...]]:
        return [self.values(item) for item in items]

    def fund(self, who: LocalAccount, amount: int) -> None:
        self.token.transfer(who.address, amount)
        with self.as_(who):
            self.token.approve(self.market.address, amount)

    def lodge(self, attester: LocalAccount, amount: int = BOND) -> None:
        self.fund(attester, amount)
        with self.as_(attester):
            self.market.lodge_bond(amount)

    def task(self, cdt: CdtId, consumer: LocalAccount, **changes: Any) -> TaskTerms:
        account = self.account(consumer)
        made = TaskTerms(
            cdt=cdt,
            consumer=account,
            opener=account,
            recipient=account,
            decider=DECIDER,
            token=self.token_account,
            budget=100,
            deadline=self.now + 1_000,
            salt=b"\0" * 32,
        )
        return replace(made, **changes)

    def task_id(self, terms: TaskTerms) -> bytes:
        return task_id(self.chain_id, self.market_account, terms)

    def state(self, terms: TaskTerms) -> int:
        return int(self.market.records(self.task_id(terms))[0]) & 255

    def attest(self, who: LocalAccount, terms: TaskTerms, nodes: Sequence[Node]) -> list[Due]:
        composites, children, read = witness_arguments(nodes)
        texts = [(address(creator), *rest) for creator, *rest in composites]
        with self.as_(who):
            self.market.attest(self.values(terms), texts, children, read, b"\x03" * 32)
        dues = self.events(self.market, "Attested")[0].dues
        return [Due(d[0], d[1], self.raw(d[2]), d[3], d[4]) for d in dues]

    @staticmethod
    def raw(text: Any) -> Account:
        return Account(bytes.fromhex(str(text)[2:]))

    @staticmethod
    def events(contract: Any, name: str) -> list[Any]:
        return [e for e in contract.get_logs() if type(e).__name__ == name]

    def receipt(
        self, key: LocalAccount, terms: TaskTerms, dues: Sequence[Due], amounts: Sequence[int]
    ) -> bytes:
        message = Receipt(self.task_id(terms), dues_hash(dues), tuple(amounts))
        return self.sign(key, self.market, message)

    def usage(
        self,
        keys: Sequence[LocalAccount],
        terms: TaskTerms,
        dues: Sequence[Due],
        amounts: Sequence[int],
    ) -> list[tuple[Any, ...]]:
        message = Usage(
            self.task_id(terms), dues_hash(dues), b"\x01" * 32, b"\x02" * 32, tuple(amounts)
        )
        return self.many(
            [SignedBy(self.account(key), self.sign(key, self.market, message)) for key in keys]
        )


def deploy(bond: int = BOND) -> World:
    token = boa.load(FOLDER / "TestToken.vy", 10**30)
    deployer = bytes.fromhex(boa.env.eoa[2:])
    nonce = boa.env.evm.vm.state.get_nonce(deployer)
    market = created_address(Account(deployer), nonce + 1)
    registry = boa.load(FOLDER / "Registry.vy", address(market))
    periods = (WINDOW_S, DECISION_S, GRACE_S)
    made = boa.load(FOLDER / "TaskMarket.vy", registry.address, token.address, bond, *periods)
    assert made.address.lower() == address(market)
    return World(registry, made, token)


@pytest.fixture(scope="session")
def deployed() -> World:
    return deploy()


@pytest.fixture
def world(deployed: World) -> Iterator[World]:
    with boa.env.anchor():
        yield deployed


def key_of(number: int) -> LocalAccount:
    return EthAccount.from_key(number.to_bytes(32))


@pytest.fixture
def bank() -> LocalAccount:
    return key_of(11)


@pytest.fixture
def other_bank() -> LocalAccount:
    return key_of(12)


@pytest.fixture
def fintech() -> LocalAccount:
    return key_of(13)


@pytest.fixture
def regulator() -> LocalAccount:
    return key_of(14)


@pytest.fixture
def stranger() -> LocalAccount:
    return key_of(15)
