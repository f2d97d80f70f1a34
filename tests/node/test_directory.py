"""Who speaks for whom: configuration, then the chain, then gossip; what ends it and what is not."""

from pathlib import Path

import msgspec
import pytest
from eth_account import Account as EthAccount
from nacl.signing import SigningKey

from chain import events, projection
from chain.schema import MIGRATIONS
from node import acquaintances, assets
from node.bindings import Bindings
from node.config import from_table
from node.directory import Directory
from node.engine import Engine
from node.errors import Fault
from node.organisation_records import printable
from node.store import open_store
from protocol import binding, documents, typed_data
from protocol.binding import CLOCK_TOLERANCE_S, Binding
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, PeerId, hexadecimal
from protocol.peers import peer_id_of
from protocol.typed_data import Bind

NOW = 1_800_000_000
DOMAIN = typed_data.registry_domain(31337, Account(b"\x11" * 20))
OWN = Account(b"\x01" * 20)
CONFIGURED = Account(b"\x02" * 20)
LOCAL = EthAccount.from_key(b"\x07" * 32)
STRANGER = Account(bytes.fromhex(LOCAL.address[2:]))
KEY, OTHER = SigningKey(b"\x09" * 32), SigningKey(b"\x0a" * 32)
PUBLIC, OTHERS = bytes(KEY.verify_key), bytes(OTHER.verify_key)
PEER, OTHER_PEER = peer_id_of(PUBLIC), peer_id_of(OTHERS)
CONFIGURED_KEY = SigningKey(b"\x0b" * 32)
CONFIGURED_PEER = peer_id_of(bytes(CONFIGURED_KEY.verify_key))


class World:
    """One node's directory over a database, a clock, and a chain that says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.now = float(NOW)
        self.engine = Engine(open_store(folder / "node.sqlite3", MIGRATIONS), lambda: self.now)
        organisation = {
            "name": "bank-b",
            "account": hexadecimal(CONFIGURED),
            "peer_id": CONFIGURED_PEER,
        }
        table = {"name": "bank-a", "network": "test", "organisations": [organisation]}
        self.bindings = Bindings(self.engine.db, DOMAIN, self.engine.clock)
        config = from_table(table, folder, "test")
        self.directory = Directory.of(config, OWN, PeerId("own"), self.bindings)
        self.said: list[events.Event] = []

    def say(self, kind: type[events.Event], *values: object) -> None:
        """The followed chain says so."""
        place = events.Place(len(self.said), bytes(32), bytes(32), 0)
        event = kind(place, *values)
        self.said.append(event)
        with self.engine.transaction() as tx:
            projection.apply_all(tx.db, [event])
            acquaintances.take_from_chain(tx, event.account)  # type: ignore[attr-defined]
            self.bindings.follow(tx, event.account)  # type: ignore[attr-defined]

    def bind(self, account: Account, key: SigningKey, seq: int, until: int = NOW + 60) -> None:
        """The account binds this peer on chain, rightly signed."""
        message = binding.bind_to(key, account, until, seq)
        signature = binding.sign_as_peer(key, DOMAIN, message)
        self.say(events.PeerBound, account, seq, until, message.peer_id, signature)

    def end(self, account: Account, seq: int) -> None:
        self.say(events.PeerBound, account, seq, 0, b"", b"")

    def reorganise(self, kept: int) -> None:
        """Only the first `kept` things were ever said."""
        del self.said[kept:]
        with self.engine.transaction() as tx:
            projection.rebuild(tx.db, self.said)
            self.bindings.take_back(tx)
            acquaintances.take_back(tx)

    def own_something(self, account: Account) -> None:
        with self.engine.transaction() as tx:
            assets.registered(tx, bytes(12) + account, account, "data", bytes(32), 0)

    def hear(self, heard: Binding) -> bool:
        with self.engine.transaction() as tx:
            return self.bindings.hear(tx, heard)

    def speaks(self, account: Account = STRANGER) -> str | None:
        known = self.directory.of_account(account)
        return known.peer_id if known else None


def gossiped(key: SigningKey, seq: int, until: int = NOW + 60, account: Account = STRANGER):
    message = binding.bind_to(key, account, until, seq)
    digest = typed_data.digest(DOMAIN, message)
    return Binding(
        account=account,
        peer_id=peer_id_of(bytes(key.verify_key)),
        valid_until=until,
        seq=seq,
        account_signature=bytes(LOCAL.unsafe_sign_hash(digest).signature),
        peer_signature=binding.sign_as_peer(key, DOMAIN, message),
    )


def ended(seq: int) -> Binding:
    digest = typed_data.digest(DOMAIN, Bind(STRANGER, b"", NOW + 60, seq))
    return Binding(
        account=STRANGER,
        peer_id="",
        valid_until=NOW + 60,
        seq=seq,
        account_signature=bytes(LOCAL.unsafe_sign_hash(digest).signature),
        peer_signature=b"",
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_configuration_stands_whatever_the_chain_says(world: World) -> None:
    world.bind(CONFIGURED, KEY, 1)
    assert world.speaks(CONFIGURED) == CONFIGURED_PEER
    assert world.directory.bound(CONFIGURED, bytes(CONFIGURED_KEY.verify_key))
    assert not world.directory.bound(CONFIGURED, PUBLIC)
    assert world.directory.of_peer(PEER) is None
    world.bind(STRANGER, CONFIGURED_KEY, 1)
    known = world.directory.of_peer(CONFIGURED_PEER)
    assert known is not None
    assert known.account == CONFIGURED
    assert not world.directory.bound(OWN, PUBLIC)


def test_the_chain_makes_a_stranger_known_without_an_operator(world: World) -> None:
    assert not world.directory.bound(STRANGER, PUBLIC)
    with pytest.raises(Fault, match="no organisation"):
        world.directory.peer_of(STRANGER)
    world.bind(STRANGER, KEY, 1)
    known = world.directory.of_account(STRANGER)
    assert known is not None
    assert known == world.directory.of_peer(PEER)
    assert (known.source, known.operator, known.account) == ("chain", None, STRANGER)
    assert world.directory.bound(STRANGER, PUBLIC)
    assert world.directory.peer_of(STRANGER) == PEER
    assert world.directory.operator(STRANGER) is None
    assert STRANGER not in world.directory.accounts.values()


def test_a_higher_seq_replaces_and_a_lower_one_is_no_news(world: World) -> None:
    world.bind(STRANGER, KEY, 5)
    world.bind(STRANGER, OTHER, 4)  # no contract says this: an endpoint lies
    assert world.speaks() == PEER
    world.bind(STRANGER, OTHER, 6)
    assert world.speaks() == OTHER_PEER
    assert world.directory.of_peer(PEER) is None
    world.end(STRANGER, 7)
    assert world.speaks() is None
    assert not world.directory.bound(STRANGER, OTHERS)


def test_a_peer_that_did_not_sign_is_not_bound_and_ends_what_was_before(world: World) -> None:
    world.bind(STRANGER, KEY, 1)
    message = binding.bind_to(OTHER, STRANGER, NOW + 60, 2)
    world.say(events.PeerBound, STRANGER, 2, NOW + 60, message.peer_id, bytes(64))
    assert world.speaks() is None
    for raw in (b"x", b"\x12" * 38, b"\x00" * 64):
        world.say(events.PeerBound, STRANGER, len(world.said) + 5, NOW + 60, raw, bytes(64))
        assert world.speaks() is None


def test_the_chain_says_numbers_that_no_column_holds(world: World) -> None:
    world.bind(STRANGER, KEY, 2**64 - 1, 2**64 - 1)
    assert world.speaks() == PEER
    assert not world.hear(gossiped(OTHER, 2**53 - 1))


def test_it_ends_by_the_clock_with_some_tolerance(world: World) -> None:
    world.bind(STRANGER, KEY, 1, NOW + 60)
    world.now = NOW + 60 + CLOCK_TOLERANCE_S
    assert world.speaks() == PEER
    world.now += 1
    assert world.speaks() is None


def test_a_reorganisation_takes_back(world: World) -> None:
    world.bind(STRANGER, KEY, 1)
    world.bind(STRANGER, OTHER, 2)
    world.reorganise(1)
    assert world.speaks() == PEER
    world.reorganise(0)
    assert world.speaks() is None
    world.bind(STRANGER, OTHER, 1)
    assert world.speaks() == OTHER_PEER


def test_gossip_counts_for_who_owns_something_on_chain(world: World) -> None:
    assert not world.hear(gossiped(KEY, 1))
    world.own_something(STRANGER)
    assert world.hear(gossiped(KEY, 1))
    known = world.directory.of_account(STRANGER)
    assert known is not None
    assert (known.source, known.peer_id, known.operator) == ("gossip", PEER, None)
    assert world.bindings.signed(STRANGER) == gossiped(KEY, 1)
    assert not world.hear(gossiped(KEY, 1))
    assert not world.hear(gossiped(OTHER, 1))
    assert world.hear(gossiped(OTHER, 2))
    assert world.speaks() == OTHER_PEER
    assert world.hear(ended(3))
    assert world.speaks() is None
    assert not world.hear(gossiped(KEY, 2))


def test_the_chain_wins_over_gossip_while_it_is_in_force(world: World) -> None:
    world.own_something(STRANGER)
    assert world.hear(gossiped(KEY, 9, NOW + 10_000))
    world.bind(STRANGER, OTHER, 5, NOW + 60)
    assert world.speaks() == OTHER_PEER
    assert world.bindings.signed(STRANGER) is None
    world.now = NOW + 1_000  # the chain's is past, and gossip's has the higher number
    assert world.speaks() == PEER
    world.end(STRANGER, 10)
    assert world.speaks() is None
    assert not world.hear(gossiped(KEY, 10, NOW + 10_000))
    assert world.hear(gossiped(KEY, 11, NOW + 10_000))
    assert world.speaks() == PEER


@pytest.mark.parametrize(
    "wrong",
    [
        msgspec.structs.replace(gossiped(KEY, 1), seq=2),
        msgspec.structs.replace(gossiped(KEY, 1), peer_id=OTHER_PEER),
        msgspec.structs.replace(gossiped(KEY, 1), account_signature=b"x"),
        gossiped(KEY, 1, NOW - CLOCK_TOLERANCE_S - 1),
    ],
)
def test_a_false_or_past_binding_is_refused(world: World, wrong: Binding) -> None:
    world.own_something(STRANGER)
    with pytest.raises(RemoteProtocolError):
        world.hear(wrong)
    assert world.speaks() is None


def test_what_gossip_said_goes_with_what_its_account_owned(world: World) -> None:
    world.own_something(STRANGER)
    assert world.hear(gossiped(KEY, 1))
    with world.engine.transaction() as tx:
        tx.db.execute("DELETE FROM assets")
    world.reorganise(0)
    assert world.speaks() is None


def test_a_name_on_chain_stands_with_its_account_and_steers_no_terminal(world: World) -> None:
    world.bind(STRANGER, KEY, 1)
    assert world.directory.name(STRANGER) == hexadecimal(STRANGER)
    world.say(events.OrganisationDeclared, STRANGER, "bank-b", "nowhere")
    assert world.directory.name(STRANGER) == f"bank-b ({hexadecimal(STRANGER)})"
    assert world.directory.name(CONFIGURED) == "bank-b"
    evil = "\x1b[31m<b>bank\u202e\x00\n"
    world.say(events.OrganisationDeclared, STRANGER, evil, "nowhere")
    assert world.directory.name(STRANGER) == f"[31m<b>bank ({hexadecimal(STRANGER)})"
    world.say(events.OrganisationDeclared, STRANGER, "\u200b\t", "nowhere")
    assert world.directory.name(STRANGER) == hexadecimal(STRANGER)
    world.say(events.OrganisationDeclared, STRANGER, "n" * 65, "")  # no contract says this
    assert world.directory.name(STRANGER) == hexadecimal(STRANGER)
    assert printable("  a \t b ") == "a b"


def test_where_a_record_is_found_follows_the_chain(world: World) -> None:
    path = documents.storage_path(b"\x05" * 32)
    world.say(events.OrganisationDeclared, STRANGER, "s", path)
    assert acquaintances.proof_of(world.engine.db, STRANGER) == b"\x05" * 32
    world.say(events.OrganisationDeclared, STRANGER, "s", "ipfs://nonsense")
    assert acquaintances.proof_of(world.engine.db, STRANGER) is None
    world.reorganise(1)
    assert acquaintances.proof_of(world.engine.db, STRANGER) == b"\x05" * 32
    world.reorganise(0)
    assert acquaintances.proof_of(world.engine.db, STRANGER) is None
