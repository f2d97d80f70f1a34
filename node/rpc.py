"""JSON-RPC 2.0 over one table of methods: bytes of a request in, bytes of the answer out.

Knows nothing of HTTP or sockets (`rpc_http` does). Requests, notifications and batches are as in
the specification (jsonrpc.org/specification); a batch runs in its own order, one after the other,
so that a caller who opens and then attests means it. `rpc.discover` tells the table as OpenRPC.

Every failure of a method is a `Fault`, whose kind fixes code and remedy. Anything else is a bug:
logged with its trace under the number of the request, and answered by that number alone.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chain.errors import ChainError
from node import log
from node.chain_faults import fault_of
from node.config_reading import sentence_of
from node.errors import Fault, nearest
from node.json_values import to_json
from protocol.errors import RemoteProtocolError

logger = log.get_logger("rpc")

MAX_BATCH = 100
MAX_DEPTH = 32

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # possessive: one pass, whatever comes
_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_TOO_DEEP = b"[" * (MAX_DEPTH + 1)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_STANDARD_MESSAGES = {
    -32700: "Parse error",
    -32600: "Invalid Request",
    -32601: "Method not found",
    -32602: "Invalid params",
    -32603: "Internal error",
}


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a method takes, by name or in the order of the fields. This one: nothing."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the table.

    `run` takes an instance of `parameters` and gives any JSON value (bytes go out as hexadecimal,
    structs and dataclasses as objects); it raises Fault. `example` holds parameters that fit.
    `result` is the type that OpenRPC shows for what comes back.
    """

    name: str
    run: Callable[[Any], Awaitable[Any]]
    parameters: type[Parameters] = Parameters
    summary: str = ""
    example: Mapping[str, Any] = field(default_factory=dict)
    result: Any = Any


class Dispatcher:
    """Answers JSON-RPC requests out of `methods`; `rpc.discover` is added."""

    def __init__(self, methods: Iterable[Method], *, version: str = "0") -> None:
        table = {method.name: method for method in methods}
        self.methods: Mapping[str, Method] = table
        self._version = version
        self._requests = 0
        table["rpc.discover"] = Method(
            "rpc.discover", self._discover, summary="This table of methods, as OpenRPC"
        )

    async def answer(self, body: bytes) -> bytes | None:
        """The answer to `body`, or None where the specification wants silence."""
        try:
            request = _decoded(body)
        except Fault as fault:
            return msgspec.json.encode(failure(None, fault))
        if isinstance(request, list) and request:
            return await self._answer_batch(request)
        answer = await self._answer_one(request)
        return None if answer is None else msgspec.json.encode(answer)

    async def _answer_batch(self, batch: list[Any]) -> bytes | None:
        if len(batch) > MAX_BATCH:
            fault = Fault(
                "request-invalid",
                f"the batch has {len(batch)} requests; at most {MAX_BATCH} are allowed",
            )
            return msgspec.json.encode(failure(None, fault))
        answers = [await self._answer_one(request) for request in batch]
        told = [answer for answer in answers if answer is not None]
        return msgspec.json.encode(told) if told else None

    async def _answer_one(self, request: Any) -> dict[str, Any] | None:
        problem = _problem(request)
        if problem:
            identifier = request.get("id") if isinstance(request, dict) else None
            known = identifier if _is_identifier(identifier) else None
            return failure(known, Fault("request-invalid", problem))
        self._requests += 1
        try:
            answer = {"jsonrpc": "2.0", "result": await self._call(request, self._requests)}
        except Fault as fault:
            answer = failure(None, fault)
        if "id" not in request:
            return None
        return answer | {"id": request["id"]}

    async def _call(self, request: dict[str, Any], number: int) -> msgspec.Raw:
        """The result, already as JSON: one that cannot be written is a bug of its method too."""
        method = self._method(request["method"])
        parameters = _parameters(method, request.get("params", {}))
        try:
            return msgspec.Raw(msgspec.json.encode(to_json(await method.run(parameters))))
        except Fault as fault:
            logger.info("refused", method=method.name, kind=fault.kind, sentence=fault.sentence)
            raise
        except RemoteProtocolError as error:  # an argument that no rule of the protocol allows
            raise Fault("parameters-invalid", f"{method.name}: {error}") from None
        except ChainError as error:
            raise fault_of(error) from None
        except Exception as error:
            logger.exception("a method failed", method=method.name, request=number)
            raise Fault(
                "internal-error",
                f"{method.name} met a bug ({type(error).__name__}); the log has it under"
                f" request {number}",
                request=number,
            ) from None

    def _method(self, name: str) -> Method:
        method = self.methods.get(name)
        if method is None:
            near = nearest(name, list(self.methods))
            hint = f"; did you mean {near!r}?" if near else ""
            raise Fault(
                "method-unknown", f"there is no method {name!r:.80}{hint}", method=name[:80]
            )
        return method

    async def _discover(self, _parameters: Parameters) -> dict[str, Any]:
        from node.openrpc import document  # noqa: PLC0415  only for those who ask

        return document(self.methods, self._version)


def _decoded(body: bytes) -> Any:
    """The JSON value of `body`, nested at most MAX_DEPTH deep; Fault `parse-error`.

    The depth is bounded before the decoder sees a byte: it recurses in C, where the interpreter's
    own limit, if anything in the process has raised it, comes after the end of the stack.
    """
    brackets = _STRING.sub(b"", body).translate(_BRACES_TO_BRACKETS, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if b"[]" not in brackets or _TOO_DEEP in brackets:
            break
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    if brackets:
        raise Fault(
            "parse-error",
            f"the request is nested deeper than {MAX_DEPTH} levels, or a bracket has no partner",
        )
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Fault("parse-error", f"the request is not JSON: {error}") from None


def failure(identifier: Any, fault: Fault) -> dict[str, Any]:
    """The JSON-RPC answer that tells `fault`: the specification's message for its own codes."""
    return {
        "jsonrpc": "2.0",
        "error": {
            "code": fault.rpc_code,
            "message": _STANDARD_MESSAGES.get(fault.rpc_code, fault.sentence),
            "data": {
                **fault.data,
                "kind": fault.kind,
                "sentence": fault.sentence,
                "remedy": fault.remedy,
                "exit_code": fault.exit_code,
            },
        },
        "id": identifier,
    }


def _is_identifier(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _problem(request: Any) -> str | None:
    """Why `request` is no request object, or None."""
    if not isinstance(request, dict):
        return "a request is an object, or a batch of at least one"
    if request.get("jsonrpc") != "2.0":
        return "the member jsonrpc must be exactly '2.0'"
    if not isinstance(request.get("method"), str):
        return "the member method must be text"
    if not isinstance(request.get("params", {}), dict | list):
        return "the member params must be an array or an object"
    if not _is_identifier(request.get("id")):
        return "the member id must be text, a number or null"
    return None


def _parameters(method: Method, given: dict[str, Any] | list[Any]) -> Parameters:
    fields = [each.encode_name for each in msgspec.structs.fields(method.parameters)]
    if isinstance(given, list):
        if len(given) > len(fields):
            raise Fault(
                "parameters-invalid",
                f"{method.name} takes {len(fields)} parameters, not {len(given)}",
            )
        given = dict(zip(fields, given, strict=False))
    unknown = next((key for key in given if key not in fields), None)
    if unknown is not None:
        near = nearest(unknown, fields)
        known = f"did you mean {near!r}?" if near else f"known are: {', '.join(fields) or 'none'}"
        raise Fault(
            "parameters-invalid", f"{method.name}: unknown parameter {unknown!r:.80}; {known}"
        )
    try:
        return msgspec.convert(given, method.parameters)
    except msgspec.ValidationError as error:
        sentence = sentence_of(error, method.parameters)
        raise Fault("parameters-invalid", f"{method.name}: {sentence}") from None
