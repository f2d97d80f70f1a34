"""Looking through the catalogue: what is found, in which order, and what no query can do."""

import random
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.schema import MIGRATIONS
from node import asset_terms, asset_words, assets, search
from node.config import from_table
from node.engine import Engine
from node.errors import Fault
from node.search import OwnerNames, Query, Search
from node.store import open_store
from protocol import documents, terms
from protocol.documents import Column, Metadata, Price, Schema, Service
from protocol.ids import Account, hexadecimal
from protocol.terms import Constraint, Terms

NOW = 1_800_000_000
OWN, BANK, OTHER = Account(b"\x01" * 20), Account(b"\x02" * 20), Account(b"\x03" * 20)
ATTESTER, DECIDER = Account(b"\x0a" * 20), Account(b"\x0b" * 20)


class Catalogue:
    """Assets of one database, and questions about them."""

    def __init__(self, folder: Path) -> None:
        self.engine = Engine(open_store(folder / "node.sqlite3", MIGRATIONS), lambda: float(NOW))
        self.db = self.engine.db
        self.search = Search(self.db, OwnerNames(self.db, [("bank-a", BANK)]))
        self.number = 0
        table = {
            "name": "us",
            "network": "test",
            "trust": {"attesters": [hexadecimal(ATTESTER)], "decider": hexadecimal(DECIDER)},
        }
        self.config = from_table(table, folder, "test")

    def add(self, name: str, owner: Account = BANK, **parts: object) -> bytes:
        """A confirmed asset of this name; its id."""
        self.number += 1
        cdt = self.number.to_bytes(4) + bytes(28)
        body = documents.canonical(document(name, **parts))
        with self.engine.transaction() as tx:
            proof = assets.keep_document(tx, body)
            kind = str(parts.get("type", "data"))
            assets.registered(tx, cdt, owner, kind, proof, 0)
        return cdt

    def announce(self, name: str, owner: Account = BANK) -> bytes:
        self.number += 1
        cdt = self.number.to_bytes(4) + bytes(28)
        with self.engine.transaction() as tx:
            assets.heard_of(tx, cdt, owner, "data", bytes(32), name, "x")
        return cdt

    def names(self, text: str = "", **filters: object) -> list[str]:
        page = self.search.page(Query(text, **filters))  # type: ignore[arg-type]
        return [each.name for each in page.assets]

    def offer(self, purpose: str | None = None) -> asset_terms.Offer:
        return asset_terms.offer_of(self.config, OWN, NOW, purpose)

    def pages(self, query: Query, limit: int) -> Iterator[list[str]]:
        after = ""
        while True:
            page = self.search.page(query, after, limit)
            yield [each.name for each in page.assets]
            after = page.after
            if not after:
                return


def document(name: str, **parts: object) -> Metadata:
    kind = parts.pop("type", "data")
    schema = Schema(columns=(Column(name="Income", kind="number", width=1),), rows_about=1000)
    plain: dict[str, object] = {
        "description": "",
        "author": "x",
        "license": "closed",
        "created": "2026-01-01T00:00:00Z",
        "endpoint": "x",
        "schema": schema if kind == "data" else None,
    }
    return Metadata(type=kind, name=name, **(plain | parts))  # type: ignore[arg-type]


def service(**changes: object) -> tuple[Service, ...]:
    """Terms that this node could meet, but for `changes` (operand -> constraint or None)."""
    wanted: dict[str, Constraint | None] = {
        operand: Constraint(leftOperand=operand, operator="isAnyOf", rightOperand=(value,))
        for operand, value in {
            terms.OPERATION: "shared-features",
            terms.COUNTERPARTY: hexadecimal(OWN),
            terms.OUTPUT_RECIPIENT: hexadecimal(OWN),
            terms.PURPOSE: "risk",
            terms.ATTESTER: hexadecimal(ATTESTER),
            terms.DECIDER: hexadecimal(DECIDER),
        }.items()
    }
    wanted[terms.EXPIRY] = Constraint(
        leftOperand=terms.EXPIRY, operator="lteq", rightOperand=NOW + 1000
    )
    wanted |= changes  # type: ignore[arg-type]
    permission = tuple(each for each in wanted.values() if each is not None)
    return (Service(terms=Terms(permission=permission), price=Price(amount="0", unit="edge")),)


def constraint(operand: str, operator: str, right: object) -> Constraint:
    return Constraint(leftOperand=operand, operator=operator, rightOperand=right)  # type: ignore[arg-type]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path)


# ---------------------------------------------------------------------- words


def test_words_in_name_description_purpose_columns_owner_and_id(catalogue: Catalogue) -> None:
    cdt = catalogue.add("Credit facts", description="Applicants in Lyon", services=service())
    catalogue.add("Weather", owner=OTHER, type="compute")
    texts = ["credit", "CRED", "facts credit", "lyon", "risk", "income", "bank-a", "bank-a lyon"]
    texts += ["data", "shared-features", hexadecimal(cdt)[:12], hexadecimal(BANK)]
    for text in texts:
        assert catalogue.names(text) == ["Credit facts"], text
    assert catalogue.names("credit weather") == []
    assert catalogue.names("compute") == ["Weather"]
    assert set(catalogue.names()) == {"Weather", "Credit facts"}


def test_an_owner_is_found_by_part_of_its_name(catalogue: Catalogue) -> None:
    catalogue.add("one")
    catalogue.add("two", owner=OTHER)
    with catalogue.engine.transaction() as tx:
        tx.db.execute("INSERT INTO chain_organisations VALUES (?, 'Fine Bank 2 \x1b', '')", [OTHER])
    assert catalogue.names("bank") == ["two", "one"]
    assert catalogue.names("fine") == catalogue.names("FINE two") == ["two"]
    assert catalogue.names("ba") == catalogue.names("2") == catalogue.names("a") == []


def test_the_best_come_first(catalogue: Catalogue) -> None:
    catalogue.add("Something else", description="credit, and credit again")
    catalogue.add("Credit register of the whole country, all years")
    catalogue.add("Credit register")
    assert catalogue.names("credit register") == [
        "Credit register",
        "Credit register of the whole country, all years",
    ]
    assert catalogue.names("credit")[-1] == "Something else"


def test_accents_and_scripts_without_spaces(catalogue: Catalogue) -> None:
    catalogue.add("Données de crédit")
    catalogue.add("北外滩信用数据")
    assert catalogue.names("donnees CREDIT") == ["Données de crédit"]
    assert catalogue.names("données") == ["Données de crédit"]
    assert catalogue.names("信用") == ["北外滩信用数据"]
    assert catalogue.names("用信") == []


def test_filters(catalogue: Catalogue) -> None:
    catalogue.add("credit one")
    catalogue.add("credit two", owner=OTHER)
    catalogue.add("credit three", owner=OTHER, type="compute")
    catalogue.announce("credit four")
    assert catalogue.names("credit", owner=OTHER, kind="data") == ["credit two"]
    assert catalogue.names("", owner=OTHER, kind="compute") == ["credit three"]
    assert catalogue.names("credit", state="announced") == ["credit four"]
    assert set(catalogue.names("credit", state="confirmed")) == {
        "credit one",
        "credit two",
        "credit three",
    }
    assert len(catalogue.names("credit")) == len(catalogue.names()) == 4


HOSTILE = (
    '"', '""', '"credit', "credit OR weather", "credit AND", "NOT credit", "NEAR(credit weather)",
    "title:credit", "facets : credit", "{title} : credit", "^credit", "credit*", "-credit",
    "(credit", "credit)", "' OR 1=1 --", "\x00credit\x00", "\ue000kinddata", "%", "_", "*", "\\",
    "'; DROP TABLE assets; --", "credit\u202eweather", "<script>alert(1)</script>",
)  # fmt: skip


def test_a_query_is_words_and_nothing_else(catalogue: Catalogue) -> None:
    catalogue.add("credit")
    catalogue.add("weather")
    for text in HOSTILE:
        found = catalogue.names(text)
        letters = {word.strip("\"'*^()-") for word in text.replace("\x00", " ").split()}
        if letters == {"credit"}:
            assert found == ["credit"], text
        elif any(each.isalnum() for each in text.replace("\ue000", " ")):
            assert found == [], text
        assert len(assets.every(catalogue.db)) == 2


def test_a_mark_of_the_index_in_a_name_is_no_filter(catalogue: Catalogue) -> None:
    forged = f"x {asset_words.owner_token(OTHER)} {asset_words.state_token('invalid')}"
    catalogue.add(forged)
    assert catalogue.names("", owner=OTHER) == []
    assert catalogue.names("", state="invalid") == []
    assert catalogue.names("", owner=BANK) == [forged]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_no_text_is_an_error(catalogue: Catalogue, text: str) -> None:
    words = sum(any(each.isalnum() for each in word) for word in text.split())
    with pytest.raises(Fault, match="at most 16") if words > 16 else nullcontext():
        catalogue.search.page(Query(text, state="confirmed", kind="data"))


def test_too_much_of_a_query_gets_one_sentence(catalogue: Catalogue) -> None:
    with pytest.raises(Fault, match="at most 500 characters"):
        catalogue.names("a" * 501)
    with pytest.raises(Fault, match="at most 16 words"):
        catalogue.names("a " * 17)
    assert catalogue.names("a" * 500) == []


# ---------------------------------------------------------------------- pages


def test_pages_hold_everything_once(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"credit {'x' * (number % 7)} {number}" for number in range(57)]
    for name in names:
        catalogue.add(name)
    for query in (Query("credit"), Query(), Query("credit", kind="data", state="confirmed")):
        found = [name for page in catalogue.pages(query, 10) for name in page]
        assert sorted(found) == sorted(names)
        assert all(len(page) == 10 for page in list(catalogue.pages(query, 10))[:-1])
    monkeypatch.setattr(search, "RANKED_MOST", 20)  # too many to rank: the newest come first
    page = catalogue.search.page(Query("credit"), "", 3)
    assert (page.ranked, [each.name for each in page.assets]) == (False, names[:-4:-1])
    assert [name for page in catalogue.pages(Query("credit"), 10) for name in page] == names[::-1]


def test_what_changes_between_two_pages_moves_nothing_else(catalogue: Catalogue) -> None:
    ids = {name: catalogue.add(name) for name in ("b 1", "b 22", "b 333", "b 4444", "b 55555")}
    pages = catalogue.pages(Query("b"), 2)
    assert next(pages) == ["b 1", "b 22"]
    with catalogue.engine.transaction() as tx:
        tx.db.execute("DELETE FROM assets WHERE cdt = ?", [ids["b 22"]])
    catalogue.add("b 0")
    assert next(pages) == ["b 333", "b 4444"]


def test_a_cursor_that_no_page_gave(catalogue: Catalogue) -> None:
    for cursor in ("x", "!!!", "bi4xLi0x", "cg", "é", "ci4x" * 20):
        with pytest.raises(Fault, match="no cursor"):
            catalogue.search.page(Query(), cursor)


# ---------------------------------------------------------------------- standing


def test_the_index_follows_every_change_in_its_transaction(catalogue: Catalogue) -> None:
    cdt = catalogue.add("credit")

    def fail() -> None:
        with catalogue.engine.transaction() as tx:
            assets.offered(tx, cdt, withdrawn=True)
            assert catalogue.names("credit", state="withdrawn") == ["credit"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert catalogue.names("credit", state="confirmed") == ["credit"]
    with catalogue.engine.transaction() as tx:
        assets.offered(tx, cdt, withdrawn=True)
    assert catalogue.names("credit", state="confirmed") == []
    asset = assets.find(catalogue.db, cdt)
    assert asset is not None
    assert (asset.standing, asset.why) == ("withdrawn", assets.WITHDRAWN)
    assert assets.confirmed(catalogue.db, cdt)[0].state == "confirmed"
    with catalogue.engine.transaction() as tx:
        assets.registered(tx, cdt, OTHER, "data", asset.proof, 0, epoch=1)
    assert catalogue.names("credit", state="confirmed", owner=OTHER) == ["credit"]
    assert catalogue.names("", owner=BANK) == []
    with catalogue.engine.transaction() as tx:
        assets.registered(tx, cdt, OTHER, "compute", asset.proof, 0, epoch=1)
    assert catalogue.names("credit", state="invalid") == ["credit"]
    assert assets.counted(catalogue.db) == {"invalid": 1}
    with catalogue.engine.transaction() as tx:
        tx.db.execute("DELETE FROM assets")
    assert catalogue.names("credit") == catalogue.names() == []


def test_only_its_owner_moves_or_withdraws_an_announced_asset(catalogue: Catalogue) -> None:
    cdt = catalogue.add("credit")
    with catalogue.engine.transaction() as tx:
        proof = bytes(32)
        assets.heard_of(tx, cdt, OTHER, "data", proof, "evil", "there", withdrawn=True)
    asset = assets.find(catalogue.db, cdt)
    assert asset is not None
    assert (asset.name, asset.endpoint, asset.standing) == ("credit", "x", "confirmed")
    with catalogue.engine.transaction() as tx:
        assets.heard_of(tx, cdt, BANK, "data", proof, "credit", "there", withdrawn=True)
    assert catalogue.names("", state="withdrawn") == ["credit"]


def test_the_index_agrees_with_the_table_whatever_happened(catalogue: Catalogue) -> None:
    chance = random.Random(3)
    known = [catalogue.add(f"credit {number}") for number in range(12)]
    for _ in range(150):
        cdt, owner = chance.choice(known), chance.choice((OWN, BANK, OTHER))
        asset = assets.find(catalogue.db, cdt)
        with catalogue.engine.transaction() as tx:
            match chance.randrange(4):
                case 0:
                    assets.offered(tx, cdt, withdrawn=chance.random() < 0.5)
                case 1 if asset is not None:
                    assets.registered(tx, cdt, owner, asset.kind, asset.proof, 0)
                case 2:
                    tx.db.execute("DELETE FROM assets WHERE cdt = ?", [cdt])
                case 3:
                    assets.heard_of(tx, cdt, owner, "data", bytes(32), "credit again", "x")
        every = assets.every(catalogue.db)
        assert len(catalogue.names("credit")) == len(every)
        for state in assets.STATES:
            found = catalogue.search.page(Query("credit", state=state)).assets
            assert {each.cdt for each in found} == {e.cdt for e in every if e.standing == state}
    catalogue.db.execute("INSERT INTO asset_words (asset_words) VALUES ('integrity-check')")


# ---------------------------------------------------------------------- terms


def test_terms_that_this_node_could_meet(catalogue: Catalogue) -> None:
    catalogue.add("ours", services=service())
    catalogue.add("no terms")
    for name, operand, value in [
        ("others' party", terms.COUNTERPARTY, hexadecimal(OTHER)),
        ("others' recipient", terms.OUTPUT_RECIPIENT, hexadecimal(OTHER)),
        ("others' attester", terms.ATTESTER, hexadecimal(OTHER)),
        ("others' decider", terms.DECIDER, hexadecimal(OTHER)),
        ("unknown operation", terms.OPERATION, "unheard-of"),
        ("other code", terms.CODE, "0x" + "00" * 32),
    ]:
        catalogue.add(name, services=service(**{operand: constraint(operand, "isAnyOf", (value,))}))
    catalogue.add("past", services=service(**{terms.EXPIRY: constraint(terms.EXPIRY, "lteq", NOW)}))
    catalogue.add("silent", services=service(**{terms.DECIDER: None}))
    everybody = constraint(terms.COUNTERPARTY, "isNoneOf", (hexadecimal(OTHER),))
    catalogue.add("all but one", services=service(**{terms.COUNTERPARTY: everybody}))
    nobody = constraint(terms.COUNTERPARTY, "isAnyOf", ())
    catalogue.add("nobody", services=service(**{terms.COUNTERPARTY: nobody}))
    assert set(catalogue.names(offer=catalogue.offer())) == {"ours", "all but one"}
    assert set(catalogue.names(offer=catalogue.offer("risk"))) == {"ours", "all but one"}
    assert catalogue.names(offer=catalogue.offer("marketing")) == []
    assert catalogue.names("ours", offer=catalogue.offer(), state="confirmed") == ["ours"]


def test_why_terms_cannot_be_met_is_told(catalogue: Catalogue) -> None:
    width = constraint("cdt:parameter.width", "lteq", 4)
    wrong = constraint(terms.COUNTERPARTY, "isAnyOf", (hexadecimal(OTHER),))
    metadata = document(
        "x", services=service(**{"width": width, terms.COUNTERPARTY: wrong, terms.DECIDER: None})
    )
    told = {each.operand: each for each in asset_terms.prospects(metadata, catalogue.offer())}
    assert told[terms.COUNTERPARTY].met is False
    assert told[terms.COUNTERPARTY].ours == hexadecimal(OWN)
    assert hexadecimal(OTHER) in told[terms.COUNTERPARTY].allowed
    assert (told[terms.DECIDER].met, told[terms.DECIDER].allowed) == (False, "nothing")
    assert (told["cdt:parameter.width"].met, told["cdt:parameter.width"].allowed) == (
        None,
        "at most 4",
    )
    assert told[terms.PURPOSE].met is None
    assert told[terms.ATTESTER].met is True
    assert asset_terms.prospects(document("y"), catalogue.offer()) == []


def test_a_page_of_terms_examines_a_bounded_number(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "EXAMINED_MOST", 5)
    past = service(**{terms.EXPIRY: constraint(terms.EXPIRY, "lteq", NOW)})
    catalogue.add("ours", services=service())
    for number in range(12):
        catalogue.add(f"past {number}", services=past)
    query = Query(offer=catalogue.offer())
    assert list(catalogue.pages(query, 2)) == [[], [], ["ours"]]
