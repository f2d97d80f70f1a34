"""What became of an asset, a dataset, a person's row: told from the chain's view and the ledger."""

import json
from typing import Any

from chain import tree
from node import (
    asset_story,
    assets,
    grant_records,
    ledger,
    negotiation_records,
    plans,
    session_records,
    tested_ids,
)
from node.grant_records import KeptGrant
from node.house import House
from node.negotiation_records import Negotiation
from protocol import terms_table
from protocol.identifiers import row_key
from protocol.ids import Account
from protocol.terms import describe


def asset(house: House, cdt: bytes) -> dict[str, Any]:
    """Who asked for the asset, who was granted it, every attested use of it, and what was paid.

    `story` tells the same in plain lines; `prices` what settled uses of assets of this type were
    paid anywhere. Fault `cdt-unknown` if nothing is known of it.
    """
    db, name = house.engine.db, house.directory.name
    found, _ = assets.confirmed(db, cdt)
    trace = {
        "cdt": cdt,
        "name": found.name,
        "type": found.kind,
        "owner": name(found.owner),
        "requests": [_request(house, each) for each in _requests(house, cdt)],
        "grants": [_grant(house, each) for each in grant_records.every(db) if each.child == cdt],
        "uses": [_use(house, use) for use in tree.uses_of(db, cdt)],
        "prices": [each for each in prices(house) if each["type"] == found.kind],
    }
    return trace | {"story": asset_story.lines(trace)}


def prices(house: House) -> list[dict[str, Any]]:
    """What settled uses were paid in this market's token, by type, operation and unit."""
    db = house.engine.db
    figures = tree.price_figures(
        db, house.chain.token, lambda child, top: plans.purpose_of(db, top, child)[1]
    )
    return [
        {
            "type": assets.KIND_NAMES.get(each.kind, "unknown"),
            "operation": each.operation,
            "unit": asset_story.UNITS[each.unit],
            "uses": each.uses,
            "least": str(each.least),
            "median": str(each.median),
            "most": str(each.most),
            "total": str(each.total),
        }
        for each in figures
    ]


def _requests(house: House, cdt: bytes) -> list[Negotiation]:
    found = [each for each in negotiation_records.every(house.engine.db) if each.child == cdt]
    return [each for each in reversed(found) if each.side == "provider"]


def _request(house: House, each: Negotiation) -> dict[str, Any]:
    return {
        "by": house.directory.name(each.counterparty),
        "parent": each.parent,
        "parent_name": _name(house, each.parent),
        "state": each.state,
        "sentence": each.sentence,
        "failed": [one for one in json.loads(each.findings) if not one["passed"]],
    }


def _grant(house: House, kept: KeptGrant) -> dict[str, Any]:
    terms, name = kept.terms, house.directory.name
    on_chain = house.engine.db.execute(
        "SELECT max_uses - uses FROM chain_grants WHERE child = ? AND parent = ? AND seq = ?"
        " AND live",
        [kept.child, kept.parent, kept.seq],
    ).fetchone()
    return {
        "parent": kept.parent,
        "parent_name": _name(house, kept.parent),
        "owner": name(Account(terms.owner)),
        "consumer": name(Account(terms.consumer)),
        "terms_hash": terms.terms,
        "price": terms.price,
        "unit": asset_story.UNITS[terms.unit],
        "uses": terms.max_uses,
        "uses_counted": kept.uses_counted,
        "uses_left": int(on_chain[0]) if on_chain else None,
        "expires": terms.expiry,
        "revoked": bool(kept.revoked),
        "given_up": bool(kept.withdrawn),
        "waived": [describe(operand) for operand in sorted(kept.waived_operands)],
    }


def _use(house: House, use: tree.Use) -> dict[str, Any]:
    db, name = house.engine.db, house.directory.name
    purpose, operation = plans.purpose_of(db, use.algorithm, use.child)
    at = db.execute("SELECT timestamp FROM chain_blocks WHERE number = ?", [use.block]).fetchone()
    return {
        "task": use.task,
        "algorithm": use.algorithm,
        "parent": use.parent,
        "parent_name": _name(house, use.parent),
        "purpose": purpose or "an unknown purpose",
        "operation": operation or "an unknown operation",
        "state": use.state,
        "owner": name(use.owner),
        "consumer": name(use.consumer),
        "recipient": name(use.recipient),
        "attester": name(use.attester),
        "terms_hash": use.terms_hash,
        "amount": None if use.amount is None else str(use.amount),
        "block": use.block,
        "at": int(at[0]) if at else None,
        "sessions": _sessions(house, use.task),
    }


def _name(house: House, cdt: bytes) -> str:
    found = assets.find(house.engine.db, cdt)
    return found.name if found else ""


def _sessions(house: House, task: bytes) -> list[dict[str, Any]]:
    reserved = {
        spending.session: spending
        for dataset in house.config.datasets
        for spending in ledger.spendings(house.engine.db, dataset.name)
    }
    return [
        {
            "session": each.session,
            "at": each.started_at,
            "state": each.state,
            "reason": each.reason,
            "rows": reserved[each.session].rows if each.session in reserved else None,
            "numbers_per_row": reserved[each.session].numbers if each.session in reserved else None,
        }
        for each in reversed(session_records.of_task(house.engine.db, task))
    ]


def budget(house: House, dataset: str) -> dict[str, Any]:
    """Every reservation on a dataset's rows, and what is left of them; Fault `dataset-unknown`.

    `rows` says how many rows have had how many numbers reserved, through any dataset and for
    any recipient; rows that were never in a session are not counted. `tested` says how many ids
    each counterparty's operator has tested in the last 30 days against any rows of this node; where
    `tested_ids_max` is None it follows from how many rows there are.
    """
    terms = house.judging.dataset_terms(dataset)
    table = terms_table.read(terms, data=True) if terms else None
    spendings = ledger.spendings(house.engine.db, dataset)
    return {
        "dataset": dataset,
        "numbers_per_row_max": table.numbers_per_row_max if table else None,
        "tested_ids_max": table.tested_ids_max if table else None,
        "tested": [
            {"operator": each.operator, "ids": each.ids, "sessions": each.sessions}
            for each in tested_ids.within(house.engine.db, house.engine.clock())
        ],
        "rows": [
            {"numbers": numbers, "rows": rows}
            for numbers, rows in ledger.totals(house.engine.db, dataset)
        ],
        "reservations": [_spending(house, each) for each in spendings],
    }


def subject(house: House, identifier: str) -> list[dict[str, Any]]:
    """Every use of one person's row, however its id is spelt in this node's datasets."""
    uses = ledger.uses_of(house.engine.db, row_key(house.row_key, identifier))
    return [_spending(house, each) for each in uses]


def _spending(house: House, spending: ledger.Spending) -> dict[str, Any]:
    return {
        "session": spending.session,
        "task": spending.task,
        "dataset": spending.dataset,
        "recipient": house.directory.name(Account(spending.recipient)),
        "operator": spending.operator,
        "purpose": spending.purpose,
        "numbers_per_row": spending.numbers,
        "rows": spending.rows,
        "at": spending.reserved_at,
    }
