"""The chain as confirmed logs in the node's database.

Adversary: an endpoint that is down, behind, or follows another branch than before. Every block
taken is linked to the one before by its parent hash; logs near the head are asked for by block
hash, so that they cannot be of another branch. What a lying endpoint invents consistently is
not noticed here: the owner's node demands the attester's own signature besides.

Events, headers and cursor are written in ONE transaction, together with what the node makes of
them: after a crash at any point the database is as it was after some whole step.

A block counts once `confirmations` blocks stand on it, or once the chain itself calls it
finalized, where it does and the configuration says so. Should the chain replace blocks that
were taken nevertheless, everything above the common ancestor is taken back first.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import structlog
import trio
from sqlite_utils import Database

from chain.deployment import Deployment
from chain.errors import ChainError, ChainRefused, ChainUnreachable, ReorganisedTooDeep
from chain.events import Event, Place, decode_parts, place_of
from chain.finality import Confirmations, newest_that_counts
from chain.projection import apply_all, rebuild
from chain.provider import TrioProvider
from protocol.ids import hexadecimal

log = structlog.get_logger("follower")

KEPT_HEADERS: Final = 512
NEAR_BLOCKS: Final = 64
RANGE_FIRST: Final = 2_000
RANGE_MOST: Final = 10_000
RETRY_FIRST_S: Final = 0.5
RETRY_MOST_S: Final = 30.0

OnEvents = Callable[[Database, list[Event]], None]
OnRollback = Callable[[Database, int], None]
Header = dict[str, Any]


class Follower:
    """Keeps the database in step with the contracts' events.

    `on_events` gets every batch in chain order, inside the transaction that stores it;
    `on_rollback(db, block)` must take back what came from blocks above `block`, likewise.
    """

    def __init__(
        self,
        db: Database,
        provider: TrioProvider,
        deployment: Deployment,
        confirmations: Confirmations,
        on_events: OnEvents,
        *,
        on_rollback: OnRollback | None = None,
        poll_s: float = 2.0,
    ) -> None:
        self._db = db
        self._provider = provider
        self._deployment = deployment
        self._confirmations = confirmations
        self._on_events = on_events
        self._on_rollback = on_rollback
        self._poll_s = poll_s
        self._range = RANGE_FIRST
        self._woken = trio.Event()
        self._moved = trio.Event()
        self._trouble = "the chain has not been asked yet"
        self._level = trio.Event()

    # ------------------------------------------------------------------ asking

    def head(self) -> tuple[int, bytes] | None:
        """Number and hash of the newest block taken; None before the first."""
        row = self._db.execute(
            "SELECT number, hash FROM chain_blocks ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return (row[0], row[1]) if row else None

    def block_time(self) -> int:
        """The time of the newest block taken, Unix seconds; 0 before the first."""
        row = self._db.execute(
            "SELECT timestamp FROM chain_blocks ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return int(row[0]) if row else 0

    @property
    def trouble(self) -> str:
        """What was wrong with the last step, in words; empty if nothing was."""
        return self._trouble

    @property
    def reachable(self) -> bool:
        """Whether the last step was made."""
        return not self._trouble

    def wake(self) -> None:
        """Look at the chain now instead of at the next poll."""
        self._woken.set()

    async def reached(self, block: int) -> None:
        """Return once this block has been taken (its events are then in the database)."""
        while (head := self.head()) is None or head[0] < block:
            self.wake()
            await self._moved.wait()

    async def caught_up(self) -> None:
        """Return once, since this process began, nothing was left to take."""
        await self._level.wait()

    # ----------------------------------------------------------------- running

    async def run(self) -> None:
        """Follow for ever. Raises ReorganisedTooDeep; an endpoint that is down is waited for."""
        pause = RETRY_FIRST_S
        while True:
            try:
                caught_up = await self.step()
            except ReorganisedTooDeep:
                raise
            except (ChainError, sqlite3.OperationalError) as error:
                # A full disk is one of these: the step is as if it had not been made.
                self._trouble = str(error)
                log.warning("follower_waits", reason=str(error), again_in_s=pause)
                await trio.sleep(pause)
                pause = min(2 * pause, RETRY_MOST_S)
                continue
            self._trouble = ""
            pause = RETRY_FIRST_S
            if caught_up:
                self._level.set()
                with trio.move_on_after(self._poll_s):
                    await self._woken.wait()
                self._woken = trio.Event()

    async def step(self) -> bool:
        """One bounded piece of work; whether nothing is left to do now.

        Raises ChainUnreachable, ChainRefused, ReorganisedTooDeep.
        """
        cursor = self.head()
        asked: list[tuple[str, list[Any]]] = [("eth_getBlockByNumber", ["latest", False])]
        if cursor is not None:
            asked.append(("eth_getBlockByNumber", [hex(cursor[0]), False]))
        if self._confirmations == "finalized":  # in the same message: idle, it is all we ask
            asked.append(("eth_getBlockByNumber", ["finalized", False]))
        latest, *at_cursor = await self._provider.ask_many(asked)
        finalized = at_cursor.pop() if self._confirmations == "finalized" else None
        target = newest_that_counts(self._confirmations, _number(latest), finalized)
        if cursor is not None and self._is_behind(latest, cursor[0]):
            return True
        if cursor is not None and (not at_cursor[0] or _hash(at_cursor[0]) != cursor[1]):
            await self._roll_back()
            return False
        first = cursor[0] + 1 if cursor is not None else self._deployment.block
        if first > target:
            return True
        if target - first > NEAR_BLOCKS:
            await self._take_range(first, target - NEAR_BLOCKS, cursor)
        else:
            await self._take_near(first, target, cursor)
        return False

    def _is_behind(self, latest: Header, cursor: int) -> bool:
        """Whether the endpoint knows our chain, only less of it than we have taken."""
        number = _number(latest)
        if number >= cursor:
            return False
        row = self._db.execute(
            "SELECT hash FROM chain_blocks WHERE number = ?", [number]
        ).fetchone()
        if row is None or row[0] != _hash(latest):
            return False
        log.warning("endpoint_is_behind", its_head=number, taken=cursor)
        return True

    async def _take_range(self, first: int, most: int, cursor: tuple[int, bytes] | None) -> None:
        last = min(first + self._range - 1, most)
        span = {
            "address": self._addresses(),
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        try:
            logs = await self._provider.ask("eth_getLogs", span)
        except ChainRefused:
            if self._range == 1:
                raise
            self._range //= 2  # the endpoint limits ranges or results
            return
        header = await self._provider.ask("eth_getBlockByNumber", hex(last), False)
        self._check_asked_for(logs, first, [header])
        if cursor is not None and first == last and _parent(header) != cursor[1]:
            await self._roll_back()
            return
        self._store([header], logs)
        self._range = min(2 * self._range, RANGE_MOST)

    async def _take_near(self, first: int, last: int, cursor: tuple[int, bytes] | None) -> None:
        asked = [("eth_getBlockByNumber", [hex(n), False]) for n in range(first, last + 1)]
        chain = []
        previous = cursor[1] if cursor is not None else None
        for header in await self._provider.ask_many(asked):
            if not isinstance(header, dict) or previous not in (None, _parent(header)):
                break
            chain.append(header)
            previous = _hash(header)
        if not chain:
            await self._roll_back()
            return
        by_hash = [
            ("eth_getLogs", [{"address": self._addresses(), "blockHash": header["hash"]}])
            for header in chain
            if int(header["logsBloom"], 16)
        ]
        answers = await self._provider.ask_many(by_hash)
        if all(isinstance(answer, list) for answer in answers):
            logs = [entry for answer in answers for entry in answer]
            self._check_asked_for(logs, first, chain)
            self._store(chain, logs)
        # Else a block vanished between the questions: the next step sees which.

    def _check_asked_for(self, logs: list[dict[str, Any]], first: int, taken: list[Header]) -> None:
        """ChainUnreachable if logs are of other blocks or contracts, or one comes twice."""
        known = {_number(header): _hash(header) for header in taken}
        ours = {bytes.fromhex(address[2:]) for address in self._addresses()}
        places = [place_of(entry) for entry in logs]
        right = all(
            first <= at.block <= max(known)
            and known.get(at.block, at.block_hash) == at.block_hash
            and _parts(entry)[0] in ours
            for at, entry in zip(places, logs, strict=True)
        )
        if not right or len({_order(at) for at in places}) != len(places):
            raise ChainUnreachable("the chain's node gives logs that were not asked for")

    def _addresses(self) -> list[str]:
        return [hexadecimal(self._deployment.registry), hexadecimal(self._deployment.market)]

    def _store(self, headers: list[Header], logs: list[dict[str, Any]]) -> None:
        taken = sorted(((place_of(entry), entry) for entry in logs), key=lambda t: _order(t[0]))
        rows = [(*_row(at), *_parts(entry)) for at, entry in taken]
        newest = _number(headers[-1])
        with self._db.atomic():
            connection = self._db.conn
            connection.executemany(
                "INSERT INTO chain_blocks VALUES (?, ?, ?, ?)",
                [(_number(h), _hash(h), _parent(h), int(h["timestamp"], 16)) for h in headers],
            )
            connection.executemany("INSERT INTO chain_logs VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            connection.execute(
                "DELETE FROM chain_blocks WHERE number <= ?", [newest - KEPT_HEADERS]
            )
            events = [decode_parts(at, *_topics_and_data(entry)) for at, entry in taken]
            known = [event for event in events if event is not None]
            if known:
                apply_all(self._db, known)
                self._on_events(self._db, known)
        self._moved.set()
        self._moved = trio.Event()

    async def _roll_back(self) -> None:
        rows = self._db.execute("SELECT number, hash FROM chain_blocks ORDER BY number DESC")
        ancestor = None
        for number, block_hash in rows.fetchall():
            header = await self._provider.ask("eth_getBlockByNumber", hex(number), False)
            if header and _hash(header) == block_hash:
                ancestor = number
                break
        if ancestor is None:
            raise ReorganisedTooDeep(
                f"the chain has replaced more than the last {KEPT_HEADERS} blocks that were taken"
            )
        self._take_back(ancestor)
        log.warning("chain_reorganised", common_ancestor=ancestor)

    def _take_back(self, ancestor: int) -> None:
        with self._db.atomic():
            self._db.execute("DELETE FROM chain_logs WHERE block > ?", [ancestor])
            self._db.execute("DELETE FROM chain_blocks WHERE number > ?", [ancestor])
            rebuild(self._db, stored_events(self._db))
            if self._on_rollback is not None:
                self._on_rollback(self._db, ancestor)


def forget(db: Database) -> int:
    """Afterwards no block is known: a follower begins at the contracts' creation; how many events.

    The remedy for ReorganisedTooDeep. Inside the caller's transaction, who takes back what the
    node made of the events.
    """
    (count,) = db.execute("SELECT count(*) FROM chain_logs").fetchone()
    db.execute("DELETE FROM chain_logs")
    db.execute("DELETE FROM chain_blocks")
    rebuild(db, [])
    return int(count)


def stored_events(db: Database, above_block: int = -1) -> list[Event]:
    """All events that the database holds from blocks above this one, in chain order."""
    rows = db.execute(
        "SELECT block, position, block_hash, transaction_hash, topics, data FROM chain_logs"
        " WHERE block > ? ORDER BY block, position",
        [above_block],
    )
    found = []
    for block, position, block_hash, transaction, topics, data in rows:
        split = [topics[i : i + 32] for i in range(0, len(topics), 32)]
        event = decode_parts(Place(block, block_hash, transaction, position), split, data)
        if event is not None:
            found.append(event)
    return found


def _order(at: Place) -> tuple[int, int]:
    return at.block, at.index


def _row(at: Place) -> tuple[int, int, bytes, bytes]:
    return at.block, at.index, at.block_hash, at.transaction


def _topics_and_data(entry: dict[str, Any]) -> tuple[list[bytes], bytes]:
    topics = [bytes.fromhex(topic[2:]) for topic in entry["topics"]]
    return topics, bytes.fromhex(entry["data"][2:])


def _parts(entry: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    topics, data = _topics_and_data(entry)
    return bytes.fromhex(entry["address"][2:]), b"".join(topics), data


def _number(header: Header) -> int:
    return int(_member(header, "number"), 16)


def _hash(header: Header) -> bytes:
    return bytes.fromhex(_member(header, "hash")[2:])


def _parent(header: Header) -> bytes:
    return bytes.fromhex(_member(header, "parentHash")[2:])


def _member(header: Any, name: str) -> str:
    if not isinstance(header, dict) or not isinstance(header.get(name), str):
        raise ChainUnreachable("the chain's node gives no block where one was asked for")
    return str(header[name])
