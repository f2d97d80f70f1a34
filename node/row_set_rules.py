"""What this node asks before it signs a row set, and what it spends with its signature.

Adversary: the recipient, who writes the row set. Nothing here changes anything but through the
transaction that it is given: what is reserved is committed together with the signature.
"""

from node import ledger, plans, task_records
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
from protocol.ids import Account
from protocol.manifest import Roster, RowSet


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
    for leaf in plans.leaves_of(live.plan, house.directory.own.account, live.roles):
        house.grants.require_alive(leaf, record.algorithm)
    live.checked["row set"] = (
        f"{row_set.rows} rows, as this node's own alignment found them",
        "the recipient's receipt covers them",
        "the attestation and the grants are alive still",
        "the lineage is that of this attestation and cohort",
    )


def check_still_attested(house: House, live: LiveSession, roster: Roster) -> TaskRecord:
    """The task, whose attestation is believed still and stands in the block that all signed.

    Fault or RemoteProtocolError if a reorganisation has taken or moved it since: then a run over
    it has not begun and does not begin.
    """
    record = task_records.known(house.engine.db, live.task)
    house.attestations.check(live.proposal.attestation, record)
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
    given = house.judging.given(leaf, roster.algorithm)
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
    ledger.reserve(tx, spending, aligned.row_keys, privacy.numbers_cap(given))


def _bind_lineage(tx: Transaction, live: LiveSession, aligned: Aligned) -> None:
    """One lineage for each attestation, bound to its rows: another cohort may not follow."""
    attestation = codec.digest(live.proposal.attestation)
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
    return codec.sha256(
        codec.digest(live.proposal.attestation) + b"".join(sorted(live.plan.contributors))
    )
