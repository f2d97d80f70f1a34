"""The plan of an algorithm as this node sees it: its document, the owners by its own chain view."""

from collections.abc import Collection

from sqlite_utils import Database

from node import assets
from node.errors import Fault
from protocol import documents
from protocol.documents import Metadata
from protocol.errors import RemoteProtocolError
from protocol.ids import from_hexadecimal, hexadecimal
from protocol.manifest import Role
from protocol.roster_check import Plan

_MEMBER: Role = "member"
_OWNER: Role = "contributor"


def plan_of(db: Database, algorithm: bytes) -> Plan:
    """The plan; Fault `cdt-unknown` unless the algorithm and all its leaves are confirmed here.

    RemoteProtocolError if the asset is no algorithm, its workflow names other leaves than its
    children, or one account would sit twice.
    """
    _, metadata = assets.confirmed(db, algorithm)
    return plan_in(db, metadata)


def plan_in(db: Database, metadata: Metadata) -> Plan:
    """As `plan_of`, from the document."""
    if metadata.algorithm is None:
        raise RemoteProtocolError("the asset is no algorithm")
    named = {step.cdt for step in metadata.algorithm.workflow}
    if named != set(metadata.children):
        raise RemoteProtocolError("the workflow and the children of the algorithm differ")
    owners, kinds = {}, {}
    for cdt in named:
        leaf, _ = assets.confirmed(db, from_hexadecimal(cdt, 32))
        owners[cdt], kinds[cdt] = leaf.owner, leaf.kind
    pool = set(metadata.algorithm.pool)
    if len({owners[cdt] for cdt in pool}) != len(pool):
        raise RemoteProtocolError("two compute assets of the pool belong to one account")
    for cdt, kind in kinds.items():
        if kind != ("compute" if cdt in pool else "data"):
            raise RemoteProtocolError(f"leaf {cdt} is of type {kind}, which its place forbids")
    return Plan(metadata.algorithm, owners)


def purpose_of(db: Database, algorithm: bytes, leaf: bytes) -> tuple[str, str]:
    """For what the algorithm uses the leaf, and by which operation; empty where it is not known."""
    asset = assets.find(db, algorithm)
    if asset is None or not assets.has_document(db, asset.proof):
        return "", ""
    found = documents.parse(assets.body_of(db, asset.proof)).algorithm
    if found is None:
        return "", ""
    steps = {from_hexadecimal(step.cdt, 32): step.operation for step in found.workflow}
    return found.purpose, steps.get(leaf, "")


def leaves_of(plan: Plan, account: bytes, roles: Collection[Role]) -> tuple[bytes, ...]:
    """The leaves that this account owns and uses in `roles`: compute as a member, else data."""
    pool = plan.pool_owners
    mine = [from_hexadecimal(cdt, 32) for cdt, owner in plan.owners.items() if owner == account]
    return tuple(leaf for leaf in mine if (_MEMBER if leaf in pool else _OWNER) in roles)


def own_data_leaf(plan: Plan, account: bytes) -> bytes:
    """The one data leaf of the account; Fault `session-refused` if there is not exactly one."""
    mine = [step.cdt for step in plan.data_steps if plan.owners[step.cdt] == account]
    if len(mine) != 1:
        raise Fault(
            "session-refused",
            f"account {hexadecimal(account)} contributes {len(mine)} leaves; one is possible",
        )
    return from_hexadecimal(mine[0], 32)
