"""What all parties of a session sign, and the header of each round.

The manifest has two parts. The **roster** is signed by every node before a byte of data flows:
who takes part, with which certificate and session key, what is computed, by which code, under
which deadlines. After the alignment the **row set** is signed: how many rows, a salted hash of
which, and the recipient's receipt. Its digest names the session's manifest from then on.

Rows are positions in the common order that the alignment gave; a round's header pins them and
the last gradient by hash, so that every owner and every member acts on one view (floor 5 of
`protocol/README.md`).
"""

from typing import Annotated, Literal

import msgspec

from protocol.codec import U31, Bytes20, Bytes32, Name, PeerIdText, SmallBytes, Text, Wire
from protocol.draw import Draw
from protocol.errors import RemoteProtocolError
from protocol.identifiers import IdentifierRule

Role = Literal["contributor", "member", "recipient"]
Engine = Literal["lane", "mpyc"]
Stage = Literal["train", "evaluate", "close"]

MAX_PARTIES = 64
MIN_BATCH_ROWS = 16
Address = Annotated[str, msgspec.Meta(max_length=128, pattern=r"\A\S+:[0-9]{1,5}\Z")]


class Party(Wire, frozen=True, tag="party"):
    """One worker process of one organisation, as the session's manifest names it."""

    role: Role
    organisation: Name
    account: Bytes20
    peer_id: PeerIdText
    certificate: SmallBytes
    session_key: Bytes32
    address: Address

    @property
    def name(self) -> str:
        """How people and reports name this party; unique in a roster."""
        return f"{self.organisation}/{self.role}"


class Parameters(Wire, frozen=True, tag="shared-features"):
    """The parameters of joint learning on shared features; all are fixed in the algorithm.

    `noise` is relative to the standard deviation of each column of an owner's Z_i over the
    cohort. `clip` bounds each entry of Z_i, `gradient_clip` the Euclidean norm of each row's
    gradient. `learning_rate` is the owner's. `holdout` is the share of rows that are never
    trained on and are opened once, with the final W. `id_rule` is how all parties spell the ids
    that are matched: with two rules, rows would silently not meet. The contributors' sharings are
    checked in the first and then in every `check_every`th round of training, in every opening of
    more than one chunk, and for the rows held out. With fewer than t+2 members left a session ends,
    unless it prefers availability: then t+1 answers suffice, which nothing can be held against. A
    sum made inside MPyC needs them all.
    """

    width: Annotated[int, msgspec.Meta(ge=1, le=64)]
    epochs: Annotated[int, msgspec.Meta(ge=0, le=100)]
    batch_rows: Annotated[int, msgspec.Meta(ge=MIN_BATCH_ROWS, le=65_536)]
    noise: Annotated[float, msgspec.Meta(ge=0, le=100)]
    clip: Annotated[float, msgspec.Meta(gt=0, le=1024)]
    gradient_clip: Annotated[float, msgspec.Meta(gt=0, le=1024)]
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1024)]
    holdout: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    engine: Engine
    evaluation_engine: Engine
    field: Literal["m61", "m31"]
    check_every: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 64
    prefer: Literal["checks", "availability"] = "checks"
    id_rule: IdentifierRule = "exact"

    @property
    def training_openings(self) -> int:
        """How many times a training row is opened."""
        return self.epochs

    @property
    def numbers_per_row(self) -> int:
        """The most numbers that are opened about one row: a row is trained on or held out."""
        return self.width * max(self.epochs, 1 if self.holdout > 0 else 0)


class Roster(Wire, frozen=True, tag="roster"):
    """The first part of the manifest; `helper` names the member that serves the alignment.

    `draw` is what the committee was drawn by, so that whoever reads the roster can draw again.
    `attestation` is the digest of the attester's EIP-712 message and `attested_in` the hash of
    the block that confirmed it. Deadlines are durations from receipt, in seconds.
    """

    session: Bytes32
    task: Bytes32
    algorithm: Bytes32
    plan: Bytes32
    attestation: Bytes32
    attested_in: Bytes32
    attempt: U31
    draw: Draw
    parties: Annotated[tuple[Party, ...], msgspec.Meta(min_length=1, max_length=MAX_PARTIES)]
    helper: Text
    threshold: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTIES)]
    operation: Name
    code: Bytes32
    parameters: Parameters
    size_cap: U31
    cohort_floor: U31
    round_deadline_s: Annotated[int, msgspec.Meta(ge=1, le=3600)]
    alignment_deadline_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)]

    def by_role(self, role: Role) -> tuple[Party, ...]:
        """The parties of one role in the roster's order; a member's point is its place plus 1."""
        return tuple(party for party in self.parties if party.role == role)

    def party(self, name: str) -> Party:
        """The party called `name`; RemoteProtocolError if there is none."""
        for party in self.parties:
            if party.name == name:
                return party
        raise RemoteProtocolError(f"the roster names no party {name!r:.80}")


class RowSet(Wire, frozen=True, tag="row-set"):
    """The second part of the manifest; its digest is the session's manifest hash.

    `rows_hash` is salted: members sign it and learn nothing about ids. `lineage` names the W
    that is trained: bound to its cohort and row set for life. `receipt` is the recipient's
    EIP-712 signature, by which any owner can claim its price.
    """

    roster: Bytes32
    rows_hash: Bytes32
    rows: U31
    lineage: Bytes32
    receipt: SmallBytes


class RoundHeader(Wire, frozen=True, tag="round-header"):
    """What a round opens: signed by the recipient's session key, compared by every member.

    `rows_hash` is the SHA-256 of the row indices as little-endian u32, `gradient_hash` that of
    the last gradient as little-endian float32 (of no bytes where there was none). A header with
    `check` opens nothing: it asks to prove the sharings of the round that has been opened last.
    """

    manifest: Bytes32
    number: U31
    attempt: U31
    stage: Stage
    rows: U31
    rows_hash: Bytes32
    gradient_hash: Bytes32
    check: bool = False


def check_roster(roster: Roster) -> None:
    """RemoteProtocolError unless the roster is one that a session can be made of.

    Names, certificates, session keys and addresses are unique; there is exactly one recipient,
    the helper is a member, and 2 t < m holds with m >= 3.
    """
    for what in ("name", "certificate", "session_key", "address"):
        values = [getattr(party, what) for party in roster.parties]
        if len(set(values)) != len(values):
            raise RemoteProtocolError(f"two parties of the roster share one {what}")
    members = roster.by_role("member")
    if len(roster.by_role("recipient")) != 1:
        raise RemoteProtocolError("a roster has exactly one recipient")
    if len(members) < 3 or 2 * roster.threshold >= len(members):
        raise RemoteProtocolError(
            f"{len(members)} members cannot hold a threshold of {roster.threshold}: "
            "at least 3 members and 2 t < m are needed"
        )
    if roster.helper not in {member.name for member in members}:
        raise RemoteProtocolError("the helper of the alignment must be one of the members")
