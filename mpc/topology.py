"""Which worker sends what to which: the channels of a session, the same list at every party."""

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Final

from mpc.channels import Channel
from mpc.watch import CONTROL

MASKED: Final = "masked"
POSITIONS: Final = "positions"
SALT: Final = "salt"
ORDERS: Final = "orders"
HEADERS: Final = "headers"
SHARES: Final = "shares"
SUMS: Final = "sums"
PROOFS: Final = "proofs"
MPYC: Final = "mpyc"


def control_channels(parties: Sequence[str]) -> list[Channel]:
    """One control connection for every two parties."""
    return [Channel(a, b, CONTROL) for a, b in combinations(sorted(parties), 2)]


def at_hop(hop: int) -> str:
    """The label of the connection on which a list makes its step number `hop`, from 1, to the next.

    A connection for each step, so that a party that lets one list wait lets no other wait: with
    one for all steps, parties that all send and do not yet receive would wait for ever.
    """
    return f"list-{hop}"


def alignment_channels(parties: Sequence[str], helper: str) -> list[Channel]:
    """The ring of those who align, their last step to the helper, and its answer to each.

    The recipient is the last of `parties`; it sends the salt of the row hash to all others.
    """
    recipient = parties[-1]
    following = [*parties[1:], parties[0]]
    channels = [
        Channel(a, b, at_hop(hop))
        for a, b in zip(parties, following, strict=True)
        for hop in range(1, len(parties))
    ]
    channels += [Channel(party, helper, MASKED) for party in parties]
    channels += [Channel(helper, party, POSITIONS) for party in parties]
    channels += [Channel(recipient, owner, SALT) for owner in parties[:-1]]
    return channels


def round_channels(
    contributors: Sequence[str], members: Sequence[str], recipient: str, *, mpyc: bool
) -> list[Channel]:
    """Orders and headers from the recipient, shares to the members, sums back to the recipient;
    and from both, what they say in a check of sharings.

    With `mpyc`, two channels for every two members, one in each direction.
    """
    channels = [Channel(recipient, owner, ORDERS) for owner in contributors]
    channels += [Channel(recipient, member, HEADERS) for member in members]
    channels += [Channel(owner, member, SHARES) for owner in contributors for member in members]
    channels += [Channel(member, recipient, SUMS) for member in members]
    channels += [Channel(party, recipient, PROOFS) for party in (*contributors, *members)]
    if mpyc:
        channels += [Channel(a, b, MPYC) for a, b in permutations(members, 2)]
    return channels
