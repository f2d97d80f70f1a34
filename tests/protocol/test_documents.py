"""Documents: one canonical form, a proof, a content address that IPFS agrees with."""

import hashlib
import json

import multihash
import pytest
import rfc8785
from cid import make_cid
from hypothesis import given
from hypothesis import strategies as st

from protocol import documents
from protocol.documents import Algorithm, Column, Metadata, Price, Schema, Service, Step
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.manifest import Parameters
from protocol.terms import Constraint, Terms

PEER = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
PARAMETERS = Parameters(
    width=2,
    epochs=2,
    batch_rows=32,
    noise=0.3,
    clip=8.0,
    gradient_clip=0.3,
    learning_rate=4.0,
    holdout=0.3,
    engine="lane",
    evaluation_engine="mpyc",
    field="m61",
)


def cdt(number: int) -> str:
    return "0x" + f"{number:064x}"


def data_document(name: str = "credit facts Ä €") -> Metadata:
    terms = Terms(
        permission=(
            Constraint(leftOperand="cdt:noise", operator="gteq", rightOperand=0.3),
            Constraint(leftOperand="odrl:purpose", operator="isAnyOf", rightOperand=("risk",)),
        )
    )
    return Metadata(
        type="data",
        name=name,
        description="",
        author="bank-a",
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint=PEER,
        services=(Service(terms=terms, price=Price(amount="1" + "0" * 18, unit="row")),),
        schema=Schema(columns=(Column(name="Age", kind="number", width=2),), rows_about=2000),
    )


def algorithm_document(**changes: object) -> Metadata:
    leaves = [cdt(number) for number in range(1, 6)]
    steps = [
        Step(cdt=leaf, operation="shared-features", code=cdt(9), parameters=PARAMETERS)
        for leaf in leaves[:2]
    ] + [Step(cdt=leaf, operation="committee-member", code=cdt(8)) for leaf in leaves[2:]]
    parts: dict[str, object] = {
        "workflow": tuple(steps),
        "pool": tuple(leaves[2:]),
        "seats": 3,
        "threshold": 1,
        "cohort_floor": 1000,
        "recipient": "0x" + "22" * 20,
        "purpose": "risk",
        "labels": "seen-by-owners",
        "top_model": cdt(7),
    }
    return Metadata(
        type="algorithm",
        name="risk",
        description="",
        author="fintech-c",
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint=PEER,
        children=tuple(leaves),
        algorithm=Algorithm(**(parts | changes)),
    )


@pytest.mark.parametrize("metadata", [data_document(), algorithm_document()])
def test_parse_undoes_canonical(metadata: Metadata) -> None:
    assert documents.parse(documents.canonical(metadata)) == metadata


def test_the_content_address_is_the_one_that_ipfs_gives() -> None:
    body = documents.canonical(data_document())
    proof = documents.proof_of(body)
    assert proof == hashlib.sha256(body).digest()
    theirs = make_cid(1, "raw", multihash.digest(body, "sha2-256").encode())
    assert documents.cid_of(proof) == theirs.encode("base32").decode()
    assert documents.proof_at(documents.storage_path(proof)) == proof


@given(st.text(max_size=80))
def test_no_text_but_a_content_address_names_a_proof(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        documents.proof_in(text)


@given(st.binary(min_size=32, max_size=32))
def test_proof_and_content_address_follow_from_each_other(proof: bytes) -> None:
    assert documents.proof_in(documents.cid_of(proof)) == proof


def test_another_spelling_of_the_same_document_is_refused() -> None:
    body = documents.canonical(data_document())
    spaced = json.dumps(json.loads(body)).encode()
    with pytest.raises(RemoteProtocolError, match="canonical"):
        documents.parse(spaced)


def test_an_unknown_member_is_refused() -> None:
    plain = json.loads(documents.canonical(data_document()))
    with pytest.raises(RemoteProtocolError, match="surprise"):
        documents.parse(rfc8785.dumps(plain | {"surprise": 1}))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 200_000, b'{"a":' * 50_000, b"\xff"])
def test_what_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        documents.parse(body)


def test_a_document_over_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(RemoteProtocolError, match="at most 262144"):
        documents.parse(b" " * 262_145)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seats": 4}, "too few compute assets"),
        ({"threshold": 2}, "2 t < m"),
        ({"pool": (cdt(3), cdt(3), cdt(4))}, "too few|each leaf"),
        ({"pool": (cdt(3), cdt(4), cdt(77))}, "each leaf"),
        ({"workflow": algorithm_document().algorithm.workflow * 2}, "each leaf"),
    ],
)
def test_an_algorithm_that_cannot_run_is_not_published(
    changes: dict[str, object], says: str
) -> None:
    with pytest.raises(LocalProtocolError, match=says):
        documents.canonical(algorithm_document(**changes))


def test_the_plan_changes_with_every_part_that_is_attested() -> None:
    plain = algorithm_document().algorithm
    assert plain is not None
    other = algorithm_document(purpose="marketing").algorithm
    assert other is not None
    assert documents.plan_hash(plain) != documents.plan_hash(other)


@pytest.mark.parametrize(
    ("rows", "told"), [(0, 0), (1, 1), (9, 5), (10, 10), (4009, 2000), (4999, 2000), (5000, 5000)]
)
def test_a_number_of_rows_is_rounded_down(rows: int, told: int) -> None:
    assert documents.rounded_rows(rows) == told
