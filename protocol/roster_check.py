"""What a node checks of a roster before it signs: all that can be known without a row.

The publisher and the recipient write the roster; nothing of it is believed. It must say exactly
what the attested plan says, seat exactly those who were drawn from the plan's pool, and name this
node's own workers as this node started them.

Where a seat's worker listens is its node's own word: behind address translation no other address
that a node knows of its peer need be the same. What keeps a seat from pointing the others at a
stranger is that they accept the roster's certificate there alone; what cannot be an address of a
worker at all is refused here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from protocol import draw as drawing
from protocol.documents import Algorithm, Step, plan_hash
from protocol.draw import Draw, Seating
from protocol.errors import RemoteProtocolError
from protocol.ids import from_hexadecimal, hexadecimal
from protocol.manifest import Party, Role, Roster, check_roster
from protocol.messages import Seat
from protocol.peers import peer_key

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
    def pool_owners(self) -> dict[bytes, bytes]:
        """Each compute asset of the pool with the account that owns it."""
        return {from_hexadecimal(cdt, 32): self.owners[cdt] for cdt in self.algorithm.pool}

    @property
    def with_rows(self) -> frozenset[bytes]:
        """The accounts that bring rows to the alignment."""
        return self.contributors | {self.recipient}

    @property
    def _pool(self) -> frozenset[str]:
        return frozenset(self.algorithm.pool)

    def roles_of(self, account: bytes, seating: Seating | None = None) -> tuple[Role, ...]:
        """The roles of this account in the order of a session's work; before a draw nobody sits."""
        roles: list[Role] = []
        if account in self.contributors:
            roles.append("contributor")
        if seating is not None and account in seating.members:
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
    _check_addresses(roster)
    _check_drawn(roster, plan)


def drawn(
    plan: Plan, session: bytes, task: bytes, draw: Draw, keys: Mapping[bytes, bytes]
) -> Seating:
    """Who sits by this draw. `keys` are the Ed25519 keys of the contributors' peers by account.

    RemoteProtocolError if the draw is not sound, or too few are alive.
    """
    pool = plan.pool_owners
    drawing.check_pledges(draw.pledges, session, task, keys, pool)
    drawing.check_nonces(draw)
    living = {cdt: pool[cdt] for cdt in drawing.alive(draw)}
    seed = drawing.seed(session, task, draw)
    return drawing.seat(seed, living, plan.algorithm.seats, plan.with_rows)


def _check_drawn(roster: Roster, plan: Plan) -> None:
    keys = {party.account: peer_key(party.peer_id) for party in roster.by_role("contributor")}
    seating = drawn(plan, roster.session, roster.task, roster.draw, keys)
    if _accounts(roster, "member") != sorted(seating.members):
        raise RemoteProtocolError("the roster seats others than were drawn")
    if roster.party(roster.helper).account != seating.helper:
        raise RemoteProtocolError("the roster's helper is another than was drawn")


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


def _check_addresses(roster: Roster) -> None:
    """Every worker listens where one can; either all of them on one machine's loopback, or none."""
    local = set()
    for party in roster.parties:
        host, _, port = party.address.rpartition(":")
        if not 1 <= int(port) <= 65_535:
            raise RemoteProtocolError(f"{party.name} listens on port {port}, which none can")
        if not can_be_listened_on(host):
            raise RemoteProtocolError(f"{party.name} listens on {host}, where no worker can")
        try:
            local.add(ip_address(host.strip("[]")).is_loopback)
        except ValueError:
            local.add(host == "localhost")
    if len(local) > 1:
        raise RemoteProtocolError("some workers listen on loopback alone and others do not")


def can_be_listened_on(host: str) -> bool:
    """Whether others may be told to dial a worker at `host`: a name, or an address of one place."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return True
    odd = address.is_unspecified or address.is_multicast or address.is_link_local
    return not odd and (address.is_loopback or not address.is_reserved)


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
