"""The document behind a CDT: canonical JSON, its proof, its content address.

`proof` is the SHA-256 of the metadata in RFC 8785 form, and the storage path is the CIDv1 (raw,
sha2-256) of the very same bytes, so each follows from the other and an IPFS node can hold them.
The id of the CDT depends on the proof and so stands outside the metadata.
"""

import base64
import hashlib
from typing import Annotated, Any, Literal

import msgspec
import rfc8785

from protocol.codec import AmountText, Name, PeerIdText, Text
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ids import Digest
from protocol.manifest import Parameters
from protocol.terms import Terms

MAX_DOCUMENT_BYTES = 262_144
MAX_CHILDREN = 16

CID_PREFIX = bytes([0x01, 0x55, 0x12, 0x20])  # CIDv1, raw, sha2-256, 32 bytes
STORAGE_SCHEME = "ipfs://"

Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A0x[0-9a-f]{64}\Z")]
Hex20 = Annotated[str, msgspec.Meta(pattern=r"\A0x[0-9a-f]{40}\Z")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
AssetType = Literal["data", "compute", "algorithm"]


class _Part(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A part of a document: exactly these members, so that no input nests deeper than the types."""


class Column(_Part, frozen=True):
    """One column as the owner describes it; `width` is its number of encoded columns."""

    name: Title
    kind: Literal["number", "category"]
    width: Annotated[int, msgspec.Meta(ge=1, le=4096)]


class Schema(_Part, frozen=True):
    """The shape of a dataset, never its values; `rows_about` is rounded as by `rounded_rows`."""

    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=1024)]
    rows_about: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Step(_Part, frozen=True):
    """What is done to one leaf, pinned by the hash of the code that does it."""

    cdt: Hex32
    operation: Name
    code: Hex32
    parameters: Parameters | None = None


class Algorithm(_Part, frozen=True):
    """The workflow over the leaves, who computes, who opens the result, and what for.

    `labels` says whether the owners may learn the recipient's labels from gradients: the
    recipient's written consent, without which no gradient may be sent.
    """

    workflow: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1, max_length=MAX_CHILDREN)]
    pool: Annotated[tuple[Hex32, ...], msgspec.Meta(min_length=3, max_length=MAX_CHILDREN)]
    seats: Annotated[int, msgspec.Meta(ge=3, le=MAX_CHILDREN)]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHILDREN)]
    cohort_floor: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    recipient: Hex20
    purpose: Name
    labels: Literal["seen-by-owners", "hidden"]
    top_model: Hex32


class Price(_Part, frozen=True):
    """What an asset's use costs, in the smallest unit of the market's token."""

    amount: AmountText
    unit: Literal["edge", "row", "opening"]


class Service(_Part, frozen=True):
    """The terms under which the owner lets the asset be used, as it publishes them."""

    terms: Terms
    price: Price


class Metadata(_Part, frozen=True):
    """The hashed body of a document (DDO). Exactly the part for its own type is present."""

    type: AssetType
    name: Title
    description: Text
    author: Title
    license: Title
    created: Annotated[str, msgspec.Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
    endpoint: PeerIdText
    children: Annotated[tuple[Hex32, ...], msgspec.Meta(max_length=MAX_CHILDREN)] = ()
    services: Annotated[tuple[Service, ...], msgspec.Meta(max_length=1)] = ()
    schema: Schema | None = None
    algorithm: Algorithm | None = None
    extra: dict[Name, Text] = {}


def canonical(metadata: Metadata) -> bytes:
    """The RFC 8785 bytes of `metadata`; LocalProtocolError if it breaks the document's rules."""
    try:
        body = rfc8785.dumps(_plain(metadata))
        parse(body)
    except (rfc8785.CanonicalizationError, RemoteProtocolError) as error:
        raise LocalProtocolError(f"the document cannot be published: {error}") from error
    return body


def parse(body: bytes) -> Metadata:
    """The metadata whose canonical bytes are `body`.

    RemoteProtocolError if it is too large, is not canonical JSON, lacks or adds a member, or
    breaks a rule of `check`.
    """
    if len(body) > MAX_DOCUMENT_BYTES:
        raise RemoteProtocolError(
            f"document of {len(body)} bytes, at most {MAX_DOCUMENT_BYTES} are allowed"
        )
    try:
        metadata = msgspec.json.decode(body, type=Metadata)
        again = rfc8785.dumps(_plain(metadata))
    except (msgspec.DecodeError, rfc8785.CanonicalizationError, UnicodeError) as error:
        raise RemoteProtocolError(f"document: {error}") from error
    if again != body:
        raise RemoteProtocolError("document is not in canonical form (RFC 8785)")
    check(metadata)
    return metadata


def check(metadata: Metadata) -> None:
    """RemoteProtocolError unless the parts of `metadata` fit each other."""
    parts = {"data": metadata.schema is not None, "algorithm": metadata.algorithm is not None}
    for kind, present in parts.items():
        if present and metadata.type != kind:
            raise RemoteProtocolError(f"a document of type {metadata.type} has no part for {kind}")
    if tuple(sorted(set(metadata.children))) != metadata.children:
        raise RemoteProtocolError("children must be sorted and unique")
    if metadata.type == "data" and not metadata.children and metadata.schema is None:
        raise RemoteProtocolError("a data document without children needs a schema")
    if metadata.type == "algorithm":
        _check_algorithm(metadata)


def _check_algorithm(metadata: Metadata) -> None:
    algorithm = metadata.algorithm
    if algorithm is None or not metadata.children:
        raise RemoteProtocolError("an algorithm needs children and a workflow")
    named = tuple(step.cdt for step in algorithm.workflow)
    if len(set(named)) != len(named) or not set(algorithm.pool) <= set(named):
        raise RemoteProtocolError("each leaf has one step of the workflow, those of the pool too")
    if len(set(algorithm.pool)) != len(algorithm.pool) or algorithm.seats > len(algorithm.pool):
        raise RemoteProtocolError("the pool holds too few compute assets for the seats")
    if 2 * algorithm.threshold >= algorithm.seats:
        raise RemoteProtocolError("a committee needs 2 t < m")


def proof_of(body: bytes) -> Digest:
    """The proof of a document: SHA-256 of its canonical bytes."""
    return Digest(hashlib.sha256(body).digest())


def cid_of(proof: bytes) -> str:
    """The CIDv1 (raw, sha2-256, base32) of the bytes whose SHA-256 is `proof`."""
    return "b" + base64.b32encode(CID_PREFIX + proof).decode().lower().rstrip("=")


def proof_in(cid: str) -> Digest:
    """The SHA-256 that `cid` names; RemoteProtocolError unless it is a raw sha2-256 CIDv1."""
    padded = cid[1:].upper() + "=" * (-len(cid[1:]) % 8)
    try:
        raw = base64.b32decode(padded)
    except ValueError as error:
        raise RemoteProtocolError(f"{cid!r:.80} is not a content address") from error
    if cid[:1] != "b" or raw[:4] != CID_PREFIX or len(raw) != 36 or cid_of(raw[4:]) != cid:
        raise RemoteProtocolError(f"{cid!r:.80} is not a raw sha2-256 CIDv1 in base32")
    return Digest(raw[4:])


def storage_path(proof: bytes) -> str:
    """Where the document with this proof is found."""
    return STORAGE_SCHEME + cid_of(proof)


def proof_at(path: str) -> Digest:
    """The proof of the document stored at `path`; RemoteProtocolError for another scheme."""
    if not path.startswith(STORAGE_SCHEME):
        raise RemoteProtocolError(f"storage path {path!r:.80} does not start with {STORAGE_SCHEME}")
    return proof_in(path.removeprefix(STORAGE_SCHEME))


def plan_hash(algorithm: Algorithm) -> Digest:
    """SHA-256 of the plan (workflow, pool, recipient, purpose): this is what is attested."""
    return proof_of(rfc8785.dumps(_plain(algorithm)))


def terms_hash(terms: Terms) -> Digest:
    """SHA-256 of `terms` in canonical form: what a grant's signature covers of them."""
    return proof_of(rfc8785.dumps(_plain(terms)))


def rounded_rows(rows: int) -> int:
    """`rows` rounded down to 1, 2 or 5 times a power of ten, so that a count tells little."""
    if rows <= 0:
        return 0
    power = int("1" + "0" * (len(str(rows)) - 1))
    return max(step * power for step in (1, 2, 5) if step * power <= rows)


def _plain(part: msgspec.Struct) -> Any:
    return msgspec.to_builtins(part)
