"""What the recipient's node does besides: it proposes a session and gathers the others' answers.

It has no power over them: each node checks and signs by itself (`participation`). Here stand the
order of the steps, who is awaited, and what happens when somebody says no: the session is
aborted everywhere and the sentence names who and why.
"""

import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import suppress

import trio

from node import session_records, task_records
from node.errors import Fault
from node.house import House
from node.live_session import LiveSession
from node.log import get_logger
from node.participation import Participation
from node.row_set_rules import lineage_of
from node.session_asking import Asking, all_of
from node.session_seating import SessionSeating
from protocol import codec
from protocol.draw import Draw
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, PeerId, SessionId, hexadecimal
from protocol.manifest import Party, Roster, RowSet
from protocol.messages import (
    Acknowledged,
    ManifestOffer,
    ManifestSignature,
    ManifestSigned,
    SessionJoined,
    SessionProposal,
    SessionStatus,
    SessionStatusRequest,
)
from protocol.roster_check import joint_step, party_of
from protocol.task import SessionState

log = get_logger("sessions")

ALIGNMENT_DEADLINE_S = 120
ROUND_DEADLINE_S = 20
SIZE_CAP = 10_000_000


class Coordination:
    """Brings one session from its proposal to its running, as the recipient's node."""

    def __init__(self, house: House, asking: Asking, participation: Participation) -> None:
        self._house = house
        self._participation = participation
        self._asking = asking
        self._seating = SessionSeating(house, asking, participation)

    async def propose(self, task: bytes, seed: int | None) -> LiveSession:
        """Afterwards the session is known here; nobody else has heard of it yet.

        Fault says why the task cannot run. `run` takes it from there.
        """
        self._refuse_second(task)
        record = task_records.known(self._house.engine.db, task)
        attestation = await self._house.attestations.obtain(record)
        self._refuse_second(task)
        session = SessionId(secrets.token_bytes(32))
        earlier = session_records.of_task(self._house.engine.db, task)
        proposal = SessionProposal(session=session, attempt=len(earlier), attestation=attestation)
        try:
            live = await self._participation.begin(proposal, self._house.directory.own.peer_id)
        except RemoteProtocolError as error:
            raise Fault("session-refused", str(error)) from error
        if seed is not None:
            live.seed = seed
        return live

    def _refuse_second(self, task: bytes) -> None:
        for live in self._participation.live.values():
            if live.task == task and not live.over.is_set():
                raise Fault(
                    "session-refused",
                    f"session {hexadecimal(live.session)} of the task is running: stop it first",
                )

    async def run(self, live: LiveSession) -> None:
        """The session runs when this returns, or it is over everywhere with a reason.

        Never raises: what another node answers must not end this daemon.
        """
        abort = self._participation.abort
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._lead, live, nursery.cancel_scope)
                await live.over.wait()
                if self._aborted(live):  # else somebody may still have to hear that all signed
                    nursery.cancel_scope.cancel()
        except Exception:  # the boundary of this task of the daemon
            log.exception("leading a session failed", session=live.session.hex())
            name = self._house.directory.own.name
            with suppress(sqlite3.Error):  # the next start of the node marks it as over
                await abort(live, f"{name} met an error of its own", ())

    def _aborted(self, live: LiveSession) -> bool:
        record = session_records.known(self._house.engine.db, live.session)
        return record.state is SessionState.ABORTED

    async def _lead(self, live: LiveSession, done: trio.CancelScope) -> None:
        try:
            roster = self._roster(live, await self._seating.seated(live))
            await self._sign(live, roster)
            row_set = await self._aligned_rows(live, roster)
            await self._sign(live, row_set)
        except (Fault, RemoteProtocolError) as error:
            blamed = error.data.get("blamed", ()) if isinstance(error, Fault) else ()
            await self._participation.abort(live, str(error), tuple(blamed))
        done.cancel()

    # ------------------------------------------------------------------ the roster

    def _roster(self, live: LiveSession, joined: dict[Account, SessionJoined]) -> Roster:
        plan, step = live.plan, joint_step(live.plan)
        proposal = live.proposal
        parties = [
            party_of(answer.organisation, account, self._house.directory.peer_of(account), seat)
            for account, answer in sorted(joined.items())
            for seat in answer.seats
        ]
        order = {"contributor": 0, "member": 1, "recipient": 2}
        parties.sort(key=lambda party: (order[party.role], party.account))
        if step.parameters is None:
            raise Fault("composition-invalid", "the algorithm states no parameters")
        return Roster(
            session=live.session,
            task=live.task,
            algorithm=task_records.known(self._house.engine.db, live.task).algorithm,
            plan=proposal.attestation.plan,
            attestation=codec.digest(proposal.attestation),
            attested_in=self._attested_in(live),
            attempt=proposal.attempt,
            draw=self._drawn(live),
            parties=tuple(parties),
            helper=self._helper(live, parties),
            threshold=plan.algorithm.threshold,
            operation=step.operation,
            code=bytes.fromhex(step.code.removeprefix("0x")),
            parameters=step.parameters,
            size_cap=SIZE_CAP,
            cohort_floor=plan.algorithm.cohort_floor,
            round_deadline_s=ROUND_DEADLINE_S,
            alignment_deadline_s=ALIGNMENT_DEADLINE_S,
        )

    def _attested_in(self, live: LiveSession) -> bytes:
        record = task_records.known(self._house.engine.db, live.task)
        if record.attested_in is None:
            raise Fault("task-state", "the chain has not confirmed the attestation")
        return record.attested_in

    def _helper(self, live: LiveSession, parties: Sequence[Party]) -> str:
        """The member that was drawn to help align, which brings no rows."""
        helper = live.seating.helper if live.seating else None
        for party in parties:
            if (party.role, party.account) == ("member", helper):
                return party.name
        raise Fault(
            "composition-invalid",
            "no living compute asset of the pool is of an owner without rows, "
            "so nobody can help align",
        )

    def _drawn(self, live: LiveSession) -> Draw:
        if live.draw is None:
            raise RemoteProtocolError("nobody was drawn")
        return live.draw

    # ------------------------------------------------------------------ the row set

    async def _aligned_rows(self, live: LiveSession, roster: Roster) -> RowSet:
        """The row set that all aligned nodes report; the recipient's receipt stands in it."""
        engine = self._house.engine
        over = live.over
        await engine.until(lambda: live.is_aligned or over.is_set(), ALIGNMENT_DEADLINE_S)
        aligned = live.aligned
        if aligned is None:
            raise Fault("session-aborted", "the alignment did not finish before its deadline")
        request = SessionStatusRequest(session=live.session)

        async def ask(account: bytes) -> None:
            peer_id = self._house.directory.peer_of(account)
            status = await self._asking.ask(live.session, peer_id, request, SessionStatus)
            name = self._house.directory.name(account)
            if status.state != SessionState.ALIGNED:
                raise Fault("session-aborted", f"{name} is {status.state}: {status.reason}")
            if (status.rows_hash, status.rows) != (aligned.rows_hash, aligned.rows):
                raise RemoteProtocolError(f"{name} found other common rows")

        await all_of(ask, sorted(live.plan.contributors))
        return RowSet(
            roster=codec.digest(roster),
            rows_hash=aligned.rows_hash,
            rows=aligned.rows,
            lineage=lineage_of(live),
            receipt=self._house.receipts.sign(live.task, roster, aligned.rows),
        )

    # ------------------------------------------------------------------ signing

    async def _sign(self, live: LiveSession, part: Roster | RowSet) -> None:
        """Everybody signs `part`, then everybody gets all signatures and acts on it."""
        offer = ManifestOffer(session=live.session, part=codec.encode(part))
        own = self._house.directory.own
        signatures = {str(own.peer_id): self._participation.signing.sign(live, offer).signature}

        async def ask(peer_id: str) -> None:
            answer = await self._asking.ask(live.session, PeerId(peer_id), offer, ManifestSignature)
            signatures[peer_id] = answer.signature

        others = self._others(live)
        await all_of(ask, others)
        signed = ManifestSigned(
            session=live.session, part=offer.part, signatures=tuple(sorted(signatures.items()))
        )

        async def tell(peer_id: str) -> None:
            await self._asking.ask(live.session, PeerId(peer_id), signed, Acknowledged)

        await self._participation.signing.act(live, signed)
        await all_of(tell, others)

    def _others(self, live: LiveSession) -> list[str]:
        parties = live.roster.parties if live.roster is not None else ()
        own = self._house.directory.own.peer_id
        return sorted({party.peer_id for party in parties} - {str(own)})
