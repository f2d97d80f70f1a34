"""The messages between nodes: gossip, and one request and one answer for each stream.

A stream is authenticated by the peers' Noise handshake, so requests carry no signature of their
own; what must be shown to others later (announcements, bindings, grants, manifests, usage) is
signed by itself.
"""

from typing import Annotated

import msgspec

from protocol.binding import Binding
from protocol.codec import (
    U31,
    U32,
    U53,
    AmountText,
    Bytes20,
    Bytes32,
    Bytes64,
    Name,
    PeerIdText,
    SmallBytes,
    Text,
    Wire,
)
from protocol.draw import Draw, SignedPledge
from protocol.manifest import Address, Role

DOCUMENT_PROTOCOL = "/northbund/document/1"
NEGOTIATION_PROTOCOL = "/northbund/negotiation/1"
ATTESTATION_PROTOCOL = "/northbund/attestation/1"
SESSION_PROTOCOL = "/northbund/session/1"
REVOCATION_PROTOCOL = "/northbund/revocation/1"
TUNNEL_PROTOCOL = "/northbund/tunnel/1"

MAX_CHECKED = 24
Checked = Annotated[tuple[Text, ...], msgspec.Meta(max_length=MAX_CHECKED)]
"""What a yes rests on: each rule that was checked, in plain words. A no names its rule too."""

MAX_ANNOUNCEMENT_BYTES = 16_384
MAX_PART_BYTES = 65_536
CidText = Annotated[str, msgspec.Meta(min_length=1, max_length=80, pattern=r"\A[a-z0-9]+\Z")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]


def topic(network: str) -> str:
    """The gossip topic of a network's announcements."""
    return f"/northbund/{network}/cdt/1"


class Announcement(Wire, frozen=True, tag="announcement"):
    """A signed hint that an asset exists and where its document is; the chain decides.

    Of one author about one asset the highest `seq` counts. `withdrawn`: the owner does not offer
    the asset any more. `binding` shows that the author speaks for the owner, where it has one.
    """

    cdt: Bytes32
    owner: Bytes20
    proof: Bytes32
    kind: Annotated[str, msgspec.Meta(pattern=r"\A(data|compute|algorithm)\Z")]
    name: Title
    endpoint: PeerIdText
    addresses: Annotated[tuple[Text, ...], msgspec.Meta(max_length=8)]
    seq: U53
    not_after: U53
    withdrawn: bool = False
    binding: Binding | None = None


class DocumentRequest(Wire, frozen=True, tag="document-request"):
    """The bytes from `offset` on of the document with this content address, please."""

    cid: CidText
    offset: Annotated[int, msgspec.Meta(ge=0, lt=262_144)]


class DocumentAnswer(Wire, frozen=True, tag="document"):
    """The next MAX_PART_BYTES of a document of `total` bytes, or as many as are left of it.

    `total` 0: it is not here, or the asker has to wait `wait_s` seconds before it is served again.
    """

    total: Annotated[int, msgspec.Meta(ge=0, le=262_144)]
    part: Annotated[bytes, msgspec.Meta(max_length=65_536)]
    wait_s: U31


class ContractRequest(Wire, frozen=True, tag="contract-request"):
    """The consumer asks for one edge: `child`, the provider's asset, under `parent`."""

    process: Bytes32
    child: Bytes32
    parent: Bytes32
    parent_proof: Bytes32
    consumer: Bytes20
    attester: Bytes20
    decider: Bytes20
    pay_amount: AmountText
    uses: U31
    expires: U53


class GrantTerms(Wire, frozen=True, tag="grant"):
    """What the provider's EIP-712 signature covers; the members are those of the contract."""

    child: Bytes32
    parent: Bytes32
    terms: Bytes32
    owner: Bytes20
    epoch: U32
    consumer: Bytes20
    consumer_epoch: U32
    market: Bytes20
    token: Bytes20
    decider: Bytes20
    price: AmountText
    unit: Annotated[int, msgspec.Meta(ge=0, le=2)]
    max_uses: U32
    expiry: U53
    seq: U31


class ContractAgreement(Wire, frozen=True, tag="contract-agreement"):
    """Yes, as the signed grant says."""

    process: Bytes32
    grant: GrantTerms
    signature: SmallBytes


class Reason(Wire, frozen=True, tag="reason"):
    """One constraint that failed: what was asked and what would pass."""

    operand: Text
    asked: Text
    allowed: Text


class ContractTermination(Wire, frozen=True, tag="contract-termination"):
    """No, for these reasons; or the process is over."""

    process: Bytes32
    sentence: Text
    reasons: Annotated[tuple[Reason, ...], msgspec.Meta(max_length=64)]


class ContractOffer(Wire, frozen=True, tag="contract-offer"):
    """Not so, but so: these values would pass, for `valid_s` seconds from its receipt.

    Everything else is as it was asked. Offers of a process are numbered from 1.
    """

    process: Bytes32
    number: U31
    price: AmountText
    uses: U31
    expires: U53
    attester: Bytes20
    decider: Bytes20
    valid_s: U31
    reasons: Annotated[tuple[Reason, ...], msgspec.Meta(max_length=64)]


class ContractAcceptance(Wire, frozen=True, tag="contract-acceptance"):
    """Yes to the offer of this number; the grant, please."""

    process: Bytes32
    number: U31


class ContractPending(Wire, frozen=True, tag="contract-pending"):
    """A person decides about `reasons`, within `valid_s` seconds from now; ask again."""

    process: Bytes32
    valid_s: U31
    reasons: Annotated[tuple[Reason, ...], msgspec.Meta(max_length=64)]


class ContractReceived(Wire, frozen=True, tag="contract-received"):
    """What you said unasked is kept here: your withdrawal, or your answer."""

    process: Bytes32


class ContractVerification(Wire, frozen=True, tag="contract-verification"):
    """The consumer has checked the grant's signature and holds it."""

    process: Bytes32


class ContractFinalized(Wire, frozen=True, tag="contract-finalized"):
    """The provider knows that the consumer holds the grant."""

    process: Bytes32


class AttestationRequest(Wire, frozen=True, tag="attestation-request"):
    """Your signature over this task's plan, if you have attested it."""

    task: Bytes32


class AttestationAnswer(Wire, frozen=True, tag="attestation"):
    """The attester's own EIP-712 signature over {task, plan hash, deadline}."""

    task: Bytes32
    plan: Bytes32
    deadline: U53
    attester: Bytes20
    signature: SmallBytes


class SessionProposal(Wire, frozen=True, tag="session-proposal"):
    """The recipient's node asks the others to take part in one run of an attested task."""

    session: Bytes32
    attempt: U31
    attestation: AttestationAnswer


class SessionPledged(Wire, frozen=True, tag="session-pledged"):
    """An owner's yes to the proposal: its pledge for the draw, and what it has checked."""

    pledge: SignedPledge
    checked: Checked


class SessionInquiry(Wire, frozen=True, tag="session-inquiry"):
    """An owner asks a node of the pool: are you there, and would you sit in this session?"""

    proposal: SessionProposal


class SessionPledges(Wire, frozen=True, tag="session-pledges"):
    """All owners' pledges by rising account: now each may reveal its nonce."""

    session: Bytes32
    pledges: Annotated[tuple[SignedPledge, ...], msgspec.Meta(min_length=1, max_length=16)]


class SessionNonce(Wire, frozen=True, tag="session-nonce"):
    """The nonce that this owner is committed to."""

    session: Bytes32
    nonce: Bytes32


class SessionDraw(Wire, frozen=True, tag="session-draw"):
    """What the committee follows from: whoever sits or brings rows starts its workers."""

    proposal: SessionProposal
    draw: Draw


class Seat(Wire, frozen=True, tag="seat"):
    """One worker process that is ready to take part: its role and how to reach and know it."""

    role: Role
    certificate: SmallBytes
    session_key: Bytes32
    address: Address


class SessionJoined(Wire, frozen=True, tag="session-joined"):
    """Yes, with these workers, after these checks."""

    organisation: Name
    account: Bytes20
    seats: Annotated[tuple[Seat, ...], msgspec.Meta(min_length=1, max_length=4)]
    checked: Checked


class SessionDeclined(Wire, frozen=True, tag="session-declined"):
    """No: `rule` names what forbids it, `sentence` says why."""

    rule: Name
    sentence: Text


class ManifestOffer(Wire, frozen=True, tag="manifest-offer"):
    """One part of the manifest in its canonical bytes, to be checked and signed."""

    session: Bytes32
    part: Annotated[bytes, msgspec.Meta(max_length=131_072)]


class ManifestSignature(Wire, frozen=True, tag="manifest-signature"):
    """The node's Ed25519 signature over that part (as `envelope.seal` makes it), and why."""

    session: Bytes32
    signature: Bytes64
    checked: Checked


class ManifestSigned(Wire, frozen=True, tag="manifest-signed"):
    """That part with everybody's signature: (peer id, signature) in the order of peer ids."""

    session: Bytes32
    part: Annotated[bytes, msgspec.Meta(max_length=131_072)]
    signatures: Annotated[
        tuple[tuple[PeerIdText, Bytes64], ...], msgspec.Meta(min_length=1, max_length=64)
    ]


class SessionStatusRequest(Wire, frozen=True, tag="session-status-request"):
    """How far is this node with the session?"""

    session: Bytes32


class SessionStatus(Wire, frozen=True, tag="session-status"):
    """The state of the session at this node, with the reason where it was aborted."""

    session: Bytes32
    state: Name
    reason: Text
    blamed: Annotated[tuple[Text, ...], msgspec.Meta(max_length=8)]
    rows_hash: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    rows: U31 = 0


class SessionAbort(Wire, frozen=True, tag="session-abort"):
    """The session is over here; everybody else stops too."""

    session: Bytes32
    reason: Text
    blamed: Annotated[tuple[Text, ...], msgspec.Meta(max_length=8)]


class Due(Wire, frozen=True, tag="due"):
    """What one owner is owed for one leaf, and for how many rows and openings."""

    child: Bytes32
    owner: Bytes20
    amount: AmountText
    rows: U53
    openings: U53


class UsageRecord(Wire, frozen=True, tag="usage"):
    """What was used in a session, to be signed by every owner and the recipient on EIP-712."""

    session: Bytes32
    task: Bytes32
    manifest: Bytes32
    result: Bytes32
    dues: Annotated[tuple[Due, ...], msgspec.Meta(min_length=1, max_length=64)]


class UsageSignature(Wire, frozen=True, tag="usage-signature"):
    """The account's EIP-712 signature over the usage."""

    session: Bytes32
    account: Bytes20
    signature: SmallBytes


class TunnelRequest(Wire, frozen=True, tag="tunnel-request"):
    """What follows on this stream is for the worker of `party` in that session, and from it."""

    session: Bytes32
    party: Text


class Acknowledged(Wire, frozen=True, tag="acknowledged"):
    """Received and acted upon."""

    session: Bytes32


class Revocation(Wire, frozen=True, tag="revocation"):
    """The owner takes back its grants of this edge up to `seq`; travels in an `envelope.Signed`."""

    child: Bytes32
    parent: Bytes32
    seq: U31


class RevocationNoted(Wire, frozen=True, tag="revocation-noted"):
    """The revocation is known here, and nothing runs under that grant any more."""

    child: Bytes32
    parent: Bytes32
    seq: U31
