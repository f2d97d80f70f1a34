"""Looking through a catalogue of 100,000 assets, as `cdt search` does."""

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec

from chain.schema import MIGRATIONS
from node import asset_terms, assets
from node.config import Config, from_table
from node.engine import Engine
from node.search import OwnerNames, Query, Search
from node.store import open_store
from protocol import documents, terms
from protocol.documents import Column, Metadata, Price, Schema, Service
from protocol.ids import Account, hexadecimal
from protocol.terms import Constraint, Terms

ASSETS = 100_000
OWNERS = 200
BATCH = 2_000
NOW = 1_800_000_000.0
PLACES = ("Berlin", "Lyon", "Shanghai", "Porto", "Leeds", "Gdansk", "Osaka", "Quito")
MATTERS = ("credit", "claims", "energy", "traffic", "genomics", "payments", "weather", "retail")
FORMS = ("facts", "history", "register", "survey", "ledger", "samples")


def measure() -> dict[str, dict[str, object]]:
    """The median of the slowest kind of question, of each kind, and how fast assets come in."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(open_store(Path(folder) / "bench.sqlite3", MIGRATIONS), lambda: NOW)
        _fill(engine)
        search = Search(engine.db, OwnerNames(engine.db, [("bank-a", _account(7))]))
        questions = _questions(_config(Path(folder)))
        took = {name: _median_ms(search, query) for name, query in questions}
        indexed = _indexed_per_s(engine)
        engine.db.close()
    slowest = max(took, key=lambda name: took[name])
    return {
        "catalogue.search_ms": _figure(
            took[slowest], "ms", f"a page of {ASSETS:,} assets, the slowest question: {slowest}"
        ),
        **{
            f"catalogue.search_ms.{name}": _figure(ms, "ms", "the median of this question")
            for name, ms in took.items()
        },
        "catalogue.indexed_per_s": _figure(
            indexed, "assets/s", "documents checked, stored, judged and indexed"
        ),
    }


def _figure(value: float, unit: str, what: str) -> dict[str, object]:
    return {"value": value, "unit": unit, "ratio": None, "what": what}


def _questions(config: Config) -> Iterator[tuple[str, Query]]:
    offer = asset_terms.offer_of(config, _account(3), NOW)
    yield "rare", Query(text="x17c3")
    yield "words", Query(text="credit berlin ledger")
    yield "common", Query(text="facts")
    yield "everything", Query()
    yield "owner", Query(text="bank-a credit", state="confirmed")
    yield "filtered", Query(text="credit", kind="data", owner=_account(5), state="confirmed")
    yield "meetable", Query(text="claims", offer=offer)


def _median_ms(search: Search, query: Query) -> float:
    taken = []
    for _ in range(15):
        began = time.perf_counter()
        page = search.page(query)
        taken.append(1_000 * (time.perf_counter() - began))
        if not page.assets:
            raise RuntimeError(f"nothing found for {query}")
    return median(taken)


def _account(number: int) -> Account:
    return Account(number.to_bytes(20))


def _config(folder: Path) -> Config:
    table = {
        "name": "bank-a",
        "network": "bench",
        "trust": {"attesters": [hexadecimal(_account(1))], "decider": hexadecimal(_account(2))},
    }
    return from_table(table, folder, "bench")


def _fill(engine: Engine) -> None:
    """Rows as `assets.judge` leaves them: to check every document again would take a minute."""
    chance = random.Random(7)
    for first in range(0, ASSETS, BATCH):
        with engine.transaction() as tx:
            for number in range(first, first + BATCH):
                metadata = _metadata(chance, number)
                body = msgspec.json.encode(metadata)
                proof = documents.proof_of(body)
                tx.db.execute("INSERT INTO documents VALUES (?, ?, ?)", [proof, body, NOW])
                values = [number.to_bytes(4) + bytes(28), _account(number % OWNERS), proof]
                words = [metadata.name, asset_terms.words(metadata), asset_terms.tokens(metadata)]
                tx.db.execute(
                    "INSERT INTO assets (cdt, owner, creator, proof, kind, children, state, "
                    "seen_at, name, title, body, terms) "
                    "VALUES (?1, ?2, ?2, ?3, 'data', x'', 'confirmed', 0, ?4, ?4, ?5, ?6)",
                    values + words,
                )


def _indexed_per_s(engine: Engine) -> float:
    """How many more come in a second, document and all."""
    chance = random.Random(8)
    metadata = [_metadata(chance, ASSETS + number) for number in range(BATCH)]
    began = time.perf_counter()
    with engine.transaction() as tx:
        for number, each in enumerate(metadata, start=ASSETS):
            proof = assets.keep_document(tx, documents.canonical(each))
            cdt = number.to_bytes(4) + bytes(28)
            assets.registered(tx, cdt, _account(1), each.type, proof, 0)
    return BATCH / (time.perf_counter() - began)


def _metadata(chance: random.Random, number: int) -> Metadata:
    matter, place, form = chance.choice(MATTERS), chance.choice(PLACES), chance.choice(FORMS)
    allowed = _terms(_account(chance.randrange(20)), f"{matter}-model")
    return Metadata(
        type="data",
        name=f"{matter} {form} x{number:x}",
        description=f"{form.title()} of {matter} in {place}, one row for each case, facts only",
        author="bench",
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint="x",
        services=(Service(terms=allowed, price=Price(amount="0", unit="edge")),),
        schema=Schema(columns=(Column(name="Age", kind="number", width=1),), rows_about=1000),
    )


def _terms(counterparty: Account, purpose: str) -> Terms:
    """For the counterparty alone, as an administrator's table would give them."""
    lists = {
        terms.OPERATION: "shared-features",
        terms.COUNTERPARTY: hexadecimal(counterparty),
        terms.OUTPUT_RECIPIENT: hexadecimal(_account(3)),
        terms.PURPOSE: purpose,
        terms.ATTESTER: hexadecimal(_account(1)),
        terms.DECIDER: hexadecimal(_account(2)),
    }
    listed = [
        Constraint(leftOperand=operand, operator="isAnyOf", rightOperand=(value,))
        for operand, value in lists.items()
    ]
    until = Constraint(
        leftOperand=terms.EXPIRY, operator="lteq", rightOperand=int(NOW) + 30 * 86_400
    )
    return Terms(permission=(*listed, until))
