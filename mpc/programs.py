"""What the committee computes with MPyC 0.11 on the very shares that the owners sent.

Only a member's worker process loads this, and only after `sys.argv` is hidden from MPyC, which
reads it on import. MPyC itself has no network here: its connections are socket pairs inside the
process, and threads carry their bytes over the pinned TLS connections of the mesh.

Adversary: other members of the same session. Stock MPyC calls `pickle.loads` on their bytes,
which lets them run code here; in this process it finds `IntegerCodec` in its place, which knows
integers and arrays of integers and nothing else. A lost member ends the computation instead of
leaving it waiting for ever. Up to t members learn nothing from a linear program; MPyC is secure
against members that follow the protocol, and a wrong sum is noticed where it is opened.
"""

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from mpc import topology
from mpc.channels import Inbound, Outbound
from mpc.committee import Committee
from mpc.field import Elements, PrimeField
from mpc.mesh import Mesh
from mpc.watch import SessionError
from protocol.errors import RemoteProtocolError

_PIPE_BYTES: Final = 1 << 18
_MAX_PENDING_BYTES: Final = 1 << 26
_MAX_PENDING_MESSAGES: Final = 10_000
_RUNTIME_MODULES: Final = (
    "asyncoro",
    "sectypes",
    "mpctools",
    "seclists",
    "secpols",
    "secgroups",
    "random",
    "statistics",
)


class IntegerCodec:
    """Stands where MPyC has `pickle`: integers below 2^64 and flat arrays of them.

    `refuse` is told of bytes that are neither: MPyC itself would wait on for ever.
    """

    def __init__(self, refuse: Callable[[str], None]) -> None:
        self._refuse = refuse

    def dumps(self, value: Any) -> bytes:
        """The bytes of an integer or of a flat array. TypeError for anything else."""
        if isinstance(value, np.ndarray) and value.ndim == 1:
            return b"A" + value.astype("<u8").tobytes()
        if isinstance(value, int) and not isinstance(value, bool):
            return b"I" + value.to_bytes(8, "little")
        raise TypeError(f"MPyC may not send a {type(value).__name__}")

    def loads(self, data: bytes) -> Any:
        """The integer or array (dtype object) of these bytes; RemoteProtocolError otherwise."""
        kind, body = data[:1], data[1:]
        if kind == b"A" and len(body) % 8 == 0:
            return np.frombuffer(body, "<u8").astype(object)
        if kind == b"I" and len(body) == 8:
            return int.from_bytes(body, "little")
        reason = "a member sent MPyC something that is no array of integers"
        self._refuse(reason)
        raise RemoteProtocolError(reason)


class MpycCommittee:
    """This member's MPyC runtime, linked to all other members over the mesh."""

    def __init__(
        self,
        mesh: Mesh,
        committee: Committee,
        field: PrimeField,
        *,
        link_within_s: float,
        within_s: float,
    ) -> None:
        """Links up with all other members; every program may then take `within_s` seconds.

        SessionError if the linking takes longer than `link_within_s`.
        """
        self._mesh, self._within_s = mesh, link_within_s
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._mpyc = _imported()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._mpyc.runtime.pickle = IntegerCodec(lambda reason: self._lose((), reason))
        self._field = self._mpyc.finfields.GF(field.modulus)
        self._secure = self._mpyc.sectypes.SecFld(modulus=field.modulus)
        self._runtime = self._made(committee, mesh.me)
        # MPyC's own handler prints the stack and stops the loop under whoever runs it.
        self._loop.set_exception_handler(self._on_error)
        self._drive(self._attach(committee, mesh.me))
        self._within_s = within_s

    def add(self, terms: Sequence[Elements], total: Elements) -> None:
        """Write this member's share of the sum of all `terms` into `total`."""

        async def program(runtime: Any) -> Any:
            secure = [
                self._secure.array(self._field.array(term.astype(object), check=False))
                for term in terms
            ]
            value = secure[0]
            for term in secure[1:]:
                value = runtime.np_add(value, term)
            return await runtime.gather(value)

        total[:] = self.run(program).value.astype(total.dtype)

    def run(self, program: Callable[[Any], Awaitable[Any]]) -> Any:
        """The result of `program(runtime)`.

        SessionError if a member is lost or the deadline passes. RemoteProtocolError if a member's
        bytes are not what MPyC sends.
        """
        return self._drive(program(self._runtime))

    def _drive(self, work: Awaitable[Any]) -> Any:
        task = self._loop.create_task(self._bounded(work))
        try:
            return self._loop.run_until_complete(task)
        except RuntimeError:
            if not self._lost.done():
                raise
        # MPyC stopped the loop because a program of its own failed: the task still says why.
        return self._loop.run_until_complete(task)

    async def _bounded(self, work: Awaitable[Any]) -> Any:
        task = asyncio.ensure_future(work)
        await asyncio.wait(
            {task, self._lost}, timeout=self._within_s, return_when=asyncio.FIRST_COMPLETED
        )
        if task.done():
            return task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self._mesh.check()
        if self._lost.done():
            self._raise_loss()
        raise SessionError(f"MPyC did not finish within {self._within_s:g} s")

    def _raise_loss(self) -> None:
        """SessionError: what the watch knows of a member that left, before it is named itself."""
        try:
            self._lost.result()
        except SessionError as error:
            for member in error.blamed:
                raise self._mesh.watch.explain(member, error) from error
            raise

    def _made(self, committee: Committee, me: str) -> Any:
        mpyc = self._mpyc
        options = mpyc._get_arg_parser().parse_args([])
        options.threshold = committee.threshold
        options.no_log, options.no_async, options.no_prss = True, False, False
        parties = [mpyc.runtime.Party(place) for place in range(len(committee.members))]
        runtime = mpyc.runtime.Runtime(committee.members.index(me), parties, options)
        for name in _RUNTIME_MODULES:
            getattr(mpyc, name).runtime = runtime
        return runtime

    async def _attach(self, committee: Committee, me: str) -> None:
        runtime = self._runtime
        for party in runtime.parties:
            party.protocol = self._loop.create_future() if party.pid == runtime.pid else None
        for place, member in enumerate(committee.members):
            if member != me:
                pipe = _pumped(
                    self._mesh.to(member, topology.MPYC), self._mesh.of(member, topology.MPYC)
                )
                client = runtime.pid < place  # MPyC's rule: the lower number speaks first
                exchanger = self._exchanger(member, place, client=client)
                await self._loop.create_connection(partial(_same, exchanger), sock=pipe)
        await runtime.parties[runtime.pid].protocol
        runtime.start_time = time.time()

    def _exchanger(self, member: str, place: int, *, client: bool) -> Any:
        """A connection of MPyC's that ends the computation instead of hanging or growing."""

        def lost(what: str) -> None:
            self._lose((member,), f"{member} {what}")

        class Exchanger(self._mpyc.asyncoro.MessageExchanger):  # type: ignore[misc,name-defined]
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                if self.peer_pid not in (None, place):
                    lost("takes another member's place in MPyC")
                waiting = len(self.bytes) > _MAX_PENDING_BYTES
                if waiting or len(self.buffers) > _MAX_PENDING_MESSAGES:
                    lost("floods MPyC")

            def connection_lost(self, exc: Exception | None) -> None:
                del exc
                lost("left the MPyC computation")

        return Exchanger(self._runtime, place if client else None)

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        cause = context.get("exception") or context.get("message")
        self._lose((), f"MPyC failed: {cause}")

    def _lose(self, blamed: tuple[str, ...], reason: str) -> None:
        if not self._lost.done():
            self._lost.set_exception(SessionError(reason, blamed))
            self._lost.exception()  # seen: a member that leaves at the very end is no error


def _same(protocol: Any) -> Any:
    return protocol


def _imported() -> Any:
    """The package `mpyc`, which sees none of our arguments on its import."""
    os.environ.update(MPYC_NOUVLOOP="1", MPYC_MAXWORKERS="0")
    arguments = sys.argv
    sys.argv = ["member", "--no-log", "-M1"]
    try:
        import mpyc  # noqa: PLC0415  (it reads sys.argv)
        import mpyc.runtime  # noqa: PLC0415
    finally:
        sys.argv = arguments
    return mpyc


def _pumped(outbound: Outbound, inbound: Inbound) -> socket.socket:
    """MPyC's end of a socket pair, whose other end two threads carry over the mesh."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def carry_out() -> None:
        with contextlib.suppress(OSError, SessionError):
            while data := ours.recv(_PIPE_BYTES):
                outbound.send(data, float("inf"))

    def carry_in() -> None:
        with contextlib.suppress(OSError, RemoteProtocolError):
            while (data := inbound.receive_or_end(_PIPE_BYTES)) is not None:
                ours.sendall(data)
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)

    for carry in (carry_out, carry_in):
        threading.Thread(target=carry, name="mpyc-link", daemon=True).start()
    return theirs
