"""What goes wrong with the chain, as the faults that a person is told."""

from chain.errors import (
    ChainError,
    ChainRefused,
    ChainUnreachable,
    ContractsMissing,
    NoAnvil,
    ReorganisedTooDeep,
    WrongChain,
)
from node.errors import Fault

_KINDS: dict[type[ChainError], str] = {
    ChainUnreachable: "chain-unreachable",
    ChainRefused: "transaction-refused",
    WrongChain: "chain-wrong",
    ContractsMissing: "contracts-missing",
    NoAnvil: "anvil-missing",
    ReorganisedTooDeep: "chain-reorganised",
}


def fault_of(error: ChainError) -> Fault:
    """The fault of the same meaning; its sentence is the error's own."""
    for kind in type(error).__mro__:
        if kind in _KINDS:
            return Fault(_KINDS[kind], str(error))
    return Fault("chain-refused", str(error))
