"""Composing: from steps over confirmed assets to an algorithm whose every part is pinned.

What can be wrong is told before anything is written: an operation that is not installed, a child
that is not confirmed here or that its owner has withdrawn, parameters out of their range.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from sqlite_utils import Database

from mpc import operations
from node import assets
from node.config_reading import sentence_of
from node.errors import Fault
from protocol.documents import Algorithm, Metadata, Price, Step
from protocol.ids import from_hexadecimal, hexadecimal
from protocol.manifest import Parameters


def algorithm_of(
    db: Database,
    *,
    steps: tuple[tuple[str, str, Mapping[str, Any] | None], ...],
    pool: tuple[str, ...],
    seats: int,
    threshold: int,
    cohort_floor: int,
    recipient: bytes,
    purpose: str,
    labels: Literal["seen-by-owners", "hidden"],
) -> Algorithm:
    """The algorithm over `steps` of (child, operation, parameters), each pinned by its code.

    Fault `composition-invalid` says what is wrong, `operation-unknown` what is not installed,
    `cdt-unknown` which child is not confirmed here.
    """
    workflow = []
    for cdt, operation, parameters in steps:
        child, _ = assets.confirmed(db, from_hexadecimal(cdt, 32))
        if child.withdrawn:
            raise Fault("composition-invalid", f"{child.name} ({cdt}) is withdrawn by its owner")
        if child.kind == "data" and parameters is None:
            raise Fault(
                "composition-invalid", f"{child.name} ({cdt}) needs {operation}'s parameters"
            )
        workflow.append(
            Step(
                cdt=cdt,
                operation=operation,
                code=hexadecimal(_installed(operation).code),
                parameters=_parameters(parameters),
            )
        )
    try:
        return msgspec.convert(
            {
                "workflow": msgspec.to_builtins(tuple(workflow)),
                "pool": pool,
                "seats": seats,
                "threshold": threshold,
                "cohort_floor": cohort_floor,
                "recipient": hexadecimal(recipient),
                "purpose": purpose,
                "labels": labels,
                "top_model": hexadecimal(operations.TOP_MODEL.code),
            },
            Algorithm,
        )
    except msgspec.ValidationError as error:
        raise Fault("composition-invalid", f"the algorithm: {sentence_of(error)}") from error


def _installed(name: str) -> operations.Operation:
    operation = operations.installed(name)
    if operation is None:
        raise Fault("operation-unknown", f"no installed package brings the operation {name!r}")
    return operation


def _parameters(given: Mapping[str, Any] | None) -> Parameters | None:
    if given is None:
        return None
    try:
        return msgspec.convert({**given, "type": "shared-features"}, Parameters)
    except msgspec.ValidationError as error:
        raise Fault("composition-invalid", f"parameters: {sentence_of(error)}") from error


def price_of(metadata: Metadata) -> Price:
    """The price that an asset's document states; nothing if it states none."""
    return metadata.services[0].price if metadata.services else Price(amount="0", unit="edge")
