"""What this node asks before its worker may mask a point: the budget of tested ids (floor 12)."""

from math import inf

from node import plans, tested_ids
from node.engine import Transaction
from node.house import House
from node.live_session import LiveSession
from node.tested_ids import Brought
from node.workers.messages import Sized
from protocol import privacy, terms, terms_table
from protocol.errors import RemoteProtocolError
from protocol.manifest import Role


def allow_masking(
    house: House, tx: Transaction, live: LiveSession, role: Role, sized: Sized
) -> None:
    """Afterwards what the others bring is counted; the worker of `role` may mask their lists.

    Fault `budget-exhausted` names who has no tests left. RemoteProtocolError if the worker tells of
    others than those who align.
    """
    roster = live.roster
    if roster is None:
        raise RemoteProtocolError("a worker aligns before there is a roster")
    told = {each.party: each.ids for each in sized.brought}
    if set(told) != {party.name for party in roster.parties if party.role != "member"}:
        raise RemoteProtocolError("the worker tells the sizes of others than those who align")
    own = house.directory.own
    own_rows = told.pop(f"{own.name}/{role}")
    brought = []
    for name, ids in told.items():
        account = roster.party(name).account
        if account != own.account:
            operator = house.directory.operator(account) or tested_ids.UNKNOWN
            brought.append(Brought(operator, ids))
    cap = privacy.tested_cap(_most(house, live, role), own_rows)
    tested_ids.count(tx, live.session, role, brought, cap)


def _most(house: House, live: LiveSession, role: Role) -> float:
    """What the terms of this role's rows allow a counterparty; infinity where they are silent."""
    if role == "contributor":
        leaf = plans.own_data_leaf(live.plan, house.directory.own.account)
        return terms.most(house.judging.given(leaf, live.algorithm), terms.TESTED_IDS)
    tables = [each.terms for each in house.config.datasets if each.label and each.terms]
    said = [terms_table.read(each, data=True).tested_ids_max for each in tables]
    return min((each for each in said if each is not None), default=inf)
