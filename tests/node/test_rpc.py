"""All examples of the JSON-RPC 2.0 specification (section 7), and what it leaves to us."""

import json
import re
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import ContractsMissing
from node import log
from node.errors import Fault
from node.openrpc import OPENRPC_VERSION
from node.rpc import MAX_BATCH, MAX_DEPTH, Dispatcher, Method, Parameters
from protocol.errors import RemoteProtocolError


class Subtract(Parameters, frozen=True):
    minuend: int
    subtrahend: int


class Numbers(Parameters, frozen=True):
    first: int
    second: int = 0
    third: int = 0
    fourth: int = 0
    fifth: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    cdt: bytes
    owner: str


class Text(Parameters, frozen=True):
    text: str


class Calls:
    """The methods of the specification's examples, and some that fail."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def subtract(self, parameters: Subtract) -> int:
        return parameters.minuend - parameters.subtrahend

    async def total(self, parameters: Numbers) -> int:
        return parameters.first + parameters.second + parameters.third

    async def notify(self, parameters: Numbers) -> None:
        self.heard.append(parameters.first)

    async def echo(self, parameters: Text) -> str:
        return parameters.text

    async def data(self, _parameters: Parameters) -> list[Any]:
        return ["hello", 5]

    async def found(self, _parameters: Parameters) -> dict[bytes, Any]:
        return {b"\x01": Found(b"\xab" * 2, "bank-a")}

    async def refuse(self, _parameters: Parameters) -> None:
        raise Fault("task-unknown", "there is no task 0x01", task="0x01")

    async def bad_argument(self, _parameters: Parameters) -> None:
        raise RemoteProtocolError("'zz' is not 32 bytes in hexadecimal")

    async def no_contracts(self, _parameters: Parameters) -> None:
        raise ContractsMissing("no contract at 0x01 (Registry)")

    async def unwritable(self, _parameters: Parameters) -> str:
        return "\ud800"

    async def bug(self, _parameters: Parameters) -> None:
        raise KeyError("secret detail")

    def dispatcher(self) -> Dispatcher:
        return Dispatcher(
            [
                Method(
                    "subtract", self.subtract, Subtract, "a - b", {"minuend": 1, "subtrahend": 2}
                ),
                Method("sum", self.total, Numbers, example={"first": 1}),
                Method("update", self.notify, Numbers, example={"first": 1}),
                Method("notify_sum", self.notify, Numbers, example={"first": 1}),
                Method("notify_hello", self.notify, Numbers, example={"first": 1}),
                Method("get_data", self.data),
                Method("echo", self.echo, Text, example={"text": "x"}),
                Method("found", self.found),
                Method("refuse", self.refuse),
                Method("bad_argument", self.bad_argument),
                Method("no_contracts", self.no_contracts),
                Method("unwritable", self.unwritable),
                Method("bug", self.bug),
            ]
        )


@pytest.fixture(autouse=True)
def _quiet() -> None:
    log.configure("critical", console="none")


async def ask(body: str | bytes, calls: Calls | None = None) -> Any:
    raw = body if isinstance(body, bytes) else body.encode()
    answer = await (calls or Calls()).dispatcher().answer(raw)
    return None if answer is None else json.loads(answer)


def as_specified(answer: Any) -> Any:
    """The answer without `data`, which the specification's examples do not have."""
    if isinstance(answer, list):
        return [as_specified(each) for each in answer]
    if isinstance(answer, dict) and "error" in answer:
        error = {key: value for key, value in answer["error"].items() if key != "data"}
        return answer | {"error": error}
    return answer


INVALID = '{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}'
UNPARSED = '{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}'

EXAMPLES = {
    "positional": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        '{"jsonrpc": "2.0", "result": 19, "id": 1}',
    ),
    "positional, other order": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        '{"jsonrpc": "2.0", "result": -19, "id": 2}',
    ),
    "named": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42},'
        ' "id": 3}',
        '{"jsonrpc": "2.0", "result": 19, "id": 3}',
    ),
    "named, other order": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23},'
        ' "id": 4}',
        '{"jsonrpc": "2.0", "result": 19, "id": 4}',
    ),
    "notification": ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    "notification of no method": ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    "no such method": (
        '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
        '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}',
    ),
    "invalid JSON": ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', UNPARSED),
    "invalid request": ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    "batch, invalid JSON": (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        ' {"jsonrpc": "2.0", "method"]',
        UNPARSED,
    ),
    "empty batch": ("[]", INVALID),
    "invalid batch": ("[1]", f"[{INVALID}]"),
    "invalid batch of three": ("[1,2,3]", f"[{INVALID},{INVALID},{INVALID}]"),
    "batch": (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},'
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},'
        '{"foo": "boo"},'
        '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
        '{"jsonrpc": "2.0", "method": "get_data", "id": "9"}]',
        '[{"jsonrpc": "2.0", "result": 7, "id": "1"},'
        '{"jsonrpc": "2.0", "result": 19, "id": "2"},'
        f"{INVALID},"
        '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},'
        '{"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}]',
    ),
    "batch of notifications": (
        '[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]',
        None,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_specifications_example(name: str) -> None:
    request, response = EXAMPLES[name]
    answer = as_specified(await ask(request))
    assert answer == (None if response is None else json.loads(response))


async def test_a_notification_is_carried_out_and_a_failing_one_stays_silent() -> None:
    calls = Calls()
    assert await ask('{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}', calls) is None
    assert await ask('{"jsonrpc": "2.0", "method": "bug"}', calls) is None
    assert calls.heard == [7]


@pytest.mark.parametrize("identifier", ["null", "0", '"x"', "1.5", '""'])
async def test_an_id_comes_back_as_it_was(identifier: str) -> None:
    answer = await ask(f'{{"jsonrpc": "2.0", "method": "get_data", "id": {identifier}}}')
    assert answer["id"] == json.loads(identifier)


@pytest.mark.parametrize(
    "request_text",
    [
        '{"method": "get_data", "id": 1}',
        '{"jsonrpc": "1.0", "method": "get_data", "id": 1}',
        '{"jsonrpc": "2.0", "id": 1}',
        '{"jsonrpc": "2.0", "method": "get_data", "params": null, "id": 1}',
        '{"jsonrpc": "2.0", "method": "get_data", "params": 1, "id": 1}',
    ],
)
async def test_an_invalid_request_is_answered_under_its_id(request_text: str) -> None:
    answer = await ask(request_text)
    assert (answer["error"]["code"], answer["id"]) == (-32600, 1)


@pytest.mark.parametrize("identifier", ["true", "[1]", "{}"])
async def test_an_id_of_a_wrong_type_is_invalid(identifier: str) -> None:
    answer = await ask(f'{{"jsonrpc": "2.0", "method": "get_data", "id": {identifier}}}')
    assert (answer["error"]["code"], answer["id"]) == (-32600, None)


async def call(method: str, params: str = "{}") -> Any:
    return await ask(f'{{"jsonrpc": "2.0", "method": "{method}", "params": {params}, "id": 1}}')


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ('{"minuend": 1}', "subtract: the key 'subtrahend' is missing"),
        (
            '{"minuend": "x", "subtrahend": 1}',
            "subtract: minuend: expected a whole number, got text",
        ),
        (
            '{"minuend": 1, "subtrahent": 1}',
            "unknown parameter 'subtrahent'; did you mean 'subtrahend'",
        ),
        ("[1, 2, 3]", "subtract takes 2 parameters, not 3"),
        ("[]", "subtract: the key 'minuend' is missing"),
    ],
)
async def test_wrong_parameters_are_told_by_name(params: str, sentence: str) -> None:
    error = (await call("subtract", params))["error"]
    assert (error["code"], error["message"]) == (-32602, "Invalid params")
    assert sentence in error["data"]["sentence"]


async def test_a_fault_keeps_kind_remedy_and_data() -> None:
    error = (await call("refuse"))["error"]
    fault = Fault("task-unknown", "")
    assert (error["code"], error["message"]) == (fault.rpc_code, "there is no task 0x01")
    assert error["data"] == {
        "kind": "task-unknown",
        "sentence": "there is no task 0x01",
        "remedy": fault.remedy,
        "exit_code": fault.exit_code,
        "task": "0x01",
    }


async def test_an_argument_that_the_protocol_refuses_is_the_callers() -> None:
    assert (await call("bad_argument"))["error"]["code"] == -32602


async def test_the_chains_refusals_are_faults() -> None:
    error = (await call("no_contracts"))["error"]
    assert (error["code"], error["message"]) == (1042, "no contract at 0x01 (Registry)")


async def test_a_bug_is_told_by_number_and_hides_its_detail() -> None:
    error = (await call("bug"))["error"]
    assert error["code"] == -32603
    assert "secret detail" not in json.dumps(error)
    assert error["data"]["request"] == 1


async def test_a_result_that_no_json_can_carry_is_a_bug_of_its_method() -> None:
    assert (await call("unwritable"))["error"]["code"] == -32603


async def test_a_long_misspelling_costs_little() -> None:
    with trio.fail_after(1):
        assert (await call("subtrac" * 100_000))["error"]["code"] == -32601


async def test_bytes_go_out_as_hexadecimal_and_types_as_objects() -> None:
    assert (await call("found"))["result"] == {"0x01": {"cdt": "0xabab", "owner": "bank-a"}}


async def test_a_misspelt_method_names_its_neighbour() -> None:
    assert "did you mean 'subtract'" in (await call("substract"))["error"]["data"]["sentence"]


async def test_a_batch_is_bounded_and_keeps_its_order() -> None:
    one = '{"jsonrpc": "2.0", "method": "notify_hello", "params": [%d]}'
    calls = Calls()
    assert await ask("[" + ",".join(one % n for n in range(MAX_BATCH)) + "]", calls) is None
    assert calls.heard == list(range(MAX_BATCH))
    answer = await ask("[" + ",".join(one % n for n in range(MAX_BATCH + 1)) + "]", calls)
    assert answer["error"]["code"] == -32600
    assert len(calls.heard) == MAX_BATCH


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 200_000, b'{"a":' * 100_000, b"NaN", b"1 2"])
async def test_what_is_no_json_is_a_parse_error(body: bytes) -> None:
    answer = await ask(body)
    assert answer["error"]["code"] == -32700


async def test_depth_is_bounded_whatever_the_interpreter_would_allow() -> None:
    deepest = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    for params, code in ((deepest, -32602), (f"[{deepest}]", -32700)):
        assert (await call("get_data", params))["error"]["code"] == code
    mixed = '{"a":[' * (MAX_DEPTH // 2) + '"]}{["' + "]}" * (MAX_DEPTH // 2)
    assert (await call("get_data", mixed))["error"]["code"] == -32700
    assert (await call("get_data", mixed[6:-2]))["error"]["code"] == -32602
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        for deep in ("[" * 500_000, "[" * 500_000 + "]" * 500_000, '{"a":' * 150_000):
            assert (await ask(deep))["error"]["code"] == -32700
    finally:
        sys.setrecursionlimit(limit)


async def test_brackets_and_quotes_inside_of_text_are_text() -> None:
    text = '[[[{{{\\"]\\\\' * 40
    body = json.dumps({"jsonrpc": "2.0", "method": "echo", "params": [text], "id": 1})
    assert (await ask(body))["result"] == text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["jsonrpc", "method", "params", "id", "minuend"]) | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
async def test_any_json_is_answered_as_the_specification_wants(value: Any) -> None:
    answer = await ask(json.dumps(value))
    for each in answer if isinstance(answer, list) else [answer]:
        assert each is None or each["jsonrpc"] == "2.0"
        assert each is None or ("result" in each) != ("error" in each)


async def test_discover_tells_every_method_with_an_example_that_fits() -> None:
    calls = Calls()
    document = (await ask('{"jsonrpc": "2.0", "method": "rpc.discover", "id": 1}', calls))["result"]
    assert document["openrpc"] == OPENRPC_VERSION
    methods = {method["name"]: method for method in document["methods"]}
    assert set(methods) == set(calls.dispatcher().methods)
    assert [each["name"] for each in methods["subtract"]["params"]] == ["minuend", "subtrahend"]
    assert [each["required"] for each in methods["sum"]["params"]] == [True] + [False] * 4
    assert methods["sum"]["params"][0]["schema"] == {"type": "integer"}
    text = json.dumps(document)
    for reference in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert reference in document["components"]["schemas"]
    assert document["components"]["errors"]["port-in-use"]["code"] == 1015


async def test_a_body_full_of_quotes_costs_one_pass() -> None:
    from node.rpc import Dispatcher  # noqa: PLC0415

    body = b'{"jsonrpc": "2.0", "method": "' + b'\\"' * 200_000
    with trio.fail_after(5):
        answer = await Dispatcher([]).answer(body)
    assert answer is not None
    assert b"-32700" in answer
