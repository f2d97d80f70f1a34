"""What every node does in a session: check, start its workers, sign, run, and say how it ended.

The recipient's node proposes; every step here is this node's own decision, by its own terms, its
own view of the chain and its own code. A no names its rule. Nothing is signed before its check
has passed, and the budget is spent in the same transaction as the row set is signed.
"""

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import trio

from mpc.supervisor import WorkerGoneError, open_worker
from node import ledger, negotiations, plans, session_records, task_records
from node.attestations import Attestations
from node.config import Chain, Config
from node.directory import Directory
from node.engine import Engine, Transaction
from node.errors import Fault
from node.folder import Folder
from node.grants import Grants
from node.keys import PeerKey
from node.ledger import Spending
from node.live_session import LiveSession, Summary
from node.log import get_logger
from node.receipts import Receipts
from node.session_jobs import Jobs, session_folder
from node.workers.messages import (
    FROM_WORKER,
    REPORT_LIMIT_BYTES,
    Aligned,
    Failed,
    Finished,
    Proceed,
    Progress,
    Ready,
    Run,
    Start,
)
from protocol import codec, envelope, privacy
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, PeerId, SessionId, TaskId
from protocol.manifest import Role, Roster, RowSet
from protocol.messages import (
    ManifestOffer,
    ManifestSignature,
    ManifestSigned,
    Seat,
    SessionJoined,
    SessionProposal,
)
from protocol.peers import peer_key
from protocol.roster_check import Plan, check_against_plan, check_own_seats
from protocol.task import SessionEvent

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = get_logger("sessions")

SESSION_DEADLINE_S = 3600.0
WORKER_START_S = 20.0
MAX_LIVE_SESSIONS = 4
MODULES: dict[Role, str] = {
    "contributor": "node.workers.contributor",
    "member": "node.workers.member",
    "recipient": "node.workers.recipient",
}

Tell = Callable[[LiveSession, str, tuple[str, ...]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class House:
    """What of this node a session touches."""

    engine: Engine
    config: Config
    chain: Chain
    directory: Directory
    folder: Folder
    key: PeerKey
    grants: Grants
    attestations: Attestations
    receipts: Receipts
    jobs: Jobs
    row_key: bytes = field(repr=False)


class Participation:
    """This node's part in every session that it takes part in."""

    def __init__(self, house: House, nursery: trio.Nursery, tell: Tell) -> None:
        self._house = house
        self._nursery = nursery
        self._tell = tell
        self.live: dict[SessionId, LiveSession] = {}

    # ------------------------------------------------------------------ joining

    async def join(self, proposal: SessionProposal, coordinator: PeerId) -> SessionJoined:
        """Afterwards this node's workers run and are named in the answer.

        Fault or RemoteProtocolError says by which rule this node stays out.
        """
        live = self._examine(proposal, coordinator)
        with self._house.engine.transaction() as tx:
            session_records.begin(tx, live.session, live.task, live.roles)
            self._count_uses(tx, live)
        self.live[live.session] = live
        try:
            with trio.fail_after(WORKER_START_S):
                await self._nursery.start(self._host, live)
        except (trio.TooSlowError, Fault, OSError, WorkerGoneError) as error:
            sentence = f"the worker processes did not start: {error or 'it took too long'}"
            await self.abort(live, sentence, (), spread=False)
            raise Fault("worker-failed", sentence) from error
        own = self._house.directory.own
        return SessionJoined(organisation=own.name, account=own.account, seats=live.seats)

    def _examine(self, proposal: SessionProposal, coordinator: PeerId) -> LiveSession:
        house = self._house
        if len(self.live) >= MAX_LIVE_SESSIONS:
            raise Fault("session-refused", f"{MAX_LIVE_SESSIONS} sessions are running here already")
        record = task_records.known(house.engine.db, proposal.attestation.task)
        house.attestations.check(proposal.attestation, record)
        plan = plans.plan_of(house.engine.db, record.algorithm)
        if house.directory.peer_of(plan.recipient) != coordinator:
            raise RemoteProtocolError("only the recipient's node proposes a session")
        roles = plan.roles_of(house.directory.own.account)
        if not roles:
            raise RemoteProtocolError("this node has no part in that plan")
        self._check_grants(plan, record.algorithm)
        return LiveSession(
            session=SessionId(proposal.session),
            task=TaskId(record.task),
            attempt=proposal.attempt,
            plan=plan,
            roles=roles,
            attestation=proposal.attestation,
            coordinator=coordinator,
        )

    def _check_grants(self, plan: Plan, algorithm: bytes) -> None:
        """The terms of today still permit what was granted for each of this node's leaves."""
        house = self._house
        for leaf in plans.leaves_of(plan, house.directory.own.account):
            request = negotiations.granted_request(house.engine.db, leaf, algorithm)
            failed = [each for each in house.grants.judge(request) if not each.passed]
            if failed:
                raise Fault("terms-refused", "; ".join(each.sentence for each in failed))

    def _count_uses(self, tx: Transaction, live: LiveSession) -> None:
        """Each attestation counts one use of each of this node's grants, here too (floor 13)."""
        attestation = codec.digest(live.attestation)
        record = task_records.known(tx.db, live.task)
        for leaf in plans.leaves_of(live.plan, self._house.directory.own.account):
            counted = tx.db.execute(
                "INSERT OR IGNORE INTO counted_uses VALUES (?, ?, ?)",
                [attestation, leaf, record.algorithm],
            )
            if counted.rowcount:
                self._house.grants.count_use(tx, leaf, record.algorithm)

    # ------------------------------------------------------------------ signing

    def sign_roster(self, live: LiveSession, offer: ManifestOffer) -> ManifestSignature:
        """This node's signature over the roster, once all that needs no rows has been checked."""
        roster = codec.decode(offer.part, Roster)
        self._check_roster(live, roster)
        live.roster = roster
        return self._signature(live, roster)

    def _check_roster(self, live: LiveSession, roster: Roster) -> None:
        house, own = self._house, self._house.directory.own
        check_against_plan(roster, live.plan)
        check_own_seats(roster, own.name, own.account, own.peer_id, live.seats)
        expected = {
            "session": (roster.session, live.session),
            "task": (roster.task, live.task),
            "attempt": (roster.attempt, live.attempt),
            "attestation": (roster.attestation, codec.digest(live.attestation)),
        }
        for what, (theirs, ours) in expected.items():
            if theirs != ours:
                raise RemoteProtocolError(f"the roster names another {what}")
        for party in roster.parties:
            known = house.directory.of_account(party.account)
            if known is None or known.peer_id != party.peer_id:
                raise RemoteProtocolError(f"{party.name} is not the peer that this node knows")
        self._check_floors(live, roster)

    def _check_floors(self, live: LiveSession, roster: Roster) -> None:
        """Floors 1 and 2 again, on who really sits; the helper is nobody with rows (floor 12)."""
        operator = self._house.directory.operator
        recipient = operator(live.plan.recipient)
        committee = privacy.Committee(
            members=tuple(operator(member.account) for member in roster.by_role("member")),
            contributors=tuple(operator(account) for account in live.plan.contributors),
            recipient=recipient,
            threshold=roster.threshold,
        )
        failed = [each for each in privacy.committee_floor(committee) if not each.passed]
        if failed and "contributor" in live.roles:
            raise Fault("terms-refused", "; ".join(each.sentence for each in failed))
        helper = operator(roster.party(roster.helper).account)
        aligned = {operator(account) for account in live.plan.contributors} | {recipient}
        if helper is None or helper in aligned:
            raise RemoteProtocolError("the helper of the alignment must be of a distinct operator")

    def sign_rows(self, live: LiveSession, offer: ManifestOffer) -> ManifestSignature:
        """This node's signature over the row set; an owner's budget is spent with it."""
        row_set = codec.decode(offer.part, RowSet)
        if live.roster is None or row_set.roster != codec.digest(live.roster):
            raise RemoteProtocolError("the row set belongs to another roster")
        self._house.receipts.check(live, row_set)
        if row_set.lineage != lineage_of(live):
            raise RemoteProtocolError("the lineage is not that of this attestation and cohort")
        if live.needs_rows:
            self._check_rows(live, row_set)
        with self._house.engine.transaction() as tx:
            if not live.needs_rows:
                session_records.move(tx, live.session, SessionEvent.ALIGN)
            if "contributor" in live.roles and live.aligned is not None:
                self._spend(tx, live, live.aligned, live.roster)
            session_records.move(tx, live.session, SessionEvent.SIGN_ROWS, row_set=offer.part)
        live.row_set = row_set
        return self._signature(live, row_set)

    def _check_rows(self, live: LiveSession, row_set: RowSet) -> None:
        aligned = live.aligned
        if aligned is None:
            raise RemoteProtocolError("this node's rows are not aligned yet")
        if (row_set.rows, row_set.rows_hash) != (aligned.rows, aligned.rows_hash):
            raise RemoteProtocolError("the row set is not what this node's alignment found")

    def _spend(self, tx: Transaction, live: LiveSession, aligned: Aligned, roster: Roster) -> None:
        house = self._house
        leaf = plans.own_data_leaf(live.plan, house.directory.own.account)
        table, _ = house.grants.terms_of_leaf(leaf)
        self._bind_lineage(tx, live, aligned)
        spending = Spending(
            session=live.session,
            task=live.task,
            dataset=house.grants.dataset_of(leaf),
            operator=house.directory.operator(live.plan.recipient) or "unknown",
            recipient=Account(live.plan.recipient),
            purpose=live.plan.algorithm.purpose,
            numbers=roster.parameters.numbers_per_row,
            rows=aligned.rows,
            reserved_at=tx.now,
        )
        ledger.reserve(tx, spending, aligned.row_keys, table.numbers_per_row_max)

    def _bind_lineage(self, tx: Transaction, live: LiveSession, aligned: Aligned) -> None:
        """One lineage for each attestation, bound to its rows: another cohort may not follow."""
        attestation = codec.digest(live.attestation)
        digest = ledger.digest_of(aligned.row_keys)
        row = tx.db.execute(
            "SELECT rows_digest FROM lineages WHERE attestation = ?", [attestation]
        ).fetchone()
        if row is not None and bytes(row[0]) != digest:
            raise Fault("session-refused", "this attestation is bound to another set of rows")
        tx.db.execute(
            "INSERT OR IGNORE INTO lineages VALUES (?, ?, ?, ?)",
            [attestation, lineage_of(live), digest, live.session],
        )

    def _signature(self, live: LiveSession, part: Wire) -> ManifestSignature:
        signed = envelope.seal(part, self._house.key.signing_key)
        return ManifestSignature(session=live.session, signature=signed.signature)

    # ------------------------------------------------------------------ proceeding

    async def proceed(self, live: LiveSession, signed: ManifestSigned) -> None:
        """The roster, with everybody's signature: the workers learn of each other and align."""
        roster = live.roster
        if roster is None or signed.part != codec.encode(roster):
            raise RemoteProtocolError("this is not the roster that this node signed")
        check_signatures(roster, roster, signed)
        with self._house.engine.transaction() as tx:
            session_records.move(tx, live.session, SessionEvent.SIGN_ROSTER, roster=signed.part)
        seated = {party.role for party in roster.parties if self._is_own(party.account)}
        for role in set(live.workers) - seated:
            del live.workers[role]  # drawn to no seat: it ends with the session
        for role in live.workers:
            me = f"{self._house.directory.own.name}/{role}"
            job = self._house.jobs.job(live, role)
            await self._say(live, role, Proceed(roster=signed.part, me=me, job=job))

    async def run(self, live: LiveSession, signed: ManifestSigned) -> None:
        """The row set, with everybody's signature: shares may flow."""
        if live.roster is None or live.row_set is None:
            raise RemoteProtocolError("this node has signed no row set")
        if signed.part != codec.encode(live.row_set):
            raise RemoteProtocolError("this is not the row set that this node signed")
        check_signatures(live.roster, live.row_set, signed)
        with self._house.engine.transaction() as tx:
            session_records.move(tx, live.session, SessionEvent.RUN)
        for role in live.workers:
            await self._say(live, role, Run(row_set=signed.part))

    async def _say(self, live: LiveSession, role: Role, message: Wire) -> None:
        try:
            await live.workers[role].send(message)
        except WorkerGoneError:
            await self._lost(live, role)

    def _is_own(self, account: bytes) -> bool:
        return account == self._house.directory.own.account

    # ------------------------------------------------------------------ workers

    async def _host(
        self, live: LiveSession, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The workers of one session, from their start until the session is over."""
        try:
            async with AsyncExitStack() as stack:
                for role in live.roles:
                    await self._start_worker(live, role, stack)
                task_status.started()
                async with trio.open_nursery() as nursery:
                    for role in live.workers:
                        nursery.start_soon(self._listen, live, role)
                    with trio.move_on_after(SESSION_DEADLINE_S) as scope:
                        await live.over.wait()
                    if scope.cancelled_caught:
                        await self.abort(live, "the session's deadline has passed", ())
                    nursery.cancel_scope.cancel()
        finally:
            self.live.pop(live.session, None)

    async def _start_worker(self, live: LiveSession, role: Role, stack: AsyncExitStack) -> None:
        house = self._house
        folder = session_folder(house.folder, live.session)
        worker = await stack.enter_async_context(
            open_worker(
                MODULES[role],
                reports=FROM_WORKER,
                limit=REPORT_LIMIT_BYTES,
                stderr_path=folder / f"{role}.log",
            )
        )
        start = Start(
            role=role,
            organisation=house.config.name,
            listen_host=house.config.listen.data_host,
            log_level=house.config.log.level,
        )
        await worker.send(start)
        ready = await worker.report()
        if not isinstance(ready, Ready):
            raise Fault("worker-failed", f"the {role}'s process did not start; see {folder}")
        seat = Seat(
            role=role,
            certificate=ready.certificate,
            session_key=ready.session_key,
            address=f"{house.config.listen.data_host}:{ready.port}",
        )
        live.workers[role] = worker
        live.seats = (*live.seats, seat)

    async def _listen(self, live: LiveSession, role: Role) -> None:
        worker = live.workers[role]
        try:
            async for report in worker.reports():
                await self._heard(live, role, report)
        except RemoteProtocolError as error:
            log.warning("worker misbehaved", role=role, why=str(error))
        if role in live.workers and role not in live.finished:
            await self._lost(live, role)

    async def _lost(self, live: LiveSession, role: Role) -> None:
        me = f"{self._house.directory.own.name}/{role}"
        await self.abort(live, f"the process of {me} ended", (me,))

    async def _heard(self, live: LiveSession, role: Role, report: Wire) -> None:
        if isinstance(report, Progress):
            live.note_progress(role, report)
        elif isinstance(report, Aligned):
            live.aligned = report
            with self._house.engine.transaction() as tx:
                session_records.move(tx, live.session, SessionEvent.ALIGN)
        elif isinstance(report, Finished):
            live.finished[role] = report.summary
            if len(live.finished) == len(live.workers):
                self._complete(live)
        elif isinstance(report, Failed):
            await self.abort(live, f"{report.stage}: {report.reason}", report.blamed)
        self._house.engine.announce_change()

    def _complete(self, live: LiveSession) -> None:
        summary = {role: _plain(summary) for role, summary in live.finished.items()}
        with self._house.engine.transaction() as tx:
            session_records.move(
                tx, live.session, SessionEvent.COMPLETE, summary=json.dumps(summary)
            )
            tx.note("session", live.session, "completed")
        live.over.set()

    async def abort(
        self, live: LiveSession, reason: str, blamed: tuple[str, ...], *, spread: bool = True
    ) -> None:
        """Afterwards the session is over here; with `spread` every other party is told."""
        with self._house.engine.transaction() as tx:
            news = session_records.abort(tx, live.session, reason, blamed)
        if news:
            log.warning("session aborted", session=live.session.hex(), why=reason, blamed=blamed)
            if spread:
                await self._tell(live, reason, blamed)
        live.over.set()


def lineage_of(live: LiveSession) -> bytes:
    """The W lineage of a session: its attestation and who contributes, nothing else."""
    return ledger.digest_of(
        codec.digest(live.attestation) + b"".join(sorted(live.plan.contributors))
    )


def check_signatures(roster: Roster, part: Wire, signed: ManifestSigned) -> None:
    """RemoteProtocolError unless every node of the roster has signed `part`."""
    wanted = sorted({party.peer_id for party in roster.parties})
    if [peer_id for peer_id, _ in signed.signatures] != wanted:
        raise RemoteProtocolError("not every node of the roster has signed")
    body = codec.encode(part)
    for peer_id, signature in signed.signatures:
        key = peer_key(peer_id)
        envelope.open_signed(
            envelope.Signed(body=body, key=key, signature=signature), type(part), key=key
        )


def _plain(summary: Summary) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(summary)
    return plain
