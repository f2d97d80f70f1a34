"""The worker processes of this node's sessions: started, heard, and ended with their session.

Whatever happens in a session stays in it: a worker that dies, speaks nonsense or is never told to
go on ends its own session with a reason, and nothing escapes to the daemon's other tasks. A
session ends by itself when its next step does not come in time, when the node that leads it has
gone before the workers could watch each other, or when a grant under it is revoked or has expired.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import trio

from mpc.supervisor import WorkerGoneError, open_worker
from node import session_records
from node.errors import Fault
from node.house import House
from node.live_edges import edge_ended
from node.live_session import LiveSession
from node.log import get_logger
from node.session_jobs import session_folder
from node.tunnels import Tunnels
from node.workers.messages import (
    FROM_WORKER,
    REPORT_LIMIT_BYTES,
    Failed,
    Ready,
    Start,
)
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.manifest import Role
from protocol.messages import Seat
from protocol.task import SESSION, SessionState

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = get_logger("sessions")

RUNNING_MOST_S = 3600.0
STEP_MOST_S = 60.0
LEADER_GLANCE_S = 0.25
LEADER_GONE_S = 1.0
GRANTS_GLANCE_S = 0.5
MODULES: dict[Role, str] = {
    "contributor": "node.workers.contributor",
    "member": "node.workers.member",
    "recipient": "node.workers.recipient",
}
BEFORE_RUNNING = (
    SessionState.PROPOSED,
    SessionState.ROSTER_SIGNED,
    SessionState.ALIGNED,
    SessionState.ROWS_SIGNED,
)

Abort = Callable[[LiveSession, str, tuple[str, ...]], Awaitable[None]]
Heard = Callable[[LiveSession, Role, Wire], Awaitable[None]]
Work = tuple[Callable[..., Awaitable[None]], tuple[object, ...]]


def patience_s(state: SessionState, alignment_deadline_s: float) -> float:
    """How long a session may stay in `state` until its next step must have come."""
    if state is SessionState.RUNNING:
        return RUNNING_MOST_S
    if state is SessionState.ROSTER_SIGNED:
        return alignment_deadline_s + STEP_MOST_S
    return STEP_MOST_S


class SessionWorkers:
    """Hosts the workers of one node's sessions.

    `abort` ends a session, `connected` says whether a peer is connected now.
    """

    def __init__(
        self, house: House, abort: Abort, connected: Callable[[str], bool], tunnels: Tunnels
    ) -> None:
        self._house = house
        self._tunnels = tunnels
        self._abort = abort
        self._connected = connected

    async def host(
        self,
        live: LiveSession,
        heard: Heard,
        task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """The workers of one session, from their start until the session is over.

        What goes wrong before they have started is raised to who started this; nothing later is.
        """
        try:
            async with AsyncExitStack() as stack:
                folder = session_folder(self._house.folder, live.session)
                entrance = stack.enter_context(self._tunnels.opened(live, folder))
                for role in live.roles:
                    await self._start(live, role, stack)
                task_status.started()
                tasks: list[Work] = [(self._listen, (live, role, heard)) for role in live.workers]
                await self._guarded(live, [(self._tunnels.serve, (live, entrance)), *tasks])
        except (Fault, OSError, WorkerGoneError, RemoteProtocolError) as error:
            self._close(live, f"the worker processes of {self._name} did not start: {error}")
            raise
        finally:
            self._close(live, f"{self._name} has ended its workers")

    async def watch(self, live: LiveSession) -> None:
        """Ends the session when its next step does not come, its leader goes or a grant ends.

        Returns once the session is over, however that came about.
        """
        watchers = (self._watch_steps, self._watch_leader, self._watch_grants)
        await self._guarded(live, [(watcher, (live,)) for watcher in watchers])
        self._close(live, f"{self._name} has stopped watching it")

    async def _guarded(self, live: LiveSession, tasks: Sequence[Work]) -> None:
        """`tasks` run until the session is over."""
        try:
            async with trio.open_nursery() as nursery:
                for work, given in tasks:
                    nursery.start_soon(work, *given)
                await live.over.wait()
                nursery.cancel_scope.cancel()
        except Exception:  # the boundary: one session's failure must not end the daemon
            log.exception("a session failed by an error of this node", session=live.session.hex())
            with suppress(sqlite3.Error):  # then the next start of the node marks it as over
                await self._abort(live, f"{self._name} met an error of its own", ())

    def _close(self, live: LiveSession, reason: str) -> None:
        """A session whose workers are gone is over, however that came about."""
        live.over.set()
        with suppress(sqlite3.Error), self._house.engine.transaction() as tx:
            session_records.abort(tx, live.session, reason, ())

    @property
    def _name(self) -> str:
        return self._house.directory.own.name

    async def _start(self, live: LiveSession, role: Role, stack: AsyncExitStack) -> None:
        config = self._house.config
        folder = session_folder(self._house.folder, live.session)
        worker = await stack.enter_async_context(
            open_worker(
                MODULES[role],
                reports=FROM_WORKER,
                limit=REPORT_LIMIT_BYTES,
                stderr_path=folder / f"{role}.log",
            )
        )
        listen = config.listen
        await worker.send(
            Start(
                listen_host=listen.data_host, ports=listen.worker_ports, log_level=config.log.level
            )
        )
        ready = await worker.report()
        if isinstance(ready, Failed):
            raise Fault("worker-failed", f"the {role}'s process did not start: {ready.reason}")
        if not isinstance(ready, Ready):
            raise Fault("worker-failed", f"the {role}'s process did not start; see {folder}")
        seat = Seat(
            role=role,
            certificate=ready.certificate,
            session_key=ready.session_key,
            address=listen.seat_address(ready.port),
        )
        live.workers[role] = worker
        live.seats = (*live.seats, seat)

    # ------------------------------------------------------------------ hearing and saying

    async def _listen(self, live: LiveSession, role: Role, heard: Heard) -> None:
        worker = live.workers[role]
        try:
            async for report in worker.reports():
                await heard(live, role, report)
        except RemoteProtocolError as error:
            log.warning("worker misbehaved", role=role, why=str(error))
        if role not in live.finished:
            await self._lost(live, role)

    async def say(self, live: LiveSession, role: Role, message: Wire) -> None:
        """The worker has been told, or its loss has ended the session."""
        try:
            await live.workers[role].send(message)
        except WorkerGoneError:
            await self._lost(live, role)

    async def _lost(self, live: LiveSession, role: Role) -> None:
        me = f"{self._name}/{role}"
        await self._abort(live, f"the process of {me} ended", (me,))

    # ------------------------------------------------------------------ watching

    async def _watch_steps(self, live: LiveSession) -> None:
        """Ends the session when its next step does not come in time."""
        engine = self._house.engine
        while not SESSION.is_final(state := self._state(live)):
            deadline_s = live.roster.alignment_deadline_s if live.roster else 0.0
            most_s = patience_s(state, deadline_s)
            if not await engine.until(lambda state=state: self._state(live) != state, most_s):  # type: ignore[misc]
                await self._abort(
                    live, f"nothing has followed {state} at {self._name} in {most_s:g} s", ()
                )

    def _state(self, live: LiveSession) -> SessionState:
        return session_records.known(self._house.engine.db, live.session).state

    async def _watch_grants(self, live: LiveSession) -> None:
        """Ends the session once a grant under it is revoked or over, by the confirmed block."""
        while not live.over.is_set():
            await trio.sleep(GRANTS_GLANCE_S)
            ended = edge_ended(self._house, live)
            if ended is not None:
                await self._abort(live, ended, ())

    async def _watch_leader(self, live: LiveSession) -> None:
        """Ends the session if the node that leads it goes before the rounds have begun."""
        gone_s = 0.0
        leader = self._house.directory.of_peer(live.coordinator)
        if leader is None or leader.peer_id == self._house.directory.own.peer_id:
            return
        while self._state(live) in BEFORE_RUNNING:
            gone_s = 0.0 if self._connected(live.coordinator) else gone_s + LEADER_GLANCE_S
            if gone_s >= LEADER_GONE_S:
                reason = f"{leader.name}'s node, which led the session, is gone"
                await self._abort(live, reason, (f"{leader.name}/recipient",))
            await trio.sleep(LEADER_GLANCE_S)
