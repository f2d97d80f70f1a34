"""JSON-RPC over HTTP on 127.0.0.1 and on a Unix socket in the node's folder.

Adversary: other users of the machine, and web pages in a browser on it. Only who can read
rpc.cookie (mode 0600, a new secret at each start) may call. A request with a foreign Host (DNS
rebinding) or any Origin but our own is refused before its body is read, and a body is read to a
limit. Whoever is this user or root has the node; that is the same as with its files.
"""

import errno
import hmac
import json
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from node.errors import Fault
from node.folder import FILE_MODE, Folder, write_private
from node.rpc import Dispatcher, failure

if TYPE_CHECKING:  # trio's own name is hidden by the outdated stubs that come with trio-typing
    from trio_typing import TaskStatus

BODY_LIMIT_BYTES = 1 << 20
BODY_TIMEOUT_S = 10.0
GRACE_S = 0.5
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in: the secret of this start, and the port that a Host may name."""

    port: int
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def url(self) -> str:
        """Where the daemon answers."""
        return f"http://{_HOST}:{self.port}/"

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that may not come in, or None."""
        named = {f"localhost:{self.port}", f"{_HOST}:{self.port}"}
        hosts = {"localhost", *named}  # the bare name is what clients of the Unix socket send
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in hosts:
            return _refuse(403, "daemon-unauthorised", f"the Host {host!r:.80} is not this daemon")
        if origin is not None and origin not in {f"http://{each}" for each in named}:
            return _refuse(
                403, "daemon-unauthorised", f"pages of {origin!r:.80} may not call this daemon"
            )
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            given.encode("utf-8"), self.secret.encode("ascii")
        ):
            return _refuse(
                401,
                "daemon-unauthorised",
                "the request lacks the secret of the daemon's rpc.cookie",
            )
        return None


async def serve_rpc(
    dispatcher: Dispatcher,
    folder: Folder,
    port: int,
    *,
    task_status: "TaskStatus[str]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers until cancelled; `task_status` gets the URL once calls are answered.

    rpc.cookie and rpc.sock stand in `folder` meanwhile, and are gone afterwards. Port 0 takes any
    free one. Fault `port-in-use`.
    """
    tcp = _listen_tcp(port)
    door = Door(tcp.getsockname()[1])
    unix = _listen_unix(folder)
    config = HypercornConfig()
    config.bind = [f"fd://{tcp.detach()}", f"fd://{unix.detach()}"]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.graceful_timeout = GRACE_S
    config.keep_alive_max_requests = 10**9  # hypercorn closes a connection after 1,000 else
    app = Starlette(routes=[Route("/", _endpoint(dispatcher, door), methods=["POST"])])
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_serve, app, config)
            _write_cookie(folder, door)
            task_status.started(door.url)
    finally:
        folder.rpc_cookie.unlink(missing_ok=True)
        folder.rpc_socket.unlink(missing_ok=True)


async def _serve(
    app: Starlette,
    config: HypercornConfig,
    *,
    task_status: "TaskStatus[list[str]]" = trio.TASK_STATUS_IGNORED,
) -> None:
    await serve(app, config, task_status=task_status, mode="asgi")  # type: ignore[arg-type]


def _endpoint(dispatcher: Dispatcher, door: Door) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        refusal = door.refusal(request)
        if refusal is not None:
            return refusal
        try:
            with trio.fail_after(BODY_TIMEOUT_S):
                body = await _body(request)
        except trio.TooSlowError:
            return _refuse(408, "daemon-timeout", "the request's body did not arrive in time")
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return _refuse(
                413, "request-too-large", f"a request has at most {BODY_LIMIT_BYTES} bytes"
            )
        answer = await dispatcher.answer(body)
        if answer is None:
            return Response(status_code=204)
        return Response(answer, media_type="application/json")

    return endpoint


async def _body(request: Request) -> bytes | None:
    """The request's body, or None if it is over the limit; the rest is then not read."""
    body = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_LIMIT_BYTES:
                return None
    return bytes(body)


def _refuse(status: int, kind: str, sentence: str) -> Response:
    answer = json.dumps(failure(None, Fault(kind, sentence)))
    return Response(answer, status_code=status, media_type="application/json")


def _write_cookie(folder: Folder, door: Door) -> None:
    cookie = {"url": door.url, "secret": door.secret, "process": os.getpid()}
    write_private(folder.rpc_cookie, json.dumps(cookie).encode("ascii"), replace=True)


def _listen_tcp(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise Fault(
                "port-in-use",
                f"the port {port} of rpc.port cannot be used on {_HOST}: {error.strerror}",
                port=port,
            ) from None
        raise
    return listener


def _listen_unix(folder: Folder) -> socket.socket:
    """A listener at rpc.sock. Bound through the folder's descriptor: a path may be longer than the
    108 bytes of a socket address."""
    folder.rpc_socket.unlink(missing_ok=True)
    directory = os.open(folder.path, os.O_PATH | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{directory}/{folder.rpc_socket.name}")
        folder.rpc_socket.chmod(FILE_MODE)
    finally:
        os.close(directory)
    return listener
