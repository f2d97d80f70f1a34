"""What a node checks of a roster before it signs: all that can be known without a row.

The publisher and the recipient write the roster; nothing of it is believed. It must say exactly
what the attested plan says, seat exactly the accounts that own the plan's leaves, and name this
node's own workers as this node started them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.documents import Algorithm, Step, plan_hash
from protocol.errors import RemoteProtocolError
from protocol.ids import from_hexadecimal, hexadecimal
from protocol.manifest import Party, Role, Roster, check_roster
from protocol.messages import Seat

MEMBER_OPERATION = "committee-member"
SIZE_CAP_MOST = 10_000_000
ROUND_DEADLINE_MOST_S = 300
ALIGNMENT_DEADLINE_MOST_S = 1800


@dataclass(frozen=True, slots=True)
class Plan:
    """An attested plan with the owner of each leaf, as this node's own view of the chain has it."""

    algorithm: Algorithm
    owners: Mapping[str, bytes]

    @property
    def recipient(self) -> bytes:
        """The account that opens the result."""
        return from_hexadecimal(self.algorithm.recipient, 20)

    @property
    def data_steps(self) -> tuple[Step, ...]:
        """The steps over leaves that hold data."""
        return tuple(step for step in self.algorithm.workflow if step.cdt not in self._pool)

    @property
    def contributors(self) -> frozenset[bytes]:
        """The accounts that own a leaf with data."""
        return frozenset(self.owners[step.cdt] for step in self.data_steps)

    @property
    def pool(self) -> frozenset[bytes]:
        """The accounts that own a compute leaf."""
        return frozenset(self.owners[cdt] for cdt in self.algorithm.pool)

    @property
    def _pool(self) -> frozenset[str]:
        return frozenset(self.algorithm.pool)

    def roles_of(self, account: bytes) -> tuple[Role, ...]:
        """The roles in which this account can take part, in the order of a session's work."""
        roles: list[Role] = []
        if account in self.contributors:
            roles.append("contributor")
        if account in self.pool:
            roles.append("member")
        if account == self.recipient:
            roles.append("recipient")
        return tuple(roles)


def joint_step(plan: Plan) -> Step:
    """The one step that all data leaves share; RemoteProtocolError if they differ.

    Joint learning adds the owners' features, so operation, code and parameters must be equal.
    """
    steps = plan.data_steps
    if not steps:
        raise RemoteProtocolError("the plan has no leaf with data")
    first = steps[0]
    for step in steps:
        if (step.operation, step.code, step.parameters) != (
            first.operation,
            first.code,
            first.parameters,
        ):
            raise RemoteProtocolError("the data leaves have different operations or parameters")
    return first


def check_against_plan(roster: Roster, plan: Plan) -> None:
    """RemoteProtocolError unless the roster says exactly what the attested plan says."""
    check_roster(roster)
    algorithm, step = plan.algorithm, joint_step(plan)
    stated = {
        "plan": (roster.plan, plan_hash(algorithm)),
        "operation": (roster.operation, step.operation),
        "code": (hexadecimal(roster.code), step.code),
        "parameters": (roster.parameters, step.parameters),
        "threshold": (roster.threshold, algorithm.threshold),
        "cohort floor": (roster.cohort_floor, algorithm.cohort_floor),
        "committee size": (len(roster.by_role("member")), algorithm.seats),
        "recipient": (roster.by_role("recipient")[0].account, plan.recipient),
        "contributors": (_accounts(roster, "contributor"), sorted(plan.contributors)),
    }
    for what, (theirs, ours) in stated.items():
        if theirs != ours:
            raise RemoteProtocolError(f"the roster's {what} differs from the attested plan")
    _check_sizes(roster)
    _check_people(roster)
    strangers = set(_accounts(roster, "member")) - plan.pool
    if strangers:
        raise RemoteProtocolError(
            f"member {hexadecimal(min(strangers))} owns no compute asset of the pool"
        )


def _check_sizes(roster: Roster) -> None:
    """What the plan does not fix, within what a node lets others make it wait and hold."""
    stated = {
        "size cap": (roster.size_cap, 1, SIZE_CAP_MOST),
        "round deadline": (roster.round_deadline_s, 1, ROUND_DEADLINE_MOST_S),
        "alignment deadline": (roster.alignment_deadline_s, 1, ALIGNMENT_DEADLINE_MOST_S),
        "numbers opened about a row": (roster.parameters.numbers_per_row, 1, None),
    }
    for what, (value, least, most) in stated.items():
        if value < least or (most is not None and value > most):
            allowed = f"at least {least}" if most is None else f"{least} to {most}"
            raise RemoteProtocolError(f"the roster's {what} is {value}, {allowed} is possible")


def _check_people(roster: Roster) -> None:
    """One account has one name, one peer and one seat in each role, and shares none of them."""
    for what in ("organisation", "peer_id"):
        pairs = {(party.account, getattr(party, what)) for party in roster.parties}
        if not len(pairs) == len({a for a, _ in pairs}) == len({other for _, other in pairs}):
            raise RemoteProtocolError(
                f"the roster gives an account two values of {what}, or shares one"
            )
    seats = [(party.role, party.account) for party in roster.parties]
    if len(set(seats)) != len(seats):
        raise RemoteProtocolError("an account has two seats in one role")


def check_own_seats(
    roster: Roster, organisation: str, account: bytes, peer_id: str, seats: tuple[Seat, ...]
) -> None:
    """RemoteProtocolError unless the roster names this node's workers as it started them.

    None may be missing, added or changed.
    """
    ours = {seat.role: seat for seat in seats}
    for party in roster.parties:
        if party.account != account:
            continue
        seat = ours.get(party.role)
        if seat is None or party != party_of(organisation, account, peer_id, seat):
            raise RemoteProtocolError(f"the roster describes our {party.role} as it is not")
    for role in ours:
        if account not in {party.account for party in roster.by_role(role)}:
            raise RemoteProtocolError(f"the roster leaves our {role} out")


def party_of(organisation: str, account: bytes, peer_id: str, seat: Seat) -> Party:
    """The roster's entry for one seat of one organisation."""
    return Party(
        role=seat.role,
        organisation=organisation,
        account=account,
        peer_id=peer_id,
        certificate=seat.certificate,
        session_key=seat.session_key,
        address=seat.address,
    )


def _accounts(roster: Roster, role: Role) -> list[bytes]:
    return sorted(party.account for party in roster.by_role(role))
