"""Deployments: written down and read back, and checked against what an endpoint serves."""

from dataclasses import replace

import pytest
import trio
from eth_account import Account as EthAccount
from eth_utils import keccak
from rlp import encode
from web3 import AsyncWeb3

from chain import contracts, views
from chain.abi import read
from chain.deployment import Deployment, created_address, deploy
from chain.devchain import DevAccounts, deploy_on, devchain, find_anvil, fund
from chain.errors import ChainRefused, ChainUnreachable, ContractsMissing, NoAnvil, WrongChain
from chain.provider import TrioProvider
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, hexadecimal


def some(number=1):
    return Deployment(31337, *(Account(bytes([number + i]) * 20) for i in range(3)), block=number)


def test_it_is_written_and_read():
    assert Deployment.from_json(some().to_json()) == some()
    assert Deployment.from_toml(some().to_toml()) == some()
    with pytest.raises(RemoteProtocolError, match="20 bytes"):
        Deployment.from_dict(some().to_dict() | {"market": "0x12"})


@pytest.mark.parametrize(
    ("nonce", "address"),
    [
        # The accounts that anvil's first account creates, as every tool derives them.
        (0, "5fbdb2315678afecb367f032d93f642f64180aa3"),
        (1, "e7f1725e7734ce288f8367e1bb143e90bb3f0512"),
        (2, "9fe46736679d2d9a65f0992f2272de9f3c7fa6e0"),
    ],
)
def test_addresses_are_known_in_advance(nonce, address):
    creator = Account(bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"))
    assert created_address(creator, nonce).hex() == address


@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 255, 256, 2**32])
def test_addresses_equal_the_reference(nonce):
    creator = Account(b"\x21" * 20)
    assert created_address(creator, nonce) == keccak(encode([creator, nonce]))[12:]


async def test_verify_finds_what_is_wrong(chain):
    d = chain.deployment
    await d.verify(chain.provider)
    empty = Account(b"\x77" * 20)
    for wrong, error, words in [
        (replace(d, chain_id=1), WrongChain, "serves chain 31337 instead of 1"),
        (replace(d, registry=empty), ContractsMissing, "no contract at 0x7777"),
        (replace(d, market=empty), ContractsMissing, "no contract at 0x7777"),
        (replace(d, token=empty), ContractsMissing, "no contract at 0x7777"),
        (replace(d, registry=d.market), ContractsMissing, "another contract"),
    ]:
        with pytest.raises(error, match=words):
            await wrong.verify(chain.provider)
    other = await deploy_on(chain.url)
    with pytest.raises(ContractsMissing, match="another market"):
        await replace(d, registry=other.registry).verify(chain.provider)


async def test_verify_without_an_endpoint():
    provider = TrioProvider("http://127.0.0.1:1", "http://127.0.0.1:2")
    with pytest.raises(ChainUnreachable, match=r"127.0.0.1:1 does not answer.*127.0.0.1:2"):
        await some().verify(provider)
    await provider.aclose()


async def test_the_next_endpoint_is_asked(chain):
    provider = TrioProvider("http://127.0.0.1:1", chain.url)
    assert await provider.ask("eth_chainId") == hex(31337)
    assert provider.url == chain.url
    await provider.aclose()


async def test_async_web3_runs_over_the_provider(chain):
    web3 = AsyncWeb3(chain.provider)
    assert await web3.eth.chain_id == 31337
    block = await web3.eth.get_block("latest")
    assert block["number"] == int(await chain.provider.ask("eth_blockNumber"), 16)


async def test_a_view_of_no_contract(chain):
    with pytest.raises(ContractsMissing, match="does not answer as the contract does"):
        await read(chain.provider, Account(b"\x77" * 20), views.bond_amount())


async def test_reasons_are_words(chain):
    accounts = DevAccounts(chain.provider)
    with pytest.raises(ChainRefused, match=r"^nothing to withdraw$"):
        await accounts.send(
            to=hexadecimal(chain.deployment.market),
            data=hexadecimal(contracts.withdraw(chain.deployment.token)),
        )


async def test_another_transaction_in_between_is_noticed(chain):
    accounts = DevAccounts(chain.provider)
    first = await accounts.first()
    made = 0

    async def create(data):
        nonlocal made
        made += 1
        if made == 3:
            await accounts.send(to=hexadecimal(first), value="0x1")
        return await accounts.create(data)

    with pytest.raises(ChainRefused, match="registry of another market"):
        await deploy(create, chain.provider, first)


async def test_the_state_outlives_the_process(tmp_path, free_port):
    path = tmp_path / "state.json"
    account = Account(bytes.fromhex(EthAccount.create().address[2:]))
    async with devchain(free_port, path) as url:
        deployment = await deploy_on(url)
        await fund(url, deployment, account, tokens=7)
    async with devchain(free_port, path) as url:
        provider = TrioProvider(url)
        await deployment.verify(provider)
        tokens = await read(provider, deployment.token, views.balance_of(account))
        await provider.aclose()
    assert tokens == 7 * 10**18


async def test_a_port_in_use(chain):
    port = int(chain.url.rsplit(":", 1)[1])
    with pytest.raises(ChainUnreachable, match="is in use"):
        async with devchain(port):
            pass


async def test_the_chain_ends_with_its_scope(free_port):
    async with devchain(free_port) as url:
        provider = TrioProvider(url)
        await provider.ask("eth_chainId")
    with trio.fail_after(5), pytest.raises(ChainUnreachable):
        await provider.ask("eth_chainId")
    await provider.aclose()


def test_where_anvil_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("ANVIL", str(tmp_path / "none"))
    with pytest.raises(NoAnvil, match="not an executable file"):
        find_anvil()
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("ANVIL", str(program))
    assert find_anvil() == program
    monkeypatch.delenv("ANVIL")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_anvil() == program
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert find_anvil() is None
