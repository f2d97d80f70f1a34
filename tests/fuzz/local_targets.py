"""What an administrator and a local program may get wrong: a Fault, never a trace."""

import json
from pathlib import Path

import trio

from mpc import features, rounds
from node import config
from node.errors import Fault
from node.rpc import Dispatcher
from protocol import odrl, terms_table, terms_toml
from protocol.terms import Constraint, Terms
from tests.fuzz.target import Target

CONFIG = b"""
name = "bank-a"
network = "test"
[listen]
libp2p = "/ip4/127.0.0.1/tcp/0"
[chain]
url = "http://127.0.0.1:9"
chain_id = 31337
registry = "0x1111111111111111111111111111111111111111"
market = "0x2222222222222222222222222222222222222222"
token = "0x3333333333333333333333333333333333333333"
[[organisations]]
name = "fintech-c"
account = "0xabababababababababababababababababababab"
peer_id = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
[trust]
attesters = ["fintech-c"]
[[datasets]]
name = "facts"
path = "rows.csv"
id = "id"
features = [{ name = "Age", kind = "number" }]
"""
TERMS = b"""
operations = ["shared-features"]
counterparties = ["fintech-c"]
recipients = ["fintech-c"]
purposes = ["risk"]
attesters = ["fintech-c"]
deciders = ["0xabababababababababababababababababababab"]
valid_for_days = 30
uses = 2
price = 1000
noise_min = 0.3
[parameters.width]
max = 4
"""


ODRL = json.dumps(
    odrl.write(
        odrl.Policy(
            target="urn:northbund:cdt:facts",
            terms=Terms(
                permission=(
                    Constraint(
                        leftOperand="cdt:operation",
                        operator="isAnyOf",
                        rightOperand=("shared-features",),
                    ),
                    Constraint(leftOperand="odrl:count", operator="lteq", rightOperand=2),
                ),
            ),
            price_unit="edge",
            currency="urn:x",
        )
    )
).encode()


def local() -> list[Target]:
    """What an administrator and a local program may get wrong: a Fault, never a trace."""

    def configuration(data: bytes) -> None:
        config.parse(data.decode("utf-8", "replace"), Path("/nowhere"), "northbund.toml")

    def terms(data: bytes) -> None:
        table = config.tomllib.loads(data.decode("utf-8", "replace"))
        for of_rows in (True, False):
            found = terms_table.read(table, data=of_rows)
            terms_table.price_of(found)
            terms_table.until(found, 1_800_000_000)

    def imported(data: bytes) -> None:
        policy = odrl.read(json.loads(data))
        odrl.read(odrl.write(policy))
        terms_toml.table_of(policy.terms, policy.price_unit, data=True)

    dispatcher = Dispatcher(())

    def rpc(data: bytes) -> None:
        answered = trio.run(dispatcher.answer, data)
        if answered is not None:
            json.loads(answered)

    def checkpoint(data: bytes) -> None:
        """A damaged file whose digest is right all the same."""
        features.restore(rounds.sha256(data).digest() + data, bytes(32))

    request = b'{"jsonrpc": "2.0", "id": 1, "method": "rpc.discover", "params": {}}'
    toml_errors = (config.tomllib.TOMLDecodeError, RecursionError, terms_table.TermsTableError)
    json_errors = (ValueError, RecursionError, odrl.OdrlError, terms_table.TermsTableError)
    return [
        Target("configuration", configuration, (CONFIG,), (Fault,), own=True),
        Target("terms-table", terms, (TERMS,), toml_errors, own=True),
        Target("odrl-import", imported, (ODRL,), json_errors, own=True),
        Target("rpc", rpc, (request, b"[" + request + b"," + request + b"]"), ()),
        Target("checkpoint", checkpoint, (), (features.CheckpointError,)),
    ]
