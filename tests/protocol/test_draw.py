"""The draw: nobody steers it, nobody is declared dead, everybody computes the same."""

import hashlib
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from protocol import draw, envelope
from protocol.draw import Draw, Pledge, SignedPledge
from protocol.errors import RemoteProtocolError

SESSION, TASK = b"\x01" * 32, b"\x02" * 32
POOL = {bytes([n]) * 32: bytes([n]) * 20 for n in range(10, 14)}
OWNERS = {bytes([n]) * 20: SigningKey(bytes([n]) * 32) for n in (10, 11)}
KEYS = {account: bytes(key.verify_key) for account, key in OWNERS.items()}
NONCES = {account: account[:1] * 32 for account in OWNERS}


def signed(pledge: Pledge, key: SigningKey) -> SignedPledge:
    return SignedPledge(pledge=pledge, signature=envelope.seal(pledge, key).signature)


def pledged(account: bytes, **changes: object) -> SignedPledge:
    commitment = draw.commit(SESSION, TASK, account, NONCES[account])
    plain = Pledge(
        session=SESSION, task=TASK, account=account, earlier=0, commitment=commitment,
        alive=tuple(sorted(POOL)),
    )  # fmt: skip
    return signed(msgspec.structs.replace(plain, **changes), OWNERS[account])


def drawn(nonces: dict[bytes, bytes] = NONCES) -> Draw:
    pledges = tuple(
        pledged(account, commitment=draw.commit(SESSION, TASK, account, nonces[account]))
        for account in sorted(OWNERS)
    )
    return Draw(pledges=pledges, nonces=tuple(nonces[account] for account in sorted(OWNERS)))


def check(pledges: tuple[SignedPledge, ...]) -> None:
    draw.check_pledges(pledges, SESSION, TASK, KEYS, POOL)


def test_honest_pledges_and_nonces_pass() -> None:
    found = drawn()
    check(found.pledges)
    draw.check_nonces(found)
    assert draw.alive(found) == set(POOL)


FIRST, SECOND = sorted(OWNERS)
WRONG = {
    "one is missing": (pledged(FIRST),),
    "one is there twice": (pledged(FIRST), pledged(FIRST)),
    "in another order": (pledged(SECOND), pledged(FIRST)),
    "of another session": (pledged(FIRST, session=b"\x09" * 32), pledged(SECOND)),
    "of another task": (pledged(FIRST, task=b"\x09" * 32), pledged(SECOND)),
    "a stranger's asset": (pledged(FIRST, alive=(b"\x77" * 32,)), pledged(SECOND)),
    "an asset twice": (pledged(FIRST, alive=(min(POOL), min(POOL))), pledged(SECOND)),
    "too many attempts": (pledged(FIRST, earlier=draw.MAX_ATTEMPTS), pledged(SECOND)),
    "signed by another": (
        SignedPledge(pledge=pledged(FIRST).pledge, signature=pledged(SECOND).signature),
        pledged(SECOND),
    ),
    "an alive asset taken out": (
        SignedPledge(
            pledge=msgspec.structs.replace(pledged(FIRST).pledge, alive=()),
            signature=pledged(FIRST).signature,
        ),
        pledged(SECOND),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_pledges_are_refused(what: str) -> None:
    with pytest.raises(RemoteProtocolError):
        check(WRONG[what])


@pytest.mark.parametrize(
    "nonces", [(), (NONCES[FIRST],), (NONCES[FIRST], NONCES[FIRST]), (NONCES[SECOND],) * 2]
)
def test_a_nonce_that_nobody_committed_to_is_refused(nonces: tuple[bytes, ...]) -> None:
    with pytest.raises(RemoteProtocolError):
        draw.check_nonces(msgspec.structs.replace(drawn(), nonces=nonces))


def test_a_commitment_serves_one_session_one_task_and_one_account() -> None:
    """An old nonce cannot be replayed, and one owner cannot repeat another's commitment."""
    nonce = b"\x05" * 32
    commitments = {
        draw.commit(session, task, account, nonce)
        for session in (SESSION, b"\x08" * 32)
        for task in (TASK, b"\x09" * 32)
        for account in OWNERS
    }
    assert len(commitments) == 8


@given(st.integers(0, 1), st.binary(min_size=32, max_size=32))
def test_every_owners_nonce_moves_the_seed(which: int, other: bytes) -> None:
    account = sorted(OWNERS)[which]
    if other == NONCES[account]:
        return
    before = draw.seed(SESSION, TASK, drawn())
    assert draw.seed(SESSION, TASK, drawn({**NONCES, account: other})) != before


def test_a_member_that_one_owner_sees_is_alive() -> None:
    found = Draw(pledges=(pledged(FIRST, alive=()), pledged(SECOND)), nonces=tuple(NONCES.values()))
    check(found.pledges)
    assert draw.alive(found) == set(POOL)


@given(st.binary(min_size=32, max_size=32), st.integers(3, 16), st.data())
def test_as_many_sit_as_there_are_seats_each_once_and_one_helps(
    seed: bytes, size: int, data: st.DataObject
) -> None:
    pool = {bytes([n]) * 32: bytes([n]) * 20 for n in range(1, size + 1)}
    seats = data.draw(st.integers(3, size))
    with_rows = frozenset(data.draw(st.sets(st.sampled_from(sorted(pool.values())))))
    found = draw.seat(seed, pool, seats, with_rows)
    assert len(set(found.members)) == seats
    assert set(found.members) <= set(pool.values())
    assert draw.seat(seed, dict(reversed(pool.items())), seats, with_rows) == found
    if set(pool.values()) - with_rows:
        assert found.helper in found.members
        assert found.helper not in with_rows
    else:
        assert found.helper is None


@given(st.binary(min_size=32, max_size=32))
def test_who_is_dead_changes_nobody_elses_place(seed: bytes) -> None:
    """Leaving one out only moves those behind it up: nothing is gained by dying."""
    whole = draw.order(seed, POOL)
    for gone in POOL:
        left = draw.order(seed, set(POOL) - {gone})
        assert left == tuple(each for each in whole if each != gone)


def test_too_few_alive_are_refused_in_one_sentence() -> None:
    two = dict(list(POOL.items())[:2])
    with pytest.raises(RemoteProtocolError, match="2 compute assets of the pool are alive, 3"):
        draw.seat(SESSION, two, 3, frozenset())


def test_every_asset_sits_equally_often() -> None:
    """3 of 4 seats: each sits in 75 % of 4,000 draws, within five deviations (0.7 % each)."""
    seats = Counter(
        account
        for n in range(4000)
        for account in draw.seat(
            hashlib.sha256(n.to_bytes(4, "big")).digest(), POOL, 3, frozenset()
        ).members
    )
    assert all(abs(count / 4000 - 0.75) < 0.035 for count in seats.values())
