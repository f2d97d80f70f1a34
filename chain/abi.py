"""The committed artefacts, and calldata by their ABI.

Only encoding lives here: which function takes what is said once, in the artefact.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from chain.errors import ContractsMissing
from protocol.ids import Account

if TYPE_CHECKING:  # web3 takes half a second to import; questions are asked long after
    from chain.provider import TrioProvider

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View(Generic[T]):
    """A question to a contract: calldata, and how to read the answer."""

    data: bytes
    read: Callable[[bytes], T]


@cache
def artefact(contract: str) -> dict[str, Any]:
    """ABI, bytecode and runtime of `Registry`, `TaskMarket` or `TestToken`, as committed."""
    text = resources.files("chain").joinpath("contracts", f"{contract}.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def abi_type(component: dict[str, Any]) -> str:
    """The type of an ABI component with its tuples written out: `(address,uint256)[]`."""
    kind: str = component["type"]
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(abi_type(part) for part in component["components"])
    return f"({inner}){kind.removeprefix('tuple')}"


@cache
def function(contract: str, name: str) -> tuple[bytes, list[str], list[str]]:
    for entry in artefact(contract)["abi"]:
        if entry["type"] == "function" and entry["name"] == name:
            inputs = [abi_type(part) for part in entry["inputs"]]
            outputs = [abi_type(part) for part in entry["outputs"]]
            return keccak(f"{name}({','.join(inputs)})".encode())[:4], inputs, outputs
    raise KeyError(f"{contract} has no function {name}")


def calldata(contract: str, name: str, *values: Any) -> bytes:
    selector, inputs, _ = function(contract, name)
    return selector + encode(inputs, values)


def view(contract: str, name: str, read: Callable[..., T], *values: Any) -> View[T]:
    outputs = function(contract, name)[2]
    return View(calldata(contract, name, *values), lambda data: read(*decode(outputs, data)))


def creation(contract: str, *values: Any) -> bytes:
    """The data of the transaction that creates a contract with these constructor arguments."""
    (constructor,) = [e for e in artefact(contract)["abi"] if e["type"] == "constructor"]
    inputs = [abi_type(part) for part in constructor["inputs"]]
    return bytes.fromhex(artefact(contract)["bytecode"][2:]) + encode(inputs, values)


async def read(
    provider: "TrioProvider", address: Account, view: View[T], block: str = "latest"
) -> T:
    """The answer of the contract at `address`.

    Raises ChainUnreachable; ChainRefused with the contract's reason; ContractsMissing if what
    stands there does not answer so.
    """
    request = {"to": "0x" + address.hex(), "data": "0x" + view.data.hex()}
    answer = await provider.ask("eth_call", request, block)
    try:
        return view.read(bytes.fromhex(answer[2:]))
    except (DecodingError, ValueError, TypeError) as error:
        raise ContractsMissing(f"0x{address.hex()} does not answer as the contract does") from error
