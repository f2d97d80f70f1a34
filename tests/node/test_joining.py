"""[listen] and [peers] of northbund.toml: what each key does, and what is said of a wrong one."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from node.cli.initialise import NewNode, configuration
from node.config import Config, parse
from node.discovery import Discovery
from node.errors import Fault
from node.host import PeerUnreachable
from node.joining import admission_of, discovery_of, join, limits_of
from node.keys import PeerKey, load_network_key
from node.libp2p_guard import Limits
from node.store import open_memory

PEER = PeerKey(bytes([7]) * 32).peer_id
FULL = f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"
HEAD = 'name = "a"\nnetwork = "test"\n'
ECHO = "/northbund/echo/1"


def read(text: str) -> Config:
    return parse(HEAD + text, Path("/node"), "northbund.toml")


def test_without_a_word_all_is_open_and_nothing_is_sought() -> None:
    peers = read("").peers
    assert limits_of(peers.caps) == Limits()
    admission = admission_of(peers)
    assert admission.refuse_peer(PEER) is None
    assert admission.refuse_address("192.0.2.1") is None
    assert discovery_of(peers) == Discovery()
    assert load_network_key(peers.network_key_file) is None


def test_lists_are_of_peers_and_of_ranges() -> None:
    config = read(f'[peers]\nallow = ["{PEER}"]\ndeny = ["192.0.2.0/24", "2001:db8::/32"]')
    admission = admission_of(config.peers)
    assert admission.allow_peers == {PEER}
    assert admission.deny_ranges == (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert admission.refuse_address("2001:db8::1") == "its address is on the deny list"


def test_caps_and_ways_of_discovery_arrive() -> None:
    config = read(
        f'[peers]\nbootstrap = ["{FULL}"]\nmdns = true\nkademlia = true\n'
        f'[peers.relay]\nthrough = ["{FULL}"]\nserve = true\n'
        "[peers.caps]\nconnections = 7\nconnections_per_peer = 2\nbytes_per_range = 65536\n"
    )
    limits, found = limits_of(config.peers.caps), discovery_of(config.peers)
    assert (limits.inbound_connections, limits.connections_per_peer) == (7, 2)
    assert limits.bytes_per_second_per_address == 65_536
    assert found.bootstrap == found.relays == (FULL,)
    assert found.local_network
    assert found.kademlia
    assert found.serve_relay


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[listen]\nannounce = ['x']", "listen, announce number 1: expected an address like"),
        ("[listen]\nannounce = ['/ip4/300.1.1.1/tcp/1']", "'300.1.1.1' is no IPv4 address"),
        ("[listen]\nannounce = ['/ip6/1.1.1.1/tcp/1']", "'1.1.1.1' is no IPv6 address"),
        ("[listen]\nlibp2p = '/ip4/1.1.1.1/tcp/70000'", "has a port over 65535"),
        (
            "[peers]\nbootstrap = ['/ip4/192.0.2.1/tcp/1']",
            "peers, bootstrap number 1: expected an address that ends in the peer's id",
        ),
        ("[peers]\nbootstrap = ['/ip4/1.1.1.1/tcp/1/p2p/Qm']", "bootstrap: 'Qm' is no peer id"),
        (
            "[peers]\nallow = ['192.0.2.0/33']",
            "peers, allow: '192.0.2.0/33' is neither a peer id nor a range of addresses like",
        ),
        ("[peers]\ndeny = ['192.0.2.1/24']", "peers, deny: '192.0.2.1/24' is neither"),
        (f"[peers]\nallow = ['{PEER}']\ndeny = ['{PEER}']", "is both allowed and denied"),
        ("[peers]\nmdsn = true", "northbund.toml, peers: unknown key 'mdsn'; did you mean 'mdns'?"),
        ("[peers]\nnetwork_key_file = 3", "peers, network_key_file: expected a path in quotes"),
        ("[peers.caps]\nconnections = 0", "peers, caps, connections: expected a whole number >= 1"),
        ("[peers.caps]\nbytes_per_peer = 1", "caps, bytes_per_peer: expected a whole number >= 65"),
        (
            f"[peers.relay]\nthrough = ['/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}']",
            "is itself behind a relay",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(Fault) as caught:
        read(text)
    assert caught.value.kind == "config-invalid"
    assert sentence in caught.value.sentence
    assert "\n" not in caught.value.sentence


def key_file(folder: Path, held: bytes, mode: int = 0o600) -> Path:
    path = folder / "network.key"
    path.write_bytes(held)
    path.chmod(mode)
    return path


def test_a_network_key_is_raw_or_hexadecimal(tmp_path: Path) -> None:
    key = bytes(range(32))
    assert load_network_key(key_file(tmp_path, key)) == key
    assert load_network_key(key_file(tmp_path, key.hex().encode() + b"\n")) == key


@pytest.mark.parametrize(
    ("held", "mode", "kind"),
    [
        (b"", 0o600, "key-damaged"),
        (b"ab" * 31, 0o600, "key-damaged"),
        (b"zz" * 32, 0o600, "key-damaged"),
        ("é".encode() * 20, 0o600, "key-damaged"),
        (bytes(32), 0o640, "key-unsafe"),
    ],
)
def test_a_wrong_network_key_is_one_sentence(
    tmp_path: Path, held: bytes, mode: int, kind: str
) -> None:
    with pytest.raises(Fault) as caught:
        load_network_key(key_file(tmp_path, held, mode))
    assert caught.value.kind == kind
    with pytest.raises(Fault, match="is not there"):
        load_network_key(tmp_path / "nothing")


def test_init_closed_says_where_the_key_is() -> None:
    new = NewNode("a", "test", "/ip4/127.0.0.1/tcp/4001", "127.0.0.1", 0, None, True, closed=True)
    config = parse(configuration(new), Path("/node"), "northbund.toml")
    assert config.peers.network_key_file == Path("/node/network.key")


async def test_members_of_a_closed_network_meet_through_its_bootstrap(tmp_path: Path) -> None:
    async def echo(_peer: str, request: bytes) -> bytes:
        return request

    key = key_file(tmp_path, bytes([9]) * 32)
    closed = f'[peers]\nnetwork_key_file = "{key}"\n'
    async with join(read(closed), bytes([1]) * 32, open_memory(), {}) as one:
        one.serve(ECHO, echo)
        entry = f'bootstrap = ["{one.addresses[0]}"]'
        async with join(read(closed + entry), bytes([2]) * 32, open_memory(), {}) as two:
            assert await two.request(one.peer_id, ECHO, b"x", timeout_s=5) == b"x"
        async with join(read("[peers]\n" + entry), bytes([3]) * 32, open_memory(), {}) as outsider:
            with pytest.raises(Fault):
                await outsider.request(one.peer_id, ECHO, b"x", timeout_s=0.5)
            assert outsider.peers()[0].connected is False


async def test_the_address_range_list_holds_for_dials_by_name() -> None:
    config = read('[peers]\ndeny = ["127.0.0.0/8"]')
    async with join(config, bytes([1]) * 32, open_memory(), {}) as host:
        host.know(PEER, ["/dns4/localhost/tcp/4001"])
        with pytest.raises(PeerUnreachable, match="on the deny list"):
            await host.request(PEER, ECHO, b"x", timeout_s=5)
