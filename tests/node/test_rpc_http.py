"""The daemon's door over real sockets: who may come in, how much, how fast it closes."""

import http.client
import json
import socket
import stat
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from node import log
from node.client import Client
from node.errors import Fault
from node.folder import Folder
from node.rpc import Dispatcher, Method, Parameters
from node.rpc_http import BODY_LIMIT_BYTES, serve_rpc


class Echo(Parameters, frozen=True):
    text: str = ""


async def echo(parameters: Echo) -> str:
    return parameters.text


async def refuse(_parameters: Parameters) -> None:
    raise Fault("task-unknown", "there is no task 0x01", task="0x01")


DISPATCHER = Dispatcher([Method("echo", echo, Echo), Method("refuse", refuse)])


@pytest.fixture(autouse=True)
def _quiet() -> None:
    log.configure("critical", console="none")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    deep = tmp_path / ("long" * 30)  # longer than a socket address may be
    deep.mkdir(mode=0o700)
    return Folder(deep)


@asynccontextmanager
async def serving(folder: Folder, port: int = 0) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_rpc, DISPATCHER, folder, port)
        nursery.cancel_scope.cancel()


def post(
    url: str, body: bytes, headers: Mapping[str, str], path: str = "/", method: str = "POST"
) -> tuple[int, Any]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text.startswith(b"{") else text
    finally:
        connection.close()


def bearer(folder: Folder) -> dict[str, str]:
    return {"Authorization": "Bearer " + json.loads(folder.rpc_cookie.read_text())["secret"]}


REQUEST = b'{"jsonrpc": "2.0", "method": "echo", "params": ["hi"], "id": 1}'


@pytest.mark.parametrize("unix", [False, True])
async def test_the_client_calls_over_both_ways(folder: Folder, unix: bool) -> None:
    async with serving(folder):
        client = await trio.to_thread.run_sync(lambda: Client(folder.path, unix=unix))
        result = await trio.to_thread.run_sync(lambda: client.call("echo", text="你好"))
        assert result == "你好"
        with pytest.raises(Fault) as caught:
            await trio.to_thread.run_sync(client.call, "refuse")
        assert (caught.value.kind, caught.value.sentence) == (
            "task-unknown",
            "there is no task 0x01",
        )
        assert caught.value.data == {"task": "0x01"}


async def test_cookie_and_socket_are_private_new_each_time_and_gone_afterwards(
    folder: Folder,
) -> None:
    secrets = []
    for _ in range(2):
        async with serving(folder):
            for file in (folder.rpc_cookie, folder.rpc_socket):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
            secrets.append(bearer(folder))
        assert list(folder.path.iterdir()) == []
    assert secrets[0] != secrets[1]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer \xff"}, 401),
        ({"Authorization": "Basic abc"}, 401),
        ({"Authorization": ""}, 401),
        ({"Host": "attacker.example"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.attacker.example"}, 403),
    ],
)
async def test_who_may_not_come_in(folder: Folder, headers: dict[str, str], status: int) -> None:
    async with serving(folder) as url:
        told = await trio.to_thread.run_sync(post, url, REQUEST, bearer(folder) | headers)
        assert told[0] == status
        assert told[1]["error"]["data"]["kind"] == "daemon-unauthorised"


async def test_the_daemons_own_origin_and_localhost_may(folder: Folder) -> None:
    async with serving(folder) as url:
        port = urlsplit(url).port
        for extra in ({"Origin": url.rstrip("/")}, {"Host": f"localhost:{port}"}):
            told = await trio.to_thread.run_sync(post, url, REQUEST, bearer(folder) | extra)
            assert told == (200, {"jsonrpc": "2.0", "result": "hi", "id": 1})


async def test_other_paths_and_methods_are_not_there(folder: Folder) -> None:
    async with serving(folder) as url:
        headers = bearer(folder)
        assert (await trio.to_thread.run_sync(post, url, b"", headers, "/", "GET"))[0] == 405
        assert (await trio.to_thread.run_sync(post, url, b"", headers, "/x"))[0] == 404


async def test_a_notification_has_no_content(folder: Folder) -> None:
    async with serving(folder) as url:
        body = b'{"jsonrpc": "2.0", "method": "echo"}'
        assert await trio.to_thread.run_sync(post, url, body, bearer(folder)) == (204, b"")


async def test_a_body_is_read_to_its_limit(folder: Folder) -> None:
    def padded(size: int) -> bytes:
        return REQUEST + b" " * (size - len(REQUEST))

    async with serving(folder) as url:
        headers = bearer(folder)
        fits = await trio.to_thread.run_sync(post, url, padded(BODY_LIMIT_BYTES), headers)
        assert fits[0] == 200
        large = await trio.to_thread.run_sync(post, url, padded(BODY_LIMIT_BYTES + 1), headers)
        assert (large[0], large[1]["error"]["data"]["kind"]) == (413, "request-too-large")


async def test_a_port_in_use_is_told(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with trio.open_nursery() as nursery:
            with pytest.raises(Fault, match=str(port)) as caught:
                await nursery.start(serve_rpc, DISPATCHER, folder, port)
    assert caught.value.kind == "port-in-use"
    assert list(folder.path.iterdir()) == []


async def test_a_slow_clients_body_does_not_hold_up_the_end(folder: Folder) -> None:
    slow = socket.socket()
    with trio.fail_after(5):
        async with serving(folder) as url:
            where = urlsplit(url)
            slow.connect((where.hostname, where.port))
            head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
            head += "".join(f"{name}: {value}\r\n" for name, value in bearer(folder).items())
            slow.sendall(head.encode() + b"\r\nabc")
            told = await trio.to_thread.run_sync(post, url, REQUEST, bearer(folder))
            assert told[0] == 200
    slow.close()


async def test_the_secret_is_in_no_repr(folder: Folder) -> None:
    async with serving(folder):
        secret = bearer(folder)["Authorization"].split()[1]
        client = await trio.to_thread.run_sync(Client, folder.path)
        assert secret not in repr(client)


def test_no_daemon_no_cookie_and_a_stale_cookie_are_told(folder: Folder) -> None:
    with pytest.raises(Fault) as caught:
        Client(folder.path)
    assert caught.value.kind == "daemon-not-running"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.rpc_cookie.write_text(json.dumps({"url": f"http://127.0.0.1:{port}/", "secret": "x"}))
    with pytest.raises(Fault) as caught:
        Client(folder.path).call("echo")
    assert caught.value.kind == "daemon-not-running"
    folder.rpc_cookie.write_text("{}")
    with pytest.raises(Fault) as caught:
        Client(folder.path)
    assert caught.value.kind == "daemon-unauthorised"


async def test_a_foreign_secret_is_told_by_the_client(folder: Folder) -> None:
    async with serving(folder) as url:
        folder.rpc_cookie.write_text(json.dumps({"url": url, "secret": "wrong"}))
        with pytest.raises(Fault) as caught:
            await trio.to_thread.run_sync(lambda: Client(folder.path).call("echo"))
    assert caught.value.kind == "daemon-unauthorised"


def answered_by(answer: bytes, folder: Folder, timeout_s: float = 5.0) -> Fault:
    """What the client makes of a server that answers every request with `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cookie = {"url": f"http://127.0.0.1:{port}/", "secret": "x"}
        folder.rpc_cookie.write_text(json.dumps(cookie))
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)
                if not answer:
                    done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Fault) as caught:
            Client(folder.path, timeout_s=timeout_s).call("echo")
        done.set()
        thread.join()
    return caught.value


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "daemon-answer-invalid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "daemon-answer-invalid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "daemon-answer-invalid"),
        (b"garbage\r\n\r\n", "daemon-not-running"),
    ],
)
def test_answers_that_are_none(folder: Folder, answer: bytes, kind: str) -> None:
    assert answered_by(answer, folder).kind == kind


def test_a_silent_daemon_is_waited_for_no_longer_than_told(folder: Folder) -> None:
    assert answered_by(b"", folder, timeout_s=0.05).kind == "daemon-timeout"
