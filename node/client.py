"""The client of a running daemon: one HTTP request for each call, by the standard library alone.

Imports nothing heavy: the command line stands on it.
"""

import http.client
import itertools
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from node.errors import KINDS, Fault
from node.folder import Folder

DEFAULT_TIMEOUT_S = 60.0


class Client:
    """Calls the daemon that runs on `folder`, with the secret of its rpc.cookie.

    `unix` goes through the folder's Unix socket instead of TCP. Fault `daemon-not-running`.
    """

    def __init__(
        self, folder: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S, unix: bool = False
    ) -> None:
        self._folder = Folder(folder.expanduser().absolute())
        self._timeout_s = timeout_s
        self._unix = unix
        self._numbers = itertools.count(1)
        self._port, self._secret = self._read_cookie()

    def __repr__(self) -> str:
        return f"Client({str(self._folder.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open between calls."""

    def call(self, method: str, /, **parameters: Any) -> Any:
        """The result of `method`; the Fault that the daemon tells, or one about the way to it."""
        request = {
            "jsonrpc": "2.0",
            "method": method,
            "params": parameters,
            "id": next(self._numbers),
        }
        return _result(self.send(json.dumps(request).encode("utf-8")))

    def send(self, body: bytes) -> Any:
        """The daemon's answer to the raw request `body`, decoded; None after notifications."""
        connection = self._connection()
        try:
            connection.request(
                "POST",
                "/",
                body,
                {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            text = response.read()
        except TimeoutError:
            raise Fault(
                "daemon-timeout",
                f"the daemon on {self._folder.path} did not answer within {self._timeout_s:g} s",
            ) from None
        except (OSError, http.client.HTTPException):
            raise self._not_running() from None
        finally:
            connection.close()
        if response.status == http.client.NO_CONTENT:
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise Fault(
                "daemon-answer-invalid", f"the daemon on {self._folder.path} answered no JSON"
            ) from None

    def _connection(self) -> http.client.HTTPConnection:
        if self._unix:
            return _UnixConnection(self._folder, self._timeout_s)
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_s)

    def _read_cookie(self) -> tuple[int, str]:
        try:
            cookie = json.loads(self._folder.rpc_cookie.read_bytes())
            return urlsplit(cookie["url"]).port or 0, cookie["secret"]
        except FileNotFoundError:
            raise self._not_running() from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Fault(
                "daemon-unauthorised", f"{self._folder.rpc_cookie} cannot be read: {error}"
            ) from None

    def _not_running(self) -> Fault:
        return Fault("daemon-not-running", f"no daemon answers for {self._folder.path}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the socket file of a folder, whose path may be longer than a socket address."""

    def __init__(self, folder: Folder, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._folder = folder

    def connect(self) -> None:
        """The connection is open; OSError."""
        directory = os.open(self._folder.path, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{directory}/{self._folder.rpc_socket.name}")
        finally:
            os.close(directory)


def _result(answer: Any) -> Any:
    if isinstance(answer, dict) and "result" in answer:
        return answer["result"]
    try:
        error = answer["error"]
        data = dict(error.get("data") or {})
        kind = data.pop("kind", None)
        sentence = str(data.pop("sentence", error["message"]))
        code = error["code"]
    except (TypeError, KeyError, ValueError):
        raise Fault(
            "daemon-answer-invalid", "the daemon's answer is no JSON-RPC response"
        ) from None
    for told in ("remedy", "exit_code"):
        data.pop(told, None)
    if kind not in KINDS:
        kind = next((name for name, entry in KINDS.items() if entry.rpc_code == code), None)
    raise Fault(kind or "daemon-answer-invalid", sentence, **data)
