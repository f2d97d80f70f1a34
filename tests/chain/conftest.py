"""A real development chain, one process for the whole run, and accounts with coins."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from eth_account import Account as EthAccount
from eth_account.signers.local import LocalAccount
from sqlite_utils import Database

from chain import schema
from chain.deployment import Deployment
from chain.devchain import deploy_on, devchain, fund, provide_anvil
from chain.provider import TrioProvider
from protocol.ids import Account


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session", autouse=True)
def anvil_binary() -> Path:
    return provide_anvil()


@pytest.fixture
def free_port() -> int:
    return unused_port()


@dataclass(frozen=True, slots=True)
class Chain:
    """A running chain with the contracts on it."""

    url: str
    provider: TrioProvider
    deployment: Deployment

    @staticmethod
    def account_of(key: LocalAccount) -> Account:
        return Account(bytes.fromhex(key.address[2:]))

    @staticmethod
    def database(path: Path | None = None) -> Database:
        db = Database(path) if path else Database(memory=True)
        schema.MIGRATIONS.apply(db)
        return db

    async def new_account(self) -> LocalAccount:
        key = EthAccount.create()
        await fund(self.url, self.deployment, self.account_of(key))
        return key


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    async with devchain(unused_port()) as url:
        provider = TrioProvider(url)
        try:
            with trio.fail_after(20):
                yield Chain(url, provider, await deploy_on(url))
        finally:
            await provider.aclose()
