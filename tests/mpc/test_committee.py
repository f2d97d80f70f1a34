"""What m members with threshold t can show, and which topology a session has."""

import pytest

from mpc.committee import Committee
from mpc.topology import alignment_channels, control_channels, round_channels


@pytest.mark.parametrize(
    ("m", "t", "detectable", "correctable"),
    [(3, 1, 1, 0), (4, 1, 2, 1), (5, 2, 2, 1), (7, 3, 3, 1)],
)
def test_what_a_committee_can_show(m, t, detectable, correctable):
    committee = Committee(tuple("abcdefg"[:m]), t)
    assert committee.points == tuple(range(1, m + 1))
    assert (committee.detectable, committee.correctable) == (detectable, correctable)
    assert committee.named((2, 1)) == ("b", "a")


@pytest.mark.parametrize(("names", "t"), [("ab", 1), ("abc", 0), ("abcd", 2), ("aab", 1)])
def test_impossible_committees_are_refused(names, t):
    with pytest.raises(ValueError, match="committee"):
        Committee(tuple(names), t)


def test_every_channel_stands_once_and_joins_two_parties():
    parties, members = ["a", "b", "c"], ["x", "y", "z"]
    channels = control_channels([*parties, *members])
    channels += alignment_channels(parties, "x")
    channels += round_channels(["a", "b"], members, "c", mpyc=True)
    assert len(set(channels)) == len(channels) == 15 + 14 + 2 + 3 + 6 + 3 + 5 + 6
    assert all(channel.sender != channel.receiver for channel in channels)
