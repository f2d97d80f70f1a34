"""What an endpoint of the chain answers, and the logs in it."""

import json

from eth_account import Account as Accounts

from chain import events, provider
from chain.errors import ChainError
from chain.external import ExternalSigner
from protocol.ids import Account
from tests.fuzz.target import Target

ACCOUNT = Accounts.from_key(bytes([1]) * 32)


def _log(topics: list[bytes], data: bytes) -> bytes:
    plain = {
        "blockNumber": "0x1",
        "blockHash": "0x" + "00" * 32,
        "transactionHash": "0x" + "00" * 32,
        "logIndex": "0x0",
        "topics": ["0x" + topic.hex() for topic in topics],
        "data": "0x" + data.hex(),
    }
    return json.dumps(plain).encode()


def chain_answers() -> list[Target]:
    """What an endpoint of the chain answers, and the logs in it."""
    decoders = events._decoders()
    place = events.Place(1, bytes(32), bytes(32), 0)
    topics = sorted(decoders)

    def parts(data: bytes) -> None:
        """Any log of any event that is known: the first byte chooses."""
        topic = topics[data[0] % len(topics)] if data else b""
        indexed = len(decoders[topic].indexed) if topic else 0
        words = [data[1 + 32 * n : 33 + 32 * n].ljust(32, b"\0") for n in range(indexed)]
        events.decode_parts(place, [topic, *words], data[1 + 32 * indexed :])

    def log(data: bytes) -> None:
        plain = _json(data)
        if isinstance(plain, dict):
            events.decode(plain)

    def batch(data: bytes) -> None:
        provider._in_order([{"id": 1}, {"id": 2}], _json(data))

    def answered(data: bytes) -> None:
        provider._result(_json(data))

    signer = ExternalSigner("http://127.0.0.1:9", Account(bytes.fromhex(ACCOUNT.address[2:])))
    wanted = {"to": "0x" + "11" * 20, "value": 0, "gas": 21000, "nonce": 1, "chainId": 1}
    fees = {"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}
    signed = bytes(ACCOUNT.sign_transaction(wanted | fees).raw_transaction)

    def transaction(data: bytes) -> None:
        signer.accept(data.hex(), wanted)

    words = bytes(31) + b"\x40" + bytes(31) + b"\x01"
    logs = tuple(_log([topic, words[:32]], words) for topic in topics)
    return [
        Target("signed-transaction", transaction, (signed,), (ChainError,), own=True),
        Target(
            "chain-event",
            parts,
            tuple(bytes([n]) + words * 6 for n in range(len(topics))),
            (ChainError,),
        ),
        Target("chain-log", log, logs, (ChainError,)),
        Target(
            "chain-batch",
            batch,
            (
                b'[{"id": 1, "result": "0x"}, {"id": 2, "error": {"code": 3, "data": "0x"}}]',
                b'[{"id": []}]',
            ),
            (ChainError,),
        ),
        Target(
            "chain-answer",
            answered,
            (b'{"id": 1, "error": {"code": -32000, "message": "no", "data": "0x4e487b71"}}',),
            (ChainError,),
        ),
    ]


def _json(data: bytes) -> object:
    """As the provider reads it."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
