"""What this node asks before it says yes to a session, to a roster and to a row set.

Adversary: the recipient's node, which proposes as often and whatever it likes, and peers that
call themselves by others' names. Nothing here changes anything but through the transaction that
it is given: what is counted or reserved is committed together with the signature that it allows.
"""

from node import ledger, negotiation_records, plans, session_records, task_records
from node.engine import Transaction
from node.errors import Fault
from node.house import House
from node.ledger import Spending
from node.live_session import LiveSession
from node.task_records import TaskRecord
from node.workers.messages import Aligned
from protocol import codec, privacy
from protocol.errors import RemoteProtocolError
from protocol.identifiers import ROW_KEY_BYTES
from protocol.ids import Account, PeerId, SessionId, TaskId, hexadecimal
from protocol.manifest import Roster, RowSet
from protocol.messages import SessionProposal
from protocol.roster_check import Plan, check_against_plan, check_own_seats
from protocol.task import SessionState

MAX_SESSIONS_OF_A_TASK = 16
"""Each session may end in an alignment, and each alignment tests ids against this owner's
(floor 12): an attestation buys so many, aborted ones included, and no more."""


# ---------------------------------------------------------------------- the proposal


def examine(house: House, proposal: SessionProposal, coordinator: PeerId) -> LiveSession:
    """The session that is proposed, if every rule that needs no roster allows it.

    Fault or RemoteProtocolError says by which rule this node stays out.
    """
    db = house.engine.db
    record = task_records.known(db, proposal.attestation.task)
    if house.directory.of_peer(coordinator) is None:
        raise RemoteProtocolError("a stranger proposes a session")
    plan = plans.plan_of(db, record.algorithm)
    if house.directory.peer_of(plan.recipient) != coordinator:
        raise RemoteProtocolError("only the recipient's node proposes a session")
    house.attestations.check(proposal.attestation, record)
    roles = plan.roles_of(house.directory.own.account)
    if not roles:
        raise RemoteProtocolError("this node has no part in that plan")
    _check_earlier(house, record.task)
    check_grants(house, plan, record.algorithm)
    return LiveSession(
        session=SessionId(proposal.session),
        task=TaskId(record.task),
        attempt=proposal.attempt,
        plan=plan,
        roles=roles,
        attestation=proposal.attestation,
        coordinator=coordinator,
    )


def _check_earlier(house: House, task: bytes) -> None:
    """An attested task is completed once and paid for once; its tries are counted."""
    earlier = session_records.of_task(house.engine.db, task)
    for each in earlier:
        if each.state is SessionState.COMPLETED:
            raise Fault(
                "session-refused",
                f"the task was completed in session {hexadecimal(each.session)}: open another task",
            )
    if len(earlier) >= MAX_SESSIONS_OF_A_TASK:
        raise Fault(
            "session-refused",
            f"the task has had {len(earlier)} sessions here, at most {MAX_SESSIONS_OF_A_TASK} "
            "are possible: open another task",
        )


def check_grants(house: House, plan: Plan, algorithm: bytes) -> None:
    """Each grant of this node's leaves is alive now, and the terms of today permit it still.

    Fault `grant-unusable` or `terms-refused`.
    """
    for leaf in plans.leaves_of(plan, house.directory.own.account):
        house.grants.require_alive(leaf, algorithm)
        request = negotiation_records.granted_request(house.engine.db, leaf, algorithm)
        failed = house.judging.judge_given(request).failures
        if failed:
            raise Fault("terms-refused", "; ".join(each.sentence for each in failed))


def count_uses(house: House, tx: Transaction, live: LiveSession) -> None:
    """Each attestation counts one use of each of this node's grants, here too (floor 13)."""
    attestation = codec.digest(live.attestation)
    record = task_records.known(tx.db, live.task)
    for leaf in plans.leaves_of(live.plan, house.directory.own.account):
        counted = tx.db.execute(
            "INSERT OR IGNORE INTO counted_uses VALUES (?, ?, ?)",
            [attestation, leaf, record.algorithm],
        )
        if counted.rowcount:
            house.grants.count_use(tx, leaf, record.algorithm)


# ---------------------------------------------------------------------- the roster


def check_roster(house: House, live: LiveSession, roster: Roster) -> None:
    """RemoteProtocolError or Fault unless the roster is the one that this node can sign."""
    own, record = house.directory.own, task_records.known(house.engine.db, live.task)
    check_against_plan(roster, live.plan)
    check_own_seats(roster, own.name, own.account, own.peer_id, live.seats)
    expected = {
        "session": (roster.session, live.session),
        "task": (roster.task, live.task),
        "algorithm": (roster.algorithm, record.algorithm),
        "attempt": (roster.attempt, live.attempt),
        "attestation": (roster.attestation, codec.digest(live.attestation)),
        "block of the attestation": (roster.attested_in, record.attested_in),
    }
    for what, (theirs, ours) in expected.items():
        if theirs != ours:
            raise RemoteProtocolError(f"the roster names another {what}")
    _check_names(house, roster)
    _check_floors(house, live, roster)


def _check_names(house: House, roster: Roster) -> None:
    """Each party is the peer that this node knows, under nobody else's name: blame goes by it."""
    accounts = house.directory.accounts
    for party in roster.parties:
        known = house.directory.of_account(party.account)
        if known is None or known.peer_id != party.peer_id:
            raise RemoteProtocolError(f"{party.name} is not the peer that this node knows")
        if accounts.get(party.organisation, party.account) != party.account:
            raise RemoteProtocolError(f"{known.name} calls itself {party.organisation}")


def _check_floors(house: House, live: LiveSession, roster: Roster) -> None:
    """Floors 1 and 2 again, on who really sits; the helper is nobody with rows (floor 12)."""
    operator = house.directory.operator
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


# ---------------------------------------------------------------------- the row set


def check_rows(house: House, live: LiveSession, row_set: RowSet) -> None:
    """RemoteProtocolError or Fault unless the row set is what this node's own workers found.

    The grants must be alive still: a revocation or an expiry since the proposal counts.
    """
    if live.roster is None or row_set.roster != codec.digest(live.roster):
        raise RemoteProtocolError("the row set belongs to another roster")
    house.receipts.check(live, row_set)
    if row_set.lineage != lineage_of(live):
        raise RemoteProtocolError("the lineage is not that of this attestation and cohort")
    if not live.is_aligned:
        raise RemoteProtocolError("this node's rows are not aligned yet")
    for aligned in live.alignments.values():
        if (row_set.rows, row_set.rows_hash) != (aligned.rows, aligned.rows_hash):
            raise RemoteProtocolError("the row set is not what this node's alignment found")
    record = check_still_attested(house, live, live.roster)
    for leaf in plans.leaves_of(live.plan, house.directory.own.account):
        house.grants.require_alive(leaf, record.algorithm)


def check_still_attested(house: House, live: LiveSession, roster: Roster) -> TaskRecord:
    """The task, whose attestation is believed still and stands in the block that all signed.

    Fault or RemoteProtocolError if a reorganisation has taken or moved it since: then a run over
    it has not begun and does not begin.
    """
    record = task_records.known(house.engine.db, live.task)
    house.attestations.check(live.attestation, record)
    if roster.attested_in != record.attested_in:
        raise RemoteProtocolError("a reorganisation has moved the attestation to another block")
    return record


def spend(house: House, tx: Transaction, live: LiveSession, roster: Roster) -> None:
    """Afterwards an owner's budget for this session is reserved, and its lineage bound.

    Fault `budget-exhausted` or `session-refused`. Nothing at nodes without rows of their own.
    """
    aligned = live.alignments.get("contributor")
    if aligned is None:
        return
    if len(aligned.row_keys) != aligned.rows * ROW_KEY_BYTES:
        raise RemoteProtocolError("the worker has not named each of its rows for the ledger")
    leaf = plans.own_data_leaf(live.plan, house.directory.own.account)
    table, _ = house.judging.terms_of_leaf(leaf)
    _bind_lineage(tx, live, aligned)
    spending = Spending(
        session=live.session,
        task=live.task,
        dataset=house.judging.dataset_of(leaf),
        operator=house.directory.operator(live.plan.recipient) or "unknown",
        recipient=Account(live.plan.recipient),
        purpose=live.plan.algorithm.purpose,
        numbers=roster.parameters.numbers_per_row,
        rows=aligned.rows,
        reserved_at=tx.now,
    )
    ledger.reserve(tx, spending, aligned.row_keys, table.numbers_per_row_max)


def _bind_lineage(tx: Transaction, live: LiveSession, aligned: Aligned) -> None:
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


def lineage_of(live: LiveSession) -> bytes:
    """The W lineage of a session: its attestation and who contributes, nothing else."""
    return codec.sha256(codec.digest(live.attestation) + b"".join(sorted(live.plan.contributors)))
