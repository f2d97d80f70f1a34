"""What can go wrong between the node and the chain, in words that a person can act on.

Named for what happened, without the suffix Error, as the network's are.
"""

# ruff: noqa: N818


class ChainError(Exception):
    """The chain did not do what was asked; the text says why."""


class ChainUnreachable(ChainError):
    """No endpoint answered, or what answered was no JSON-RPC. Asking again later may help."""


class ChainRefused(ChainError):
    """The chain, or its node, understood and said no; asking the same again will not help.

    `reason` is the contract's own word where it gave one. `code` is the JSON-RPC error's.
    """

    def __init__(self, reason: str, *, code: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class WrongChain(ChainError):
    """The endpoint serves another chain than the configuration names."""


class ContractsMissing(ChainError):
    """No contract, or another one, stands at a configured address."""


class ReorganisedTooDeep(ChainError):
    """The chain has replaced more blocks than the follower remembers: it must start afresh."""


class NoAnvil(ChainError):
    """No development chain can be started here: no anvil, and no npm to fetch it with."""
