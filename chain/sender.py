"""The durable outbox: exactly one transaction for each intent, whatever crashes when.

An intent has a key of the caller's choice and is stored in the caller's own transaction. Nonce
and signed raw transaction are stored in one transaction BEFORE the first broadcast, so after a
crash the same bytes are sent again and the nonce keeps them from counting twice. A stuck
transaction is replaced under its own nonce; whichever of its forms is mined, it is the one.

Before anything is signed the transaction is simulated: what the contract would refuse is never
sent, and `confirmed` says the contract's reason. (One exception: while earlier ones are not yet
mined a refusal may be theirs to lift, so it is asked again afterwards.)

Adversary: an endpoint that drops transactions, forgets receipts, or reorganises. The account's
key is used by this outbox alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
import trio
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from sqlite_utils import Database

from chain.errors import ChainRefused, ChainUnreachable
from chain.provider import TrioProvider
from protocol.ids import Account, hexadecimal

log = structlog.get_logger("sender")

IN_FLIGHT_MOST: Final = 64
GAS_MARGIN: Final = 1.25
BUMP: Final = 1.125
STUCK_AFTER_S: Final = 60.0
QUICK_POLL_S: Final = 0.02
RETRY_MOST_S: Final = 30.0
PRIORITY_FEE_WEI: Final = 10**9

_JOB: Final = "SELECT id, key, destination, data, coalesce(gas, 0) FROM chain_outbox"

# What a node says when it has the transaction, or had it, or will not take it at this price.
_HARMLESS: Final = (
    "already known",
    "already imported",
    "known transaction",
    "nonce too low",
    "underpriced",
    "less than block base fee",
    "max fee per gas less than",
)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One intent that is done: its transaction is in this block."""

    key: str
    transaction: bytes
    block: int
    gas_used: int


@dataclass(frozen=True, slots=True)
class _Job:
    id: int
    key: str
    destination: bytes
    data: bytes
    gas: int  # 0: not yet estimated


class Sender:
    """One account's outbox. `fee_cap_wei` is the most it pays for a unit of gas."""

    def __init__(
        self,
        db: Database,
        provider: TrioProvider,
        account: LocalAccount,
        chain_id: int,
        *,
        confirmations: int = 0,
        fee_cap_wei: int = 500 * 10**9,
        poll_s: float = 2.0,
        stuck_after_s: float = STUCK_AFTER_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._provider = provider
        self._account = account
        self._chain_id = chain_id
        self._confirmations = confirmations
        self._fee_cap = fee_cap_wei
        self._poll_s = poll_s
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._woken = trio.Event()
        self._moved = trio.Event()
        self._broadcast: set[bytes] = set()  # by this process; a restart sends all again

    @property
    def address(self) -> Account:
        """The account that sends and pays."""
        return Account(bytes.fromhex(self._account.address[2:]))

    # ------------------------------------------------------------------ intents

    def enqueue(
        self, key: str, kind: str, to: Account, data: bytes, *, gas: int | None = None
    ) -> bool:
        """Store an intent in the caller's open transaction; whether it was new.

        The same key again changes nothing, whatever has become of it. `kind` names it in the
        figures of gas. `gas` is the limit; estimated if None.
        """
        inserted = self._db.execute(
            "INSERT OR IGNORE INTO chain_outbox"
            " (key, kind, account, destination, data, gas, state, enqueued_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'new', ?)",
            [key, kind, self.address, to, data, gas, self._clock()],
        )
        self._woken.set()
        return inserted.rowcount == 1

    def withdraw(self, key: str) -> bool:
        """Forget an intent that was refused or not yet signed; whether there was one.

        A caller whose transaction was refused may so try the same key again later.
        """
        deleted = self._db.execute(
            "DELETE FROM chain_outbox"
            " WHERE key = ? AND account = ? AND state IN ('new', 'refused')",
            [key, self.address],
        )
        return deleted.rowcount == 1

    async def confirmed(self, key: str) -> Confirmed:
        """Return once the intent's transaction has succeeded and is confirmed.

        Raises ChainRefused with the reason if it was refused or failed, KeyError if there is
        no such intent.
        """
        while True:
            moved = self._moved
            row = self._db.execute(
                "SELECT state, transaction_hash, block, gas_used, success, reason"
                " FROM chain_outbox WHERE key = ? AND account = ?",
                [key, self.address],
            ).fetchone()
            if row is None:
                raise KeyError(key)
            state, transaction, block, gas_used, success, reason = row
            if state == "refused" or (state == "final" and not success):
                raise ChainRefused(reason)
            if state == "final":
                return Confirmed(key, transaction, block, gas_used)
            await moved.wait()

    def gas_by_kind(self) -> dict[str, tuple[int, int]]:
        """For each kind of transaction: how many succeeded, and the gas of all together."""
        rows = self._db.execute(
            "SELECT kind, count(*), sum(gas_used) FROM chain_outbox"
            " WHERE state = 'final' AND success = 1 AND account = ? GROUP BY kind ORDER BY kind",
            [self.address],
        )
        return {kind: (count, gas) for kind, count, gas in rows}

    # ------------------------------------------------------------------ running

    async def run(self) -> None:
        """Send for ever; an endpoint that is down is waited for."""
        pause = self._poll_s
        while True:
            try:
                progress = await self.step()
            except (ChainUnreachable, ChainRefused) as error:
                pause = min(2 * max(pause, QUICK_POLL_S), RETRY_MOST_S)
                log.warning("sender_waits", reason=str(error), again_in_s=pause)
            else:
                pause = QUICK_POLL_S if progress else min(2 * pause, self._poll_s)
            with trio.move_on_after(pause):
                await self._woken.wait()
                pause = QUICK_POLL_S
            self._woken = trio.Event()

    async def step(self) -> bool:
        """Look at what is under way, then sign and send what is new; whether anything moved.

        Raises ChainUnreachable; ChainRefused if the endpoint refuses a plain question.
        """
        moved = await self._follow_receipts()
        moved |= await self._send_again()
        moved |= await self._send_new()
        if moved:
            self._moved.set()
            self._moved = trio.Event()
        return moved

    # ----------------------------------------------------------------- receipts

    async def _follow_receipts(self) -> bool:
        waiting = self._db.execute(
            "SELECT o.id, o.state, o.block_hash, a.hash FROM chain_outbox o"
            " JOIN chain_attempts a ON a.job = o.id"
            " WHERE o.state IN ('sent', 'mined') AND o.account = ? ORDER BY o.nonce",
            [self.address],
        ).fetchall()
        if not waiting:
            return False
        head = int(await self._provider.ask("eth_blockNumber"), 16)
        receipts = await self._provider.ask_many(
            [("eth_getTransactionReceipt", [hexadecimal(row[3])]) for row in waiting]
        )
        found = {
            job: receipt
            for (job, _, _, _), receipt in zip(waiting, receipts, strict=True)
            if isinstance(receipt, dict)
        }
        moved = False
        for job, state, block_hash in {row[:3] for row in waiting}:
            moved |= await self._judge(job, state, block_hash, found.get(job), head)
        return moved

    async def _judge(
        self, job: int, state: str, block_hash: bytes, receipt: dict[str, Any] | None, head: int
    ) -> bool:
        if receipt is None:
            if state == "mined":  # a reorganisation took it; it will be sent again
                self._update(job, state="sent", block=None, block_hash=None)
            return state == "mined"
        block = int(receipt["blockNumber"], 16)
        final = head - block >= self._confirmations
        mined_hash = bytes.fromhex(receipt["blockHash"][2:])
        if not final and state == "mined" and mined_hash == block_hash:
            return False
        success = int(receipt["status"], 16) == 1
        self._update(
            job,
            state="final" if final else "mined",
            block=block,
            block_hash=mined_hash,
            transaction_hash=bytes.fromhex(receipt["transactionHash"][2:]),
            gas_used=int(receipt["gasUsed"], 16),
            success=int(success),
            reason="" if success else await self._reason(job, block),
        )
        return True

    async def _reason(self, job: int, block: int) -> str:
        row = self._db.execute(
            "SELECT id, key, destination, data, coalesce(gas, 0) FROM chain_outbox WHERE id = ?",
            [job],
        ).fetchone()
        try:
            await self._provider.ask("eth_call", self._request(_Job(*row)), hex(block))
        except ChainRefused as error:
            return error.reason
        return "the transaction failed when it was mined, for a reason that is gone since"

    def _update(self, job: int, **columns: Any) -> None:
        assignments = ", ".join(f"{name} = ?" for name in columns)
        with self._db.atomic():
            self._db.execute(
                f"UPDATE chain_outbox SET {assignments} WHERE id = ?",  # noqa: S608 (own names)
                [*columns.values(), job],
            )

    # ------------------------------------------------------------------ sending

    async def _send_again(self) -> bool:
        rows = self._db.execute(
            "SELECT o.id, o.nonce, a.hash, a.raw, a.max_fee, a.priority_fee, max(a.signed_at)"
            " FROM chain_outbox o JOIN chain_attempts a ON a.job = o.id"
            " WHERE o.state = 'sent' AND o.account = ? GROUP BY o.id ORDER BY o.nonce",
            [self.address],
        ).fetchall()
        unsent = [raw for _, _, digest, raw, *_ in rows if digest not in self._broadcast]
        await self._push(unsent)
        for job, nonce, _, _, max_fee, priority_fee, signed_at in rows[:1]:
            if self._clock() - signed_at > self._stuck_after_s:
                await self._replace(job, nonce, int(max_fee), int(priority_fee))
        return bool(unsent)

    async def _replace(self, job: int, nonce: int, max_fee: int, priority_fee: int) -> None:
        wanted_max, _ = await self._fees()
        new_max = min(max(int(max_fee * BUMP) + 1, wanted_max), self._fee_cap)
        new_priority = min(int(priority_fee * BUMP) + 1, new_max)
        if new_max < int(max_fee * BUMP):
            log.warning("transaction_stuck_at_fee_cap", nonce=nonce, fee_cap_wei=self._fee_cap)
            self._broadcast.clear()  # send the same bytes again: the node may have dropped them
            return
        row = self._db.execute(
            "SELECT id, key, destination, data, coalesce(gas, 0) FROM chain_outbox WHERE id = ?",
            [job],
        ).fetchone()
        await self._push(self._sign([_Job(*row)], nonce, new_max, new_priority))

    async def _send_new(self) -> bool:
        (in_flight,) = self._db.execute(
            "SELECT count(*) FROM chain_outbox WHERE state = 'sent' AND account = ?",
            [self.address],
        ).fetchone()
        rows = self._db.execute(
            _JOB + " WHERE state = 'new' AND account = ? ORDER BY id LIMIT ?",
            [self.address, IN_FLIGHT_MOST - in_flight],
        ).fetchall()
        if not rows:
            return False
        ready, refused = await self._simulate([_Job(*row) for row in rows], in_flight)
        if ready:
            nonce = await self._next_nonce()
            max_fee, priority_fee = await self._fees()
            await self._push(self._sign(ready, nonce, max_fee, priority_fee))
        return bool(ready) or refused

    async def _simulate(self, jobs: list[_Job], in_flight: int) -> tuple[list[_Job], bool]:
        """The leading jobs that would succeed now; whether the first one was refused for good."""
        answers = await self._provider.ask_many(
            [("eth_estimateGas", [self._request(job), "pending"]) for job in jobs]
        )
        ready: list[_Job] = []
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, ChainRefused):
                if ready or in_flight:
                    break  # those before it may be what it waits for
                self._update(job.id, state="refused", reason=answer.reason)
                log.warning("transaction_refused", key=job.key, reason=answer.reason)
                return [], True
            gas = job.gas or int(int(answer, 16) * GAS_MARGIN)
            ready.append(_Job(job.id, job.key, job.destination, job.data, gas))
        return ready, False

    def _request(self, job: _Job) -> dict[str, str]:
        return {
            "from": hexadecimal(self.address),
            "to": hexadecimal(job.destination),
            "data": hexadecimal(job.data),
        }

    async def _next_nonce(self) -> int:
        count = await self._provider.ask(
            "eth_getTransactionCount", hexadecimal(self.address), "latest"
        )
        (last,) = self._db.execute(
            "SELECT max(nonce) FROM chain_outbox WHERE account = ?", [self.address]
        ).fetchone()
        return int(count, 16) if last is None else max(int(count, 16), last + 1)

    async def _fees(self) -> tuple[int, int]:
        block = await self._provider.ask("eth_getBlockByNumber", "latest", False)
        base = int(block["baseFeePerGas"], 16)
        max_fee = min(2 * base + PRIORITY_FEE_WEI, self._fee_cap)
        return max_fee, min(PRIORITY_FEE_WEI, max_fee)

    async def _push(self, raws: list[bytes]) -> None:
        answers = await self._provider.ask_many(
            [("eth_sendRawTransaction", [hexadecimal(raw)]) for raw in raws]
        )
        for raw, answer in zip(raws, answers, strict=True):
            if isinstance(answer, ChainRefused) and not _is_harmless(answer):
                log.warning("transaction_not_taken", reason=answer.reason)
                continue
            self._broadcast.add(keccak(raw))

    def _sign(self, jobs: list[_Job], nonce: int, max_fee: int, priority_fee: int) -> list[bytes]:
        """Sign the jobs under consecutive nonces; durable when this returns."""
        now = self._clock()
        raws = []
        with self._db.atomic():
            for offset, job in enumerate(jobs):
                signed = self._account.sign_transaction(
                    {
                        "type": 2,
                        "chainId": self._chain_id,
                        "nonce": nonce + offset,
                        "to": job.destination,
                        "data": job.data,
                        "value": 0,
                        "gas": job.gas,
                        "maxFeePerGas": max_fee,
                        "maxPriorityFeePerGas": priority_fee,
                    }
                )
                self._db.execute(
                    "UPDATE chain_outbox SET state = 'sent', nonce = ?, gas = ? WHERE id = ?",
                    [nonce + offset, job.gas, job.id],
                )
                self._db.execute(
                    "INSERT INTO chain_attempts VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        bytes(signed.hash),
                        job.id,
                        str(max_fee),
                        str(priority_fee),
                        bytes(signed.raw_transaction),
                        now,
                    ],
                )
                raws.append(bytes(signed.raw_transaction))
        return raws


def _is_harmless(refused: ChainRefused) -> bool:
    return any(known in refused.reason.lower() for known in _HARMLESS)
