"""What became of an asset, a dataset, a person's row: told from the chain's view and the ledger."""

from typing import Any

from chain import tree
from node import assets, ledger, negotiations, session_records
from node.house import House
from protocol import terms_table
from protocol.identifiers import normalise, row_key
from protocol.ids import Account


def asset(house: House, cdt: bytes) -> dict[str, Any]:
    """Who asked for the asset, who was granted it, and every attested use of it.

    Fault `cdt-unknown` if nothing is known of it.
    """
    db, name = house.engine.db, house.directory.name
    found, _ = assets.confirmed(db, cdt)
    requests = [
        {
            "by": name(each.counterparty),
            "for": each.parent,
            "state": each.state,
            "sentence": each.sentence,
        }
        for each in negotiations.every(db)
        if each.child == cdt and each.side == "provider"
    ]
    uses = [
        {
            "task": use.task,
            "algorithm": use.algorithm,
            "state": use.state,
            "consumer": name(use.consumer),
            "recipient": name(use.recipient),
            "attester": name(use.attester),
            "terms_hash": use.terms_hash,
            "amount": None if use.amount is None else str(use.amount),
            "block": use.block,
            "sessions": _sessions(house, use.task),
        }
        for use in tree.uses_of(db, cdt)
    ]
    return {
        "cdt": cdt,
        "name": found.name,
        "owner": name(found.owner),
        "requests": requests,
        "uses": uses,
    }


def _sessions(house: House, task: bytes) -> list[dict[str, Any]]:
    reserved = {
        spending.session: spending
        for dataset in house.config.datasets
        for spending in ledger.spendings(house.engine.db, dataset.name)
    }
    return [
        {
            "session": each.session,
            "state": each.state,
            "reason": each.reason,
            "rows": reserved[each.session].rows if each.session in reserved else None,
            "numbers_per_row": reserved[each.session].numbers if each.session in reserved else None,
        }
        for each in session_records.every(house.engine.db)
        if each.task == task
    ]


def budget(house: House, dataset: str) -> dict[str, Any]:
    """Every reservation on a dataset's rows, and what is left of them; Fault `dataset-unknown`.

    `rows` says how many rows have had how many numbers reserved, through any dataset and for
    any recipient; rows that were never in a session are not counted.
    """
    terms = house.config.dataset(dataset).terms
    spendings = ledger.spendings(house.engine.db, dataset)
    most = terms_table.read(terms).numbers_per_row_max if terms else None
    return {
        "dataset": dataset,
        "numbers_per_row_max": most,
        "rows": [
            {"numbers": numbers, "rows": rows}
            for numbers, rows in ledger.totals(house.engine.db, dataset)
        ],
        "reservations": [_spending(house, each) for each in spendings],
    }


def subject(house: House, identifier: str) -> list[dict[str, Any]]:
    """Every use of one person's row, under each rule by which this node's ids are normalised."""
    rules = {dataset.id_rule for dataset in house.config.datasets}
    keys = {row_key(house.row_key, normalise(identifier, rule)) for rule in rules}
    found = [use for key in keys for use in ledger.uses_of(house.engine.db, key)]
    return [_spending(house, each) for each in found]


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
