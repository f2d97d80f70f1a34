"""What this node asks before it says yes to a session, to a roster and to a row set.

Adversary: the recipient's node, which proposes as often and whatever it likes, and peers that
call themselves by others' names. Nothing here changes anything but through the transaction that
it is given: what is counted or reserved is committed together with the signature that it allows.
"""

from collections.abc import Collection, Sequence

from node import grant_records, negotiation_records, plans, session_records, task_records
from node.engine import Transaction
from node.errors import Fault
from node.house import House
from node.live_session import LiveSession
from node.task_records import TaskRecord
from protocol import codec, privacy
from protocol.draw import MAX_ATTEMPTS, Draw, Seating, alive
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId, hexadecimal
from protocol.manifest import Role, Roster
from protocol.messages import SessionProposal
from protocol.peers import peer_key
from protocol.roster_check import Plan, check_against_plan, check_own_seats, drawn
from protocol.task import SessionState
from protocol.terms import describe

SITTING: tuple[Role, ...] = ("member",)
MAX_SESSIONS_OF_A_TASK = MAX_ATTEMPTS
"""Each session may end in an alignment, and each alignment tests ids against this owner's
(floor 12), and each is a draw: an attestation buys so many, aborted ones included, and no more."""


# ---------------------------------------------------------------------- the proposal


def examine(house: House, proposal: SessionProposal, coordinator: PeerId) -> LiveSession:
    """The session that is proposed, if every rule that needs neither draw nor roster allows it.

    Fault or RemoteProtocolError says by which rule this node stays out.
    """
    record, plan = _proposed(house, proposal)
    if house.directory.peer_of(plan.recipient) != coordinator:
        raise RemoteProtocolError("only the recipient's node proposes a session")
    own = house.directory.own.account
    if own not in plan.with_rows | plan.pool:
        raise RemoteProtocolError("this node has no part in that plan")
    live = LiveSession(proposal, record.algorithm, plan, plan.roles_of(own), coordinator)
    _check_attester(house, plan, record, (*live.roles, *SITTING))
    live.checked["proposal"] = (
        f"the recipient's node proposes attempt {proposal.attempt}",
        f"{house.directory.name(proposal.attestation.attester)} attests the plan",
        f"{_tries(house, record.task)} earlier sessions, at most {MAX_SESSIONS_OF_A_TASK}",
        *check_grants(house, plan, record.algorithm, live.roles),
    )
    return live


def examine_seat(house: House, proposal: SessionProposal, asker: PeerId) -> None:
    """Return if this node would sit in the session that an owner asks about.

    Fault or RemoteProtocolError says why not.
    """
    record, plan = _proposed(house, proposal)
    owner = house.directory.of_peer(asker)
    if owner is None or owner.account not in plan.with_rows:
        raise RemoteProtocolError("only who brings rows asks whether a node would sit")
    if house.directory.own.account not in plan.pool:
        raise RemoteProtocolError("this node is not in the plan's pool")
    _check_attester(house, plan, record, SITTING)
    check_grants(house, plan, record.algorithm, SITTING)


def _proposed(house: House, proposal: SessionProposal) -> tuple[TaskRecord, Plan]:
    """The attested task and its plan, if it may have one more session here."""
    record = task_records.known(house.engine.db, proposal.attestation.task)
    plan = plans.plan_of(house.engine.db, record.algorithm)
    house.attestations.check(proposal.attestation, record)
    _check_earlier(house, record.task)
    return record, plan


def _tries(house: House, task: bytes) -> int:
    return len(session_records.of_task(house.engine.db, task))


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


def _check_attester(house: House, plan: Plan, record: TaskRecord, roles: Collection[Role]) -> None:
    """Fault `terms-refused` unless who attests is who each grant of this node was asked for with.

    That this node trusts an attester is not enough: the terms of each asset say whose word counts.
    """
    for leaf in plans.leaves_of(plan, house.directory.own.account, roles):
        if grant_records.latest(house.engine.db, leaf, record.algorithm) is None:
            continue  # `check_grants` speaks of those
        request = negotiation_records.granted_request(house.engine.db, leaf, record.algorithm)
        if request.attester != record.attester:
            name, other = (
                house.directory.name(each) for each in (request.attester, record.attester or b"")
            )
            what = f"the grant of {hexadecimal(leaf)[:10]}"
            raise Fault("terms-refused", f"{what} is for what {name} attests, and {other} did")


def check_grants(
    house: House, plan: Plan, algorithm: bytes, roles: Collection[Role]
) -> tuple[str, ...]:
    """Each grant that this node's `roles` rest on is alive, and its terms permit it; in words.

    Fault `grant-unusable` or `terms-refused`.
    """
    found = []
    for leaf in plans.leaves_of(plan, house.directory.own.account, roles):
        kept = house.grants.require_alive(leaf, algorithm)
        request = negotiation_records.granted_request(house.engine.db, leaf, algorithm)
        failures = house.judging.judge_given(request, kept).failures
        if failures:
            raise Fault("terms-refused", "; ".join(each.sentence for each in failures))
        found.append(f"grant {kept.seq} of {hexadecimal(leaf)[:10]} is alive and permits it")
    return tuple(found)


def count_uses(house: House, tx: Transaction, live: LiveSession) -> None:
    """Each attestation counts one use of each grant that this node's part rests on (floor 13)."""
    attestation = codec.digest(live.proposal.attestation)
    record = task_records.known(tx.db, live.task)
    for leaf in plans.leaves_of(live.plan, house.directory.own.account, live.roles):
        counted = tx.db.execute(
            "INSERT OR IGNORE INTO counted_uses VALUES (?, ?, ?)",
            [attestation, leaf, record.algorithm],
        )
        if counted.rowcount:
            house.grants.count_use(tx, leaf, record.algorithm)


# ---------------------------------------------------------------------- the draw


def owner_keys(house: House, plan: Plan) -> dict[bytes, bytes]:
    """The Ed25519 key of each contributor's peer by account, as this node knows them."""
    return {each: peer_key(house.directory.peer_of(each)) for each in plan.contributors}


def check_draw(house: House, live: LiveSession, draw: Draw) -> Seating:
    """Who sits, computed by this node; Fault or RemoteProtocolError unless it can take part.

    The draw is sound, this owner's own pledge is in it unchanged, and who sits keeps floor 1 by
    this node's own configuration.
    """
    if draw.pledges != live.pledges and "contributor" in live.roles:
        raise RemoteProtocolError("the draw rests on other pledges than this node revealed for")
    seating = drawn(live.plan, live.session, live.task, draw, owner_keys(house, live.plan))
    own = house.directory.own.account
    if not live.plan.roles_of(own, seating):
        raise RemoteProtocolError("this node was not drawn")
    floors = _check_committee(house, live, seating.members)
    names = ", ".join(house.directory.name(each) for each in seating.members)
    live.checked["draw"] = (
        f"{len(draw.pledges)} owners' pledges and nonces are theirs",
        f"{len(alive(draw))} of {len(live.plan.pool)} in the pool are alive; {names} were drawn",
        *floors,
    )
    return seating


def _check_committee(house: House, live: LiveSession, members: Sequence[bytes]) -> tuple[str, ...]:
    """Floor 1 again on who really sits, and floor 12: the helper is nobody with rows."""
    operator = house.directory.operator
    committee = privacy.Committee(
        members=tuple(operator(member) for member in members),
        contributors=tuple(operator(account) for account in live.plan.contributors),
        recipient=operator(live.plan.recipient),
        threshold=live.plan.algorithm.threshold,
        seats=len(members),
    )
    findings = privacy.committee_floor(committee)
    failed = [each for each in findings if not each.passed]
    if failed and "contributor" in live.roles:
        raise Fault("terms-refused", "; ".join(each.sentence for each in failed))
    return tuple(f"{describe(each.operand)}: {each.asked}" for each in findings if each.passed)


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
        "attempt": (roster.attempt, live.proposal.attempt),
        "draw": (roster.draw, live.draw),
        "attestation": (roster.attestation, codec.digest(live.proposal.attestation)),
        "block of the attestation": (roster.attested_in, record.attested_in),
    }
    for what, (theirs, ours) in expected.items():
        if theirs != ours:
            raise RemoteProtocolError(f"the roster names another {what}")
    _check_names(house, roster)
    _check_helper(house, live, roster)
    live.checked["roster"] = (
        "code, parameters and threshold are those of the attested plan",
        "the members and the helper are those who were drawn",
        "this node's own workers are described as they are",
        "each party is the peer that this node knows",
        f"the helper, {roster.helper}, is of an operator without rows",
    )


def _check_names(house: House, roster: Roster) -> None:
    """Each party is the peer that this node knows, under nobody else's name: blame goes by it."""
    accounts = house.directory.accounts
    for party in roster.parties:
        known = house.directory.of_account(party.account)
        if known is None or known.peer_id != party.peer_id:
            raise RemoteProtocolError(f"{party.name} is not the peer that this node knows")
        if accounts.get(party.organisation, party.account) != party.account:
            raise RemoteProtocolError(f"{known.name} calls itself {party.organisation}")


def _check_helper(house: House, live: LiveSession, roster: Roster) -> None:
    operator = house.directory.operator
    helper = operator(roster.party(roster.helper).account)
    if helper is None or helper in {operator(account) for account in live.plan.with_rows}:
        raise RemoteProtocolError("the helper of the alignment must be of a distinct operator")
