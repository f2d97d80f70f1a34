"""Who sits in a committee: drawn from the pool by a seed that no party alone knows or picks.

Each owner whose data enters commits to a nonce, and says in the same signed pledge which compute
assets of the pool it sees alive itself. Only when the pledges of all owners are known to all does
each reveal its nonce. The seed is the hash of session, task and all nonces; those that any owner
sees alive are put in order by hash(seed, asset), and the first m of them sit. Everybody who takes
part computes this itself from the signed pledges, before it starts or signs anything, and so can
an auditor from the roster.

Adversary: the recipient, who carries the messages, and all owners but one, who collude; members.
Threshold: one honest owner. Its nonce is hidden until every pledge is fixed (a SHA-256 commitment
to 32 random bytes, bound to session, task and account), so the seed cannot be steered; it signs
what it sees, so no member that it sees alive can be declared dead; and it finds its own pledge
unchanged among those on which the draw rests, so nobody is shown another set. A member that is
seen by one owner alone stays in the draw: asking for all owners' word was rejected, because then
a single colluding owner could leave out every member that it does not like. An owner that calls a
dead member alive only makes attempts fail.

What is left: who reveals last can refuse, having seen the seed, and so can the recipient or a
member that was drawn. Nothing can be proved against a node that falls silent; it is named, and
every session of an attestation counts, failed ones included, at each owner by its own count. A
wish that comes true by chance with probability p comes true with at most 1 - (1 - p)^16 over the
16 attempts that an attestation has, and all failed ones stand in the last roster. So the draw keeps
a wanted committee from being picked; that t+1 of one operator never sit, in ANY draw, is what the
floor on the whole pool is for, which every owner judges by its own configuration before it grants
(`privacy.committee_floor`): so owners that see operators differently still agree on the draw, and
one that finds its floor broken says no by name instead of wishing for another result.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from protocol import envelope
from protocol.codec import U31, Bytes20, Bytes32, Bytes64, Wire, encode, sha256
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, Digest, hexadecimal

MAX_ATTEMPTS = 16
"""Sessions of one attestation, failed ones included: more would let a committee be wished for."""

MAX_OWNERS = 16
MAX_POOL = 16
NONCE_BYTES = 32
_COMMIT, _SEED, _PLACE = b"northbund/commit\x00", b"northbund/seed\x00", b"northbund/place\x00"


class Pledge(Wire, frozen=True, tag="pledge"):
    """One owner's part in a draw before its nonce is known.

    `earlier` is how many sessions of this attestation the owner has pledged for before, `alive`
    the compute assets of the pool whose nodes answered it just now, rising.
    """

    session: Bytes32
    task: Bytes32
    account: Bytes20
    earlier: U31
    commitment: Bytes32
    alive: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_POOL)]


class SignedPledge(Wire, frozen=True, tag="signed-pledge"):
    """A pledge with the Ed25519 signature of its owner's peer (as `envelope.seal` makes it)."""

    pledge: Pledge
    signature: Bytes64


class Draw(Wire, frozen=True, tag="draw"):
    """Everything that the draw follows from: pledges by rising account, and each one's nonce."""

    pledges: Annotated[tuple[SignedPledge, ...], msgspec.Meta(max_length=MAX_OWNERS)]
    nonces: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_OWNERS)]


@dataclass(frozen=True, slots=True)
class Seating:
    """Who sits, in the order of the draw, and which of them helps to align."""

    members: tuple[Account, ...]
    helper: Account | None


def commit(session: bytes, task: bytes, account: bytes, nonce: bytes) -> Digest:
    """The commitment to `nonce` (32 bytes) of one owner for one session of one task."""
    return sha256(_COMMIT + session + task + account + nonce)


def check_pledges(
    pledges: Sequence[SignedPledge],
    session: bytes,
    task: bytes,
    keys: Mapping[bytes, bytes],
    pool: Iterable[bytes],
) -> None:
    """RemoteProtocolError unless there is one sound pledge of each owner, by rising account.

    `keys` are the Ed25519 keys of the owners' peers by account. A pledge is sound if its owner
    signed it for this session and task, it names assets of the pool alone, and the attestation
    has an attempt left by the owner's count.
    """
    if [each.pledge.account for each in pledges] != sorted(keys):
        raise RemoteProtocolError("the draw needs exactly one pledge of each owner")
    assets = set(pool)
    for each in pledges:
        pledge, who = each.pledge, hexadecimal(each.pledge.account)
        if (pledge.session, pledge.task) != (session, task):
            raise RemoteProtocolError(f"the pledge of {who} is for another session")
        if tuple(sorted(set(pledge.alive))) != pledge.alive or not set(pledge.alive) <= assets:
            raise RemoteProtocolError(f"the pledge of {who} names other assets than the pool's")
        if pledge.earlier >= MAX_ATTEMPTS:
            raise RemoteProtocolError(
                f"{who} has taken part in {pledge.earlier} draws of this attestation, "
                f"at most {MAX_ATTEMPTS} are possible"
            )
        key = keys[pledge.account]
        signed = envelope.Signed(body=encode(pledge), key=key, signature=each.signature)
        envelope.open_signed(signed, Pledge, key=key)


def check_nonces(draw: Draw) -> None:
    """RemoteProtocolError unless each nonce is the one that its owner is committed to."""
    if len(draw.nonces) != len(draw.pledges):
        raise RemoteProtocolError("the draw needs exactly one nonce for each pledge")
    for each, nonce in zip(draw.pledges, draw.nonces, strict=True):
        pledge = each.pledge
        if commit(pledge.session, pledge.task, pledge.account, nonce) != pledge.commitment:
            who = hexadecimal(pledge.account)
            raise RemoteProtocolError(f"the nonce of {who} is not the one that it committed to")


def alive(draw: Draw) -> frozenset[bytes]:
    """The assets that at least one owner sees alive."""
    return frozenset(cdt for each in draw.pledges for cdt in each.pledge.alive)


def seed(session: bytes, task: bytes, draw: Draw) -> Digest:
    """The seed: SHA-256 over session, task and every (account, nonce) by rising account."""
    parts = [
        each.pledge.account + nonce for each, nonce in zip(draw.pledges, draw.nonces, strict=True)
    ]
    return sha256(_SEED + session + task + b"".join(parts))


def order(drawn: bytes, cdts: Iterable[bytes]) -> tuple[bytes, ...]:
    """`cdts` in the order that the seed `drawn` gives them."""
    return tuple(sorted(cdts, key=lambda cdt: sha256(_PLACE + drawn + cdt)))


def seat(
    drawn: bytes,
    owners: Mapping[bytes, bytes],
    seats: int,
    with_rows: frozenset[bytes],
) -> Seating:
    """Who sits of the living assets `owners` (asset -> account, each account once).

    The first `seats` in the order of the seed. The helper of the alignment must bring no rows:
    it is the first such member, and where the first `seats` all bring rows the last of them gives
    way to the next that brings none, if one is alive. RemoteProtocolError if too few are alive.
    """
    ranked = [Account(owners[cdt]) for cdt in order(drawn, owners)]
    if len(ranked) < seats:
        raise RemoteProtocolError(
            f"{len(ranked)} compute assets of the pool are alive, {seats} have to sit"
        )
    helper = next((account for account in ranked if account not in with_rows), None)
    sitting = ranked[:seats]
    if helper is not None and helper not in sitting:
        sitting[-1] = helper
    return Seating(tuple(sitting), helper)
