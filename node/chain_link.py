"""The node's link to its chain: contracts verified, events followed, transactions sent.

The chain's libraries take most of a second to import, so the daemon is ready before they are:
they are loaded in a thread, and until then whoever asks hears that the daemon is still starting.
A chain that is down, or another than the configuration names, is waited for and told in the
status.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from sqlite_utils import Database

from chain.errors import ChainError, ChainRefused, ReorganisedTooDeep
from node.chain_faults import fault_of
from node.config import Chain
from node.endpoint_watch import EndpointWatch
from node.engine import Engine, Transaction
from node.errors import Fault
from node.log import get_logger
from node.signer import Signer
from protocol.ids import Account, hexadecimal

if TYPE_CHECKING:
    from chain.abi import View
    from chain.endpoints import EndpointReport
    from chain.events import Event
    from chain.follower import Follower
    from chain.provider import TrioProvider
    from chain.sender import Confirmed, Sender

log = get_logger("chain")

RETRY_S = 1.0
CONFIRM_TIMEOUT_S = 50.0
"""Less than the 60 s for which a command waits, so that it hears the reason."""

GAS_OF_A_LARGE_TRANSACTION = 500_000
GAS_MARGIN = 1.25
PRIORITY_FEE_WEI = 10**9
"""The last two as the sender has them: a node takes a transaction only from who can pay all."""

HEAVY_MODULES = ("chain.deployment", "chain.follower", "chain.sender", "chain.tree")
T = TypeVar("T")
OnEvents = Callable[[Transaction, Sequence["Event"]], None]
Undo = Callable[[Transaction], None]


class ChainLink:
    """One chain, one account."""

    def __init__(
        self, engine: Engine, chain: Chain, on_events: OnEvents, on_rollback: Undo
    ) -> None:
        self._engine = engine
        self._chain = chain
        self._on_events = on_events
        self._on_rollback = on_rollback
        self._sender: Sender | None = None
        self._follower: Follower | None = None
        self._provider: TrioProvider | None = None
        self._watch: EndpointWatch | None = None
        self._trouble = Fault("daemon-starting", "the chain is being connected")

    # ------------------------------------------------------------------ status

    @property
    def trouble(self) -> str:
        """Why the chain is not there, in words; empty if it is."""
        if self._follower is None:
            return self._trouble.sentence
        return self._follower.trouble

    @property
    def block(self) -> int | None:
        """The newest block whose events are in the database, or None."""
        head = self._follower.head() if self._follower else None
        return head[0] if head else None

    @property
    def endpoints(self) -> "tuple[EndpointReport, ...]":
        """Each endpoint as it compared with the others a moment ago; none before that."""
        return self._watch.reports if self._watch else ()

    def gas_by_kind(self) -> dict[str, tuple[int, int]]:
        """For each kind of transaction: how many succeeded, and their gas."""
        return self._ready_sender().gas_by_kind()

    def require(self) -> None:
        """Fault `chain-unreachable` unless transactions can be sent now."""
        if self._follower is None:
            raise Fault(self._trouble.kind, self._trouble.sentence)
        if self.trouble:
            raise Fault("chain-unreachable", self.trouble)

    async def usable(self) -> None:
        """Return once transactions can be sent."""
        while not await self._engine.until(lambda: not self.trouble, RETRY_S):
            pass  # that the chain answers again is no change of the state, so it is asked for

    async def caught_up(self) -> None:
        """Return once all that the chain had to tell at the start is in the database."""
        await self.usable()
        if self._follower is not None:
            await self._follower.caught_up()

    # ------------------------------------------------------------------ transactions

    def enqueue(self, key: str, kind: str, to: Account, data: bytes) -> bool:
        """Store an intent in the caller's open transaction; True if its key is new."""
        return self._ready_sender().enqueue(key, kind, to, data)

    async def foresee(self, to: Account, data: bytes) -> None:
        """Return if the transaction would succeed now and the account can pay for it.

        To be asked before anything is written. Fault `transaction-refused` with the contract's
        reason, `funds-missing`, `chain-unreachable`.
        """
        own = hexadecimal(self._ready_sender().address)
        request = {"from": own, "to": hexadecimal(to), "data": hexadecimal(data)}
        gas = int(await self._ask("eth_estimateGas", request), 16)
        await self.require_funds(gas)

    async def require_funds(self, gas: int = GAS_OF_A_LARGE_TRANSACTION) -> None:
        """Fault `funds-missing` unless the account can pay for a transaction of that much gas."""
        own = hexadecimal(self._ready_sender().address)
        block = await self._ask("eth_getBlockByNumber", "latest", False)
        fee_wei = 2 * int(block["baseFeePerGas"], 16) + PRIORITY_FEE_WEI
        needed_wei = int(gas * GAS_MARGIN) * fee_wei
        balance_wei = int(await self._ask("eth_getBalance", own, "latest"), 16)
        if balance_wei < needed_wei:
            raise Fault(
                "funds-missing",
                f"the account {own} has {_ether(balance_wei)} ether, and the transaction may cost"
                f" {_ether(needed_wei)}",
                balance_wei=str(balance_wei),
                needed_wei=str(needed_wei),
            )

    async def confirmed(
        self, key: str, timeout_s: float = CONFIRM_TIMEOUT_S, *, undo: Undo | None = None
    ) -> "Confirmed":
        """Return once the intent's transaction succeeded and its events are in the database.

        Fault `transaction-refused` with the contract's reason, `chain-timeout` after `timeout_s`.
        A refused intent is forgotten, so that the same may be tried again, and `undo` takes back
        in the same transaction what was written for it; so it is, where there is an `undo`, with
        an intent that was not even signed in time.
        """
        with trio.move_on_after(timeout_s) as waiting:
            done = await self._succeeded(key, undo)
        if not waiting.cancelled_caught:
            return done
        if undo is not None and self._forget(key, undo):
            raise Fault("chain-timeout", f"the chain took nothing in {timeout_s:g} s; none is sent")
        raise Fault(
            "chain-timeout",
            f"the chain has not confirmed {key!r} in {timeout_s:g} s; it may still do so",
        )

    async def _succeeded(self, key: str, undo: Undo | None) -> "Confirmed":
        try:
            done = await self._ready_sender().confirmed(key)
        except ChainRefused as error:
            self._forget(key, undo)
            raise Fault("transaction-refused", f"the contract refuses: {error.reason}") from None
        except KeyError:  # somebody else who waited for it was told so first
            raise Fault("transaction-refused", "the contract has just refused this") from None
        if self._follower is not None:
            await self._follower.reached(done.block)
        return done

    def _forget(self, key: str, undo: Undo | None) -> bool:
        with self._engine.transaction() as tx:
            forgotten = self._ready_sender().withdraw(key)
            if forgotten and undo is not None:
                undo(tx)
        return forgotten

    def withdraw(self, *keys: str) -> None:
        """Forget, in the caller's open transaction, those of these intents that came to nothing.

        That is what is not signed yet, was refused or has failed.
        """
        for key in keys:
            self._ready_sender().withdraw(key)

    def is_wanted(self, key: str) -> bool:
        """True if an intent of this key is stored, whatever has become of it."""
        rows = self._engine.db.execute("SELECT 1 FROM chain_outbox WHERE key = ?", [key])
        return rows.fetchone() is not None

    async def read(self, address: Account, view: "View[T]") -> T:
        """The answer of one view of a contract."""
        from chain.abi import read  # noqa: PLC0415  loaded with the sender

        try:
            return await read(self._ready_provider(), address, view)
        except ChainError as error:
            raise fault_of(error) from error

    async def _ask(self, method: str, *params: Any) -> Any:
        try:
            return await self._ready_provider().ask(method, *params)
        except ChainError as error:
            raise fault_of(error) from error

    def _ready_provider(self) -> "TrioProvider":
        self.require()
        if self._provider is None:
            raise Fault(self._trouble.kind, self._trouble.sentence)
        return self._provider

    def _ready_sender(self) -> "Sender":
        if self._sender is None:
            raise Fault(self._trouble.kind, self._trouble.sentence)
        return self._sender

    # ------------------------------------------------------------------ running

    async def run(self, signer: Signer) -> None:
        """Verify the contracts, then follow and send for ever; a chain that is down is awaited.

        Fault `chain-reorganised` if the chain has replaced more than can be taken back.
        """
        for module in HEAVY_MODULES:
            await trio.to_thread.run_sync(importlib.import_module, module)
        from chain.deployment import Deployment  # noqa: PLC0415
        from chain.follower import Follower  # noqa: PLC0415
        from chain.provider import TrioProvider  # noqa: PLC0415
        from chain.sender import Sender  # noqa: PLC0415

        chain, db = self._chain, self._engine.db
        provider = TrioProvider(chain.url, *chain.urls)
        self._watch = EndpointWatch(provider, chain.chain_id, self._engine.clock)
        deployment = Deployment(
            chain.chain_id, chain.registry, chain.market, chain.token, chain.block
        )
        try:
            await self._verified(deployment.verify, provider)
            self._provider = provider
            self._follower = Follower(
                db,
                provider,
                deployment,
                chain.confirmations,
                self._stored,
                on_rollback=self._taken_back,
                poll_s=chain.poll_s,
            )
            self._sender = Sender(
                db,
                provider,
                signer.key,
                chain.chain_id,
                confirmations=chain.confirmations,
                fee_cap_wei=chain.fee_cap_gwei * 10**9,
                poll_s=chain.poll_s,
            )
            self._engine.announce_change()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, self._follower)
                nursery.start_soon(self._watch.run)
                nursery.start_soon(self._sender.run)
        finally:
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await provider.aclose()

    async def _follow(self, follower: "Follower") -> None:
        try:
            await follower.run()
        except ReorganisedTooDeep as error:
            log.critical("chain not followed any more", why=str(error))
            raise fault_of(error) from error

    async def _verified(
        self, verify: "Callable[[TrioProvider], object]", provider: "TrioProvider"
    ) -> None:
        while True:
            try:
                if self._watch is not None:
                    await self._watch.look()
                await verify(provider)  # type: ignore[misc]
            except ChainError as error:
                trouble = fault_of(error)
                if trouble.sentence != self._trouble.sentence:
                    log.warning("chain not usable", why=trouble.sentence)
                self._trouble = trouble
            else:
                log.info("chain connected", url=self._chain.url)
                return
            await trio.sleep(RETRY_S)

    def _stored(self, db: Database, found: "Sequence[Event]") -> None:
        self._on_events(Transaction(db, self._engine.clock()), found)
        self._engine.announce_change()

    def _taken_back(self, db: Database, _ancestor: int) -> None:
        self._on_rollback(Transaction(db, self._engine.clock()))
        self._engine.announce_change()


def _ether(wei: int) -> str:
    return f"{wei / 10**18:.6f}".rstrip("0").rstrip(".")
