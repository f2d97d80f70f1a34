"""JSON-RPC to the chain's nodes on trio: AsyncWeb3's provider, and a plain way to ask.

Adversary: an endpoint that is down, slow, answers garbage or refuses. This module only moves
requests and says in words what came back; whether an answer is true is judged by who asked
(the deployment's check, the follower's parent hashes).

AsyncWeb3's own providers are aiohttp's and do not run on trio. `wait_for_transaction_receipt`
and web3's batching await asyncio, so `ask_many` sends batches itself.
"""

import itertools
import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final, cast

import httpx2
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from web3.providers.async_base import AsyncJSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from chain.errors import ChainRefused, ChainUnreachable
from chain.recursion import restore_limit

restore_limit()

MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024
MAX_BATCH: Final = 100
_REVERT: Final = "0x08c379a0"
_PANIC: Final = "0x4e487b71"


class TrioProvider(AsyncJSONBaseProvider):
    """JSON-RPC over HTTP to the first of several endpoints that answers.

    The endpoint that answered last is asked first. Every request here is safe to repeat at
    another endpoint: reads, and raw transactions, which their hash identifies.
    """

    global_ccip_read_enabled = False  # its implementation awaits aiohttp

    def __init__(self, *urls: str, timeout_s: float = 10.0) -> None:
        if not urls:
            raise ChainUnreachable("no endpoint of the chain is configured")
        super().__init__()
        self._urls = list(urls)
        self._ids = itertools.count(1)
        self._client = httpx2.AsyncClient(
            timeout=timeout_s,
            limits=httpx2.Limits(max_connections=16, max_keepalive_connections=16),
            headers={"content-type": "application/json", "accept-encoding": "identity"},
            trust_env=False,
        )

    @property
    def url(self) -> str:
        """The endpoint that is asked first."""
        return self._urls[0]

    @property
    def urls(self) -> tuple[str, ...]:
        """All endpoints, the one that is asked first in front."""
        return tuple(self._urls)

    def leave_out(self, url: str) -> None:
        """Never ask this endpoint again, unless there is no other."""
        if url in self._urls and len(self._urls) > 1:
            self._urls.remove(url)

    def ask_last(self, url: str) -> None:
        """Ask this endpoint only when no other answers."""
        if url in self._urls:
            self._urls.remove(url)
            self._urls.append(url)

    async def ask_at(self, url: str, method: str, *params: Any) -> Any:
        """The result of one request to this endpoint alone; raises as `ask`."""
        return _result(await self._post_to(url, _packed(self._form(method, params))))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """One request for AsyncWeb3: the raw answer, errors of the node included."""
        return cast(RPCResponse, await self._post(self._form(method, params)))

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of one request.

        Raises ChainUnreachable if nobody answers, ChainRefused if the node says no.
        """
        return _result(await self._post(self._form(method, params)))

    async def ask_many(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """The results of many requests, in order, a hundred to a message.

        A request that the node refuses yields its ChainRefused in place of a result. Raises
        ChainUnreachable if nobody answers.
        """
        results: list[Any] = []
        for start in range(0, len(calls), MAX_BATCH):
            forms = [self._form(*call) for call in calls[start : start + MAX_BATCH]]
            answers = await self._post(forms)
            results += _in_order(forms, answers)
        return results

    def _form(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    async def _post(self, form: dict[str, Any] | list[dict[str, Any]]) -> Any:
        content = _packed(form)
        failures = []
        for url in tuple(self._urls):
            try:
                answer = await self._post_to(url, content)
            except ChainUnreachable as error:
                failures.append(str(error))
                continue
            if url in self._urls[1:]:
                self._urls.remove(url)
                self._urls.insert(0, url)
            return answer
        raise ChainUnreachable("; ".join(failures))

    async def _post_to(self, url: str, content: bytes) -> Any:
        try:
            async with self._client.stream("POST", url, content=content) as response:
                body = await _bounded(url, response)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            detail = str(error) or type(error).__name__
            raise ChainUnreachable(f"{url} does not answer: {detail}") from error
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ChainUnreachable(f"{url} does not answer in JSON") from error


async def _bounded(url: str, response: httpx2.Response) -> bytes:
    """The body, read to its limit and never unpacked: a small one could unfold to any size."""
    if response.status_code != httpx2.codes.OK:
        raise ChainUnreachable(f"{url} answers with HTTP status {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ChainUnreachable(f"{url} answers in a packed form that was not asked for")
    body = bytearray()
    async with aclosing(response.aiter_raw()) as parts:
        async for part in parts:
            body += part
            if len(body) > MAX_RESPONSE_BYTES:
                raise ChainUnreachable(f"{url} answers with more than {MAX_RESPONSE_BYTES} bytes")
    return bytes(body)


def _packed(form: Any) -> bytes:
    return json.dumps(form, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    raise TypeError(f"{type(value).__name__} has no place in a request to the chain")


def _in_order(forms: Sequence[dict[str, Any]], answers: Any) -> list[Any]:
    if not isinstance(answers, list):
        _result(answers)
        raise ChainUnreachable("the chain's node does not answer batches")
    by_id = {
        answer["id"]: answer
        for answer in answers
        if isinstance(answer, dict) and isinstance(answer.get("id"), int)
    }
    results: list[Any] = []
    for form in forms:
        try:
            results.append(_result(by_id.get(form["id"])))
        except ChainRefused as error:
            results.append(error)
    return results


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
        raise ChainUnreachable("the chain's node does not answer in JSON-RPC")
    if answer.get("error") is None:
        return answer.get("result")
    error = answer["error"]
    if not isinstance(error, dict):
        raise ChainRefused(str(error)[:500])
    code = error.get("code")
    raise ChainRefused(refusal(error), code=code if isinstance(code, int) else 0)


def refusal(error: dict[str, Any]) -> str:
    """The reason of a JSON-RPC error in words: the contract's own where there is one."""
    data = error.get("data")
    if isinstance(data, str):
        reason = _revert_reason(data)
        if reason:
            return reason
    message = str(error.get("message", "no reason given"))[:500]
    return message.removeprefix("execution reverted: ")


def _revert_reason(data: str) -> str:
    try:
        body = bytes.fromhex(data[10:])
        if data.startswith(_REVERT):
            return str(decode(["string"], body)[0])
        if data.startswith(_PANIC):
            return f"the contract panicked with code {decode(['uint256'], body)[0]:#x}"
    except (ValueError, DecodingError, OverflowError):
        return ""
    return ""
