"""Negotiations as this node keeps them: one row for each process, on either side."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from sqlite_utils import Database

from node import grant_records
from node.engine import Transaction
from node.errors import Fault
from node.log import get_logger
from node.rows import first, select
from protocol import codec
from protocol.ids import Account, CdtId, PeerId, hexadecimal
from protocol.messages import ContractOffer, ContractRequest, Reason
from protocol.negotiation import Process, State
from protocol.negotiation_consumer import accepted
from protocol.terms import Finding, describe

log = get_logger("negotiations")

EXPIRE = "expire-negotiation"
REASONS_MOST = 64
TEXT_MOST = 1024

_BEFORE_ACCEPTANCE = (State.REQUESTED, State.OFFERED)


@dataclass(frozen=True, slots=True)
class Negotiation:
    """One process; `findings` is JSON, one object for each constraint.

    `request` holds the canonical bytes that were asked, `offered` those of the newest
    counter-offer, `answer` those of the provider's last word (agreement or termination).
    """

    process: bytes
    side: Literal["consumer", "provider"]
    child: CdtId
    parent: CdtId
    counterparty: Account
    peer_id: PeerId
    state: State
    deadline: float
    not_after: float
    offer: int
    told: int
    request: bytes
    offered: bytes | None
    answer: bytes | None
    limits: str
    findings: str
    sentence: str
    updated_at: float

    @property
    def standing(self) -> Process:
        """What the transitions of `protocol.negotiation` decide about."""
        return Process(self.state, self.deadline, self.not_after, self.offer, bool(self.told))

    @property
    def newest_offer(self) -> ContractOffer | None:
        """The counter-offer that was made last, or None."""
        return None if self.offered is None else codec.decode(self.offered, ContractOffer)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What failed when it was judged last."""
        return tuple(
            Finding(each["operand"], each["asked"], each["allowed"], passed=False)
            for each in json.loads(self.findings)
            if not each["passed"]
        )

    @property
    def wanted(self) -> ContractRequest:
        """The request as it stands: with an accepted offer's values, or as it was asked."""
        request = codec.decode(self.request, ContractRequest)
        before = self.state in _BEFORE_ACCEPTANCE
        return request if before else accepted(request, self.newest_offer)


def find(db: Database, process: bytes) -> Negotiation | None:
    """The process, or None if this node takes no part in it."""
    return first(db, Negotiation, "negotiations WHERE process = ?", [process])


def known(db: Database, process: bytes) -> Negotiation:
    """The process; Fault `negotiation-unknown`."""
    found = find(db, process)
    if found is None:
        raise Fault("negotiation-unknown", f"no negotiation {hexadecimal(process)} is known here")
    return found


def every(db: Database) -> list[Negotiation]:
    """All processes, the latest first."""
    return select(db, Negotiation, "negotiations ORDER BY updated_at DESC, process")


def page(db: Database, limit: int, after: bytes | None, state: str | None) -> list[Negotiation]:
    """At most `limit` processes, the latest begun first, those begun before `after` if given."""
    return select(
        db,
        Negotiation,
        "negotiations WHERE (?1 IS NULL OR rowid < "
        "(SELECT rowid FROM negotiations WHERE process = ?1)) "
        "AND (?2 IS NULL OR state = ?2) ORDER BY rowid DESC LIMIT ?3",
        [after, state, limit],
    )


def granted_request(db: Database, child: bytes, parent: bytes) -> ContractRequest:
    """The request that the newest grant of the edge answers; Fault `grant-unknown`.

    Found by the grant's signature in the answer, without reading the others: a consumer may have
    been given thousands for one edge, and an older process may be verified later.
    """
    kept = grant_records.latest(db, child, parent)
    answered = kept and first(
        db,
        Negotiation,
        "negotiations WHERE child = ? AND parent = ? AND state IN "
        "('AGREED', 'VERIFIED', 'FINALIZED') AND instr(answer, ?)",
        [child, parent, kept.signature],
    )
    if not answered:
        raise Fault("grant-unknown", f"this node granted {hexadecimal(child)} to no such algorithm")
    return answered.wanted


def insert(
    tx: Transaction,
    request: ContractRequest,
    side: Literal["consumer", "provider"],
    counterparty: Account,
    peer_id: PeerId,
    standing: Process,
    limits: str = "",
) -> Negotiation:
    """Afterwards the process is kept, and its deadline is owed."""
    negotiation = Negotiation(
        process=request.process,
        side=side,
        child=CdtId(request.child),
        parent=CdtId(request.parent),
        counterparty=counterparty,
        peer_id=peer_id,
        request=codec.encode(request),
        offered=None,
        answer=None,
        limits=limits,
        findings="[]",
        sentence="",
        updated_at=tx.now,
        **_columns(standing),  # type: ignore[arg-type]
    )
    tx.db.table("negotiations").insert(asdict(negotiation))
    _owe_deadline(tx, request.process, standing)
    return negotiation


def move(
    tx: Transaction,
    negotiation: Negotiation,
    standing: Process,
    **changes: object,
) -> Negotiation:
    """Afterwards the process stands there, with these columns changed; it is given back."""
    columns = {**_columns(standing), **changes, "updated_at": tx.now}
    tx.db.table("negotiations").update([negotiation.process], columns)
    if standing.deadline != negotiation.deadline:
        _owe_deadline(tx, negotiation.process, standing)
    log.info("negotiation", process=negotiation.process.hex()[:16], state=str(standing.state))
    return known(tx.db, negotiation.process)


def _columns(standing: Process) -> dict[str, object]:
    columns = asdict(standing)
    return columns | {"state": str(standing.state), "told": int(standing.told)}


def _owe_deadline(tx: Transaction, process: bytes, standing: Process) -> None:
    deadline = standing.deadline
    tx.owe(EXPIRE, process, repr(deadline).encode(), after_s=max(0.0, deadline - tx.now))


def reasons_of(failed: Iterable[Finding]) -> tuple[Reason, ...]:
    """The findings as they travel, within the bounds of the message."""
    reasons = [
        Reason(
            operand=each.operand[:TEXT_MOST],
            asked=each.asked[:TEXT_MOST],
            allowed=each.allowed[:TEXT_MOST],
        )
        for each in failed
    ]
    return tuple(reasons[:REASONS_MOST])


def findings_of(reasons: Iterable[Reason]) -> str:
    """The counterparty's reasons as this node keeps them: findings that failed."""
    return json.dumps(
        plain(Finding(each.operand, each.asked, each.allowed, passed=False) for each in reasons)
    )


def kept(findings: Iterable[Finding]) -> str:
    """This node's own findings as it keeps them."""
    return json.dumps(plain(findings))


def plain(findings: Iterable[Finding]) -> list[dict[str, object]]:
    """The findings as JSON values, each with its operand in plain words."""
    return [
        {
            "operand": each.operand,
            "what": describe(each.operand),
            "asked": each.asked,
            "allowed": each.allowed,
            "passed": each.passed,
        }
        for each in findings
    ]
