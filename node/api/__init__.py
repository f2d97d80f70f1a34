"""The methods of the daemon's JSON-RPC as one table: what a person or a program can ask of a node.

Each method checks its parameters by their types, calls one room of the house, and gives plain
values: identifiers as bytes (hexadecimal on the wire), amounts of money as decimal text.
"""

from node.api import (
    asset_methods,
    contract_methods,
    market_methods,
    node_methods,
    organisation_methods,
    request_methods,
    task_methods,
    terms_methods,
)
from node.api.rooms import Rooms
from node.rpc import Method


def table(rooms: Rooms) -> list[Method]:
    """Every method of the daemon."""
    return [
        *node_methods.table(rooms),
        *asset_methods.table(rooms),
        *market_methods.table(rooms),
        *organisation_methods.table(rooms),
        *contract_methods.table(rooms),
        *request_methods.table(rooms),
        *terms_methods.table(rooms),
        *task_methods.table(rooms),
    ]
