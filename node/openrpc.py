"""The method table as an OpenRPC 1.3.2 document (spec.open-rpc.org), schemas made by msgspec."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from node.errors import KINDS

if TYPE_CHECKING:
    from node.rpc import Method

OPENRPC_VERSION = "1.3.2"


def document(methods: Mapping[str, "Method"], version: str) -> dict[str, Any]:
    """What `rpc.discover` answers: every method with parameters, result, example; every error."""
    types = [kind for method in methods.values() for kind in (method.parameters, method.result)]
    _, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "Northbund",
            "version": version,
            "description": "The local interface of a Northbund node",
            "license": {"name": "Apache-2.0"},
        },
        "methods": [_method(methods[name], components) for name in sorted(methods)],
        "components": {
            "schemas": components,
            "errors": {
                kind: {"code": entry.rpc_code, "message": entry.remedy}
                for kind, entry in KINDS.items()
            },
        },
    }


def _method(method: "Method", components: dict[str, Any]) -> dict[str, Any]:
    schema = components[method.parameters.__name__]
    required = set(schema.get("required", ()))
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": [
            {"name": name, "required": name in required, "schema": each}
            for name, each in schema.get("properties", {}).items()
        ],
        "result": {"name": "result", "schema": _schema(method.result)},
        "examples": [
            {
                "name": "example",
                "params": [
                    {"name": name, "value": value} for name, value in method.example.items()
                ],
            }
        ],
    }


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components(
        [kind], ref_template="#/components/schemas/{name}"
    )
    return schema
