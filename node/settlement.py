"""Settling a task: usage signed by all sides, reported, paid out.

The recipient's node writes the usage record after a completed session and asks every owner that
is due something for its signature; each owner compares it with what its own session says.
"""

import json
from typing import TYPE_CHECKING

from node import session_records, task_records
from node.errors import Fault
from node.host import Host
from node.log import get_logger
from node.receipts import amounts_of
from node.session_records import SessionRecord
from node.task_records import TaskRecord
from protocol import codec
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, PeerId, hexadecimal
from protocol.manifest import Roster, RowSet
from protocol.messages import (
    SESSION_PROTOCOL,
    Due,
    SessionDeclined,
    UsageRecord,
    UsageSignature,
)
from protocol.task import SessionState

if TYPE_CHECKING:
    from node.house import House

log = get_logger("settlement")

ANSWER_S = 30.0


class Settlement:
    """Writes, signs and gathers usage for one node."""

    def __init__(self, house: "House", host: Host) -> None:
        self._house = house
        self._host = host

    # ------------------------------------------------------------------ as the recipient

    async def gather(self, task: bytes) -> tuple[UsageRecord, dict[Account, bytes]]:
        """The usage of the task's completed session, signed by the recipient and every owner.

        Fault `session-refused` names an owner that does not sign; `session-unknown` if no
        session of the task has been completed here.
        """
        record = task_records.known(self._house.engine.db, task)
        session = self._completed(task)
        usage = self._usage(record, session, self._result(session))
        amounts = tuple(int(due.amount) for due in usage.dues)
        own = self._house.directory.own
        signatures = {own.account: self._house.receipts.sign_usage(record, usage, amounts)}
        for owner in sorted({Account(due.owner) for due in usage.dues} - {own.account}):
            signatures[owner] = await self._ask(owner, record, usage, amounts)
        return usage, signatures

    async def _ask(
        self, owner: Account, record: TaskRecord, usage: UsageRecord, amounts: tuple[int, ...]
    ) -> bytes:
        peer_id = self._house.directory.peer_of(owner)
        data = await self._host.request(
            peer_id, SESSION_PROTOCOL, codec.encode(usage), timeout_s=ANSWER_S
        )
        answer = codec.decode(data, UsageSignature, SessionDeclined)
        name = self._house.directory.name(owner)
        if isinstance(answer, SessionDeclined):
            raise Fault("session-refused", f"{name} does not sign the usage: {answer.sentence}")
        signer = self._house.receipts.usage_signer(record, usage, amounts, answer.signature)
        if signer != owner:
            raise RemoteProtocolError(f"the usage is not signed by {name}")
        return answer.signature

    # ------------------------------------------------------------------ as an owner

    def sign(self, peer_id: PeerId, usage: UsageRecord) -> UsageSignature:
        """This owner's signature, if the record says what this node's own session says.

        Fault or RemoteProtocolError names what differs.
        """
        db = self._house.engine.db
        session = session_records.known(db, usage.session)
        record = task_records.known(db, usage.task)
        recipient = self._house.directory.of_peer(peer_id)
        if recipient is None or recipient.account != record.task_terms.recipient:
            raise RemoteProtocolError("only the recipient's node asks for signatures of usage")
        if session.state is not SessionState.COMPLETED:
            raise Fault("task-state", f"the session is {session.state} at this node")
        if usage != self._usage(record, session, usage.result):
            raise RemoteProtocolError("the usage record differs from this node's own session")
        amounts = tuple(int(due.amount) for due in usage.dues)
        signature = self._house.receipts.sign_usage(record, usage, amounts)
        with self._house.engine.transaction() as tx:
            tx.note("usage", usage.session, "signed", amounts=[str(each) for each in amounts])
        own = self._house.directory.own.account
        return UsageSignature(session=usage.session, account=own, signature=signature)

    def receipt(self, record: TaskRecord) -> tuple[tuple[int, ...], bytes]:
        """The most that each edge may claim, and the recipient's signature of it.

        From the latest session whose row set this node has signed. Fault `session-unknown`.
        """
        for session in session_records.every(self._house.engine.db):
            if session.task == record.task and session.roster and session.row_set:
                roster = codec.decode(session.roster, Roster)
                row_set = codec.decode(session.row_set, RowSet)
                amounts = amounts_of(record.attested_dues, roster, row_set.rows)
                return amounts, row_set.receipt
        raise Fault(
            "session-unknown", f"no session of task {hexadecimal(record.task)} gave a receipt"
        )

    # ------------------------------------------------------------------ both

    def _completed(self, task: bytes) -> SessionRecord:
        for session in session_records.every(self._house.engine.db):
            if session.task == task and session.state is SessionState.COMPLETED:
                return session
        raise Fault("session-unknown", f"no session of task {hexadecimal(task)} was completed")

    def _usage(self, record: TaskRecord, session: SessionRecord, result: bytes) -> UsageRecord:
        """The record that follows from the session's signed manifest, the same at every node."""
        if session.roster is None or session.row_set is None or session.task != record.task:
            raise Fault("task-state", "the session has no signed manifest for this task")
        roster = codec.decode(session.roster, Roster)
        row_set = codec.decode(session.row_set, RowSet)
        dues = record.attested_dues
        amounts = amounts_of(dues, roster, row_set.rows)
        lines = tuple(
            Due(
                child=due.child,
                owner=due.owner,
                amount=str(amount),
                rows=row_set.rows,
                openings=row_set.rows * roster.parameters.numbers_per_row,
            )
            for due, amount in zip(dues, amounts, strict=True)
        )
        return UsageRecord(
            session=session.session,
            task=record.task,
            manifest=codec.digest(row_set),
            result=result,
            dues=lines,
        )

    def _result(self, session: SessionRecord) -> bytes:
        """What the chain is told of the result: the digest of the recipient's summary."""
        summary = json.loads(session.summary).get("recipient", {})
        return codec.sha256(json.dumps(summary, sort_keys=True).encode())
