"""The durable outbox at work: exactly one transaction for each intent, whatever crashes when.

An intent has a key of the caller's choice and is stored in the caller's own transaction. Nonce
and signed raw transaction are stored in one transaction BEFORE the first broadcast, so after a
crash the same bytes are sent again and the nonce keeps them from counting twice. A stuck
transaction is replaced under its own nonce; whichever of its forms is mined, it is the one.

Before anything is signed the transaction is simulated: what the contract would refuse is never
sent, and `confirmed` says the contract's reason. (While earlier ones are not yet mined a refusal
may be theirs to lift, so it is asked again afterwards.)

Adversary: an endpoint that drops transactions, forgets receipts, or reorganises. The account's
key is used by this outbox alone; should somebody else use it, the intent whose nonce is gone is
refused and its caller told, never sent a second time.
"""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
import trio
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from sqlite_utils import Database

from chain.errors import ChainRefused, ChainUnreachable
from chain.external import ExternalSigner
from chain.finality import Confirmations, ask_newest
from chain.outbox import Job, Newest, Outbox, Signed, UnderWay
from chain.provider import TrioProvider
from chain.recursion import restore_limit
from protocol.ids import Account, hexadecimal

restore_limit()
log = structlog.get_logger("sender")

IN_FLIGHT_MOST: Final = 64
GAS_MARGIN: Final = 1.25
BUMP: Final = 1.125
STUCK_AFTER_S: Final = 60.0
QUICK_POLL_S: Final = 0.02
RETRY_MOST_S: Final = 30.0
PRIORITY_FEE_WEI: Final = 10**9
FOREIGN_AFTER_BLOCKS: Final = 12

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


class Sender:
    """One account's outbox. `fee_cap_wei` is the most it pays for a unit of gas."""

    def __init__(
        self,
        db: Database,
        provider: TrioProvider,
        account: LocalAccount | ExternalSigner,
        chain_id: int,
        *,
        confirmations: Confirmations = 0,
        fee_cap_wei: int = 500 * 10**9,
        poll_s: float = 2.0,
        stuck_after_s: float = STUCK_AFTER_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._account = account
        self._outbox = Outbox(db, self.address)
        self._chain_id = chain_id
        self._confirmations = confirmations
        self._fee_cap = fee_cap_wei
        self._poll_s = poll_s
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._woken = trio.Event()
        self._moved = trio.Event()
        self._looked_at = 0.0  # when a stuck transaction was last given another chance
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
        inserted = self._outbox.add(key, kind, to, data, gas, self._clock())
        self._woken.set()
        return inserted

    def withdraw(self, key: str) -> bool:
        """Forget an intent that is not yet signed, was refused, or failed; whether there was one.

        A caller whose transaction was refused may so try the same key again later.
        """
        return self._outbox.forget(key)

    async def confirmed(self, key: str) -> Confirmed:
        """Return once the intent's transaction has succeeded and is confirmed.

        Raises ChainRefused with the reason if it was refused or failed, KeyError if there is
        no such intent.
        """
        while True:
            moved = self._moved
            now = self._outbox.outcome(key)
            if now is None:
                raise KeyError(key)
            if now.state == "refused" or (now.state == "final" and not now.success):
                raise ChainRefused(now.reason)
            if now.state == "final":
                return Confirmed(key, now.transaction, now.block, now.gas_used)
            await moved.wait()

    def gas_by_kind(self) -> dict[str, tuple[int, int]]:
        """For each kind of transaction: how many succeeded, and the gas of all together."""
        return self._outbox.gas_by_kind()

    # ------------------------------------------------------------------ running

    async def run(self) -> None:
        """Send for ever; an endpoint that is down, and a full disk, are waited for."""
        pause = self._poll_s
        while True:
            try:
                progress = await self.step()
            except (ChainUnreachable, ChainRefused, sqlite3.OperationalError) as error:
                # A full disk is one of these: what was not stored was not sent.
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
        waiting = self._outbox.under_way()
        if not waiting:
            return False
        head = int(await self._provider.ask("eth_blockNumber"), 16)
        settled = await ask_newest(self._provider, self._confirmations, head)
        receipts = await self._provider.ask_many(
            [("eth_getTransactionReceipt", [hexadecimal(one.transaction)]) for one in waiting]
        )
        found = {
            one.job: receipt
            for one, receipt in zip(waiting, receipts, strict=True)
            if isinstance(receipt, dict)
        }
        moved = False
        jobs = {one.job: one for one in waiting}
        for number, one in jobs.items():
            moved |= await self._judge(one, found.get(number), settled)
        lost = [one for one in jobs.values() if one.state == "sent" and one.job not in found]
        return (
            await self._refuse_lost_nonces(lost, min(settled, head - FOREIGN_AFTER_BLOCKS)) or moved
        )

    async def _judge(self, one: UnderWay, receipt: dict[str, Any] | None, settled: int) -> bool:
        if receipt is None:
            if one.state == "mined":  # a reorganisation took it; it will be sent again
                self._outbox.mark(one.job, state="sent", block=None, block_hash=None)
                self._broadcast.clear()
            return one.state == "mined"
        block = int(receipt["blockNumber"], 16)
        final = block <= settled
        mined_hash = bytes.fromhex(receipt["blockHash"][2:])
        if not final and one.state == "mined" and mined_hash == one.block_hash:
            return False
        success = int(receipt["status"], 16) == 1
        self._outbox.mark(
            one.job,
            state="final" if final else "mined",
            block=block,
            block_hash=mined_hash,
            transaction_hash=bytes.fromhex(receipt["transactionHash"][2:]),
            gas_used=int(receipt["gasUsed"], 16),
            success=int(success),
            reason="" if success else await self._reason(one.job, block),
        )
        return True

    async def _reason(self, job: int, block: int) -> str:
        request = self._request(self._outbox.job(job))
        try:
            await self._provider.ask("eth_call", request, hex(block))
        except ChainRefused as error:
            return error.reason
        return "the transaction failed when it was mined, for a reason that is gone since"

    async def _refuse_lost_nonces(self, lost: list[UnderWay], settled: int) -> bool:
        """Refuse intents whose nonce another transaction of the same key used, blocks ago.

        They are not sent under a new nonce: should the endpoint merely have lost the receipt,
        they would count twice.
        """
        if not lost or settled < 0:
            return False
        address = hexadecimal(self.address)
        used = await self._provider.ask("eth_getTransactionCount", address, hex(settled))
        gone = [one for one in lost if one.nonce < int(used, 16)]
        for one in gone:
            reason = "its nonce was used by a transaction that this node did not send"
            self._outbox.mark(one.job, state="refused", reason=reason)
            log.error("foreign_transaction", nonce=one.nonce, reason=reason)
        return bool(gone)

    # ------------------------------------------------------------------ sending

    async def _send_again(self) -> bool:
        sent = self._outbox.newest()
        unsent = [one.raw for one in sent if one.transaction not in self._broadcast]
        await self._push(unsent)
        if sent:
            since = max(sent[0].signed_at, self._looked_at)
            if self._clock() - since > self._stuck_after_s:
                await self._replace(sent[0])
        return bool(unsent)

    async def _replace(self, stuck: Newest) -> None:
        self._looked_at = self._clock()
        wanted, _ = await self._fees()
        max_fee = min(max(int(stuck.max_fee * BUMP) + 1, wanted), self._fee_cap)
        if max_fee < int(stuck.max_fee * BUMP):
            log.warning("stuck_at_fee_cap", nonce=stuck.nonce, fee_cap_wei=self._fee_cap)
            self._broadcast.clear()  # send the same bytes again: the node may have dropped them
            return
        priority_fee = min(int(stuck.priority_fee * BUMP) + 1, max_fee)
        await self._sign_and_push([self._outbox.job(stuck.job)], stuck.nonce, max_fee, priority_fee)

    async def _send_new(self) -> bool:
        in_flight = self._outbox.in_flight()
        jobs = self._outbox.new_jobs(IN_FLIGHT_MOST - in_flight)
        if not jobs:
            return False
        ready, refused = await self._simulate(jobs, in_flight)
        if ready:
            nonce = await self._next_nonce()
            await self._sign_and_push(ready, nonce, *await self._fees())
        return bool(ready) or refused

    async def _simulate(self, jobs: list[Job], in_flight: int) -> tuple[list[Job], bool]:
        """The leading jobs that would succeed now; whether the first one was refused for good."""
        answers = await self._provider.ask_many(
            [("eth_estimateGas", [self._request(job), "pending"]) for job in jobs]
        )
        ready: list[Job] = []
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, ChainRefused):
                if ready or in_flight:
                    break  # those before it may be what it waits for
                self._outbox.mark(job.id, state="refused", reason=answer.reason)
                log.warning("transaction_refused", key=job.key, reason=answer.reason)
                return [], True
            ready.append(replace(job, gas=job.gas or int(int(answer, 16) * GAS_MARGIN)))
        return ready, False

    def _request(self, job: Job) -> dict[str, str]:
        return {
            "from": hexadecimal(self.address),
            "to": hexadecimal(job.destination),
            "data": hexadecimal(job.data),
        }

    async def _next_nonce(self) -> int:
        address = hexadecimal(self.address)
        count = await self._provider.ask("eth_getTransactionCount", address, "latest")
        return max(int(count, 16), self._outbox.last_nonce() + 1)

    async def _fees(self) -> tuple[int, int]:
        block = await self._provider.ask("eth_getBlockByNumber", "latest", False)
        base = int(block["baseFeePerGas"], 16)
        max_fee = min(2 * base + PRIORITY_FEE_WEI, self._fee_cap)
        return max_fee, min(PRIORITY_FEE_WEI, max_fee)

    async def _sign_and_push(
        self, jobs: list[Job], nonce: int, max_fee: int, priority_fee: int
    ) -> None:
        signed: list[Signed] = []
        for job in jobs:
            if not self._outbox.is_wanted(job):
                continue
            try:
                raw = await self._raw(job, nonce + len(signed), max_fee, priority_fee)
            except ChainRefused as error:  # an outside signer says no
                log.warning("transaction_not_signed", key=job.key, reason=error.reason)
                if not signed:
                    self._outbox.refuse_unsent(job, error.reason)
                break
            if not self._outbox.is_wanted(job):
                break  # withdrawn while an outside signer was asked: its nonce stays free
            signed.append(Signed(job, nonce + len(signed), keccak(raw), raw, max_fee, priority_fee))
        self._outbox.store(signed, self._clock())
        await self._push([one.raw for one in signed])

    async def _raw(self, job: Job, nonce: int, max_fee: int, priority_fee: int) -> bytes:
        transaction: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "to": job.destination,
            "data": job.data,
            "value": 0,
            "gas": job.gas,
            "maxFeePerGas": max_fee,
            "maxPriorityFeePerGas": priority_fee,
        }
        if isinstance(self._account, ExternalSigner):
            return await self._account.sign_transaction(transaction)
        return bytes(self._account.sign_transaction(transaction).raw_transaction)

    async def _push(self, raws: list[bytes]) -> None:
        answers = await self._provider.ask_many(
            [("eth_sendRawTransaction", [hexadecimal(raw)]) for raw in raws]
        )
        for raw, answer in zip(raws, answers, strict=True):
            if isinstance(answer, ChainRefused) and not _is_harmless(answer):
                log.warning("transaction_not_taken", reason=answer.reason)
                continue
            self._broadcast.add(keccak(raw))


def _is_harmless(refused: ChainRefused) -> bool:
    return any(known in refused.reason.lower() for known in _HARMLESS)
