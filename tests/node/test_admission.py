"""Allow and deny lists, and what counts as one place."""

from ipaddress import ip_network

import pytest

from node.admission import Admission, origin


def test_a_denial_wins_over_an_allowance() -> None:
    lists = Admission(
        allow_peers=frozenset({"a", "b"}),
        deny_peers=frozenset({"b"}),
        allow_ranges=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        deny_ranges=(ip_network("10.1.0.0/16"),),
    )
    assert lists.refuse_peer("a") is None
    assert lists.refuse_peer("b") == "it is on the deny list"
    assert lists.refuse_peer("c") == "it is not on the allow list"
    assert lists.refuse_address("10.2.0.1") is None
    assert lists.refuse_address("2001:db8::1") is None
    assert lists.refuse_address("10.1.0.1") == "its address is on the deny list"
    assert lists.refuse_address("192.0.2.1") == "its address is not on the allow list"


def test_without_lists_everybody_is_welcome() -> None:
    assert Admission().refuse_peer("a") is None
    assert Admission().refuse_address("192.0.2.1") is None


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
    ],
)
def test_one_place_is_an_address_or_a_64(address: str, place: str) -> None:
    assert origin(address) == place
