"""The way to an endpoint: what it answers is read to a limit and never unfolds."""

import gzip
import http.server
import threading
from collections.abc import Iterator

import pytest

from chain import provider
from chain.errors import ChainUnreachable
from chain.provider import TrioProvider


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers every request with the server's own bytes and headers."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        for name, value in self.server.extra.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is pytest's."""


@pytest.fixture
def endpoint() -> Iterator[http.server.HTTPServer]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Endpoint)
    server.extra, server.answer = {}, b""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def ask(server: http.server.HTTPServer) -> object:
    asking = TrioProvider(f"http://127.0.0.1:{server.server_port}")
    try:
        return await asking.ask("eth_chainId")
    finally:
        await asking.aclose()


async def test_a_packed_answer_is_refused_before_it_unfolds(
    endpoint: http.server.HTTPServer,
) -> None:
    endpoint.extra = {"content-encoding": "gzip"}
    endpoint.answer = gzip.compress(bytes(50_000_000))
    with pytest.raises(ChainUnreachable, match="packed form"):
        await ask(endpoint)


# The library leaves a generator of its own to the collector when an answer is not read to its end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_endless_answer_is_cut(
    endpoint: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "MAX_RESPONSE_BYTES", 10_000)
    endpoint.answer = b" " * 100_000
    with pytest.raises(ChainUnreachable, match="more than 10000"):
        await ask(endpoint)


async def test_a_plain_answer_is_read(endpoint: http.server.HTTPServer) -> None:
    endpoint.answer = b'{"jsonrpc": "2.0", "id": 1, "result": "0x1"}'
    assert await ask(endpoint) == "0x1"
