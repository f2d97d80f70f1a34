"""The node's link to its chain: contracts verified, events followed, transactions sent.

The chain's libraries take most of a second to import, so the daemon is ready before they are:
they are loaded in a thread, and until then whoever asks hears that the daemon is still starting.
A chain that is down, or another than the configuration names, is waited for and told in the
status.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import trio
from sqlite_utils import Database

from chain.errors import ChainError
from node.chain_faults import fault_of
from node.config import Chain
from node.engine import Engine, Transaction
from node.errors import Fault
from node.log import get_logger
from node.signer import Signer
from protocol.ids import Account

if TYPE_CHECKING:
    from chain.abi import View
    from chain.events import Event
    from chain.follower import Follower
    from chain.provider import TrioProvider
    from chain.sender import Confirmed, Sender

log = get_logger("chain")

RETRY_S = 1.0
CONFIRM_TIMEOUT_S = 60.0
HEAVY_MODULES = ("chain.deployment", "chain.follower", "chain.sender", "chain.tree")
T = TypeVar("T")
OnEvents = Callable[[Transaction, Sequence["Event"]], None]


class ChainLink:
    """One chain, one account."""

    def __init__(self, engine: Engine, chain: Chain, on_events: OnEvents) -> None:
        self._engine = engine
        self._chain = chain
        self._on_events = on_events
        self._sender: Sender | None = None
        self._follower: Follower | None = None
        self._provider: TrioProvider | None = None
        self._trouble = Fault("chain-unreachable", "the chain is being connected")

    # ------------------------------------------------------------------ status

    @property
    def trouble(self) -> str:
        """Why the chain is not there, in words; empty if it is."""
        if self._follower is None:
            return self._trouble.sentence
        return "" if self._follower.reachable else f"{self._chain.url} does not answer"

    @property
    def block(self) -> int | None:
        """The newest block whose events are in the database, or None."""
        head = self._follower.head() if self._follower else None
        return head[0] if head else None

    def gas_by_kind(self) -> dict[str, tuple[int, int]]:
        """For each kind of transaction: how many succeeded, and their gas."""
        return self._ready_sender().gas_by_kind()

    def require(self) -> None:
        """Fault `chain-unreachable` unless transactions can be sent now."""
        if self._follower is None:
            raise Fault(self._trouble.kind, self._trouble.sentence)
        if self.trouble:
            raise Fault("chain-unreachable", self.trouble)

    # ------------------------------------------------------------------ transactions

    def enqueue(self, key: str, kind: str, to: Account, data: bytes) -> bool:
        """Store an intent in the caller's open transaction; True if its key is new."""
        return self._ready_sender().enqueue(key, kind, to, data)

    async def confirmed(self, key: str, timeout_s: float = CONFIRM_TIMEOUT_S) -> "Confirmed":
        """Return once the intent's transaction succeeded and its events are in the database.

        Fault `transaction-refused` with the contract's reason, `chain-timeout` after `timeout_s`.
        A refused intent is forgotten, so that the same may be tried again.
        """
        from chain.errors import ChainRefused  # noqa: PLC0415  loaded with the sender

        sender = self._ready_sender()
        with trio.move_on_after(timeout_s):
            try:
                done = await sender.confirmed(key)
            except ChainRefused as error:
                with self._engine.transaction():
                    sender.withdraw(key)
                raise Fault(
                    "transaction-refused", f"the contract refuses: {error.reason}"
                ) from None
            if self._follower is not None:
                await self._follower.reached(done.block)
            return done
        raise Fault("chain-timeout", f"the chain has not confirmed {key!r} in {timeout_s:g} s")

    async def read(self, address: Account, view: "View[T]") -> T:
        """The answer of one view of a contract."""
        from chain.abi import read  # noqa: PLC0415  loaded with the sender

        self.require()
        if self._provider is None:
            raise Fault(self._trouble.kind, self._trouble.sentence)
        try:
            return await read(self._provider, address, view)
        except ChainError as error:
            raise fault_of(error) from error

    def _ready_sender(self) -> "Sender":
        if self._sender is None:
            raise Fault(self._trouble.kind, self._trouble.sentence)
        return self._sender

    # ------------------------------------------------------------------ running

    async def run(self, signer: Signer) -> None:
        """Verify the contracts, then follow and send for ever; a chain that is down is awaited."""
        for module in HEAVY_MODULES:
            await trio.to_thread.run_sync(importlib.import_module, module)
        from chain.deployment import Deployment  # noqa: PLC0415
        from chain.follower import Follower  # noqa: PLC0415
        from chain.provider import TrioProvider  # noqa: PLC0415
        from chain.sender import Sender  # noqa: PLC0415

        chain, db = self._chain, self._engine.db
        provider = TrioProvider(chain.url)
        deployment = Deployment(
            chain.chain_id, chain.registry, chain.market, chain.token, chain.block
        )
        try:
            await self._verified(deployment.verify, provider)
            self._provider = provider
            self._follower = Follower(
                db, provider, deployment, chain.confirmations, self._stored, poll_s=chain.poll_s
            )
            self._sender = Sender(
                db,
                provider,
                signer.local,
                chain.chain_id,
                confirmations=chain.confirmations,
                poll_s=chain.poll_s,
            )
            self._engine.announce_change()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follower.run)
                nursery.start_soon(self._sender.run)
        finally:
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await provider.aclose()

    async def _verified(
        self, verify: "Callable[[TrioProvider], object]", provider: "TrioProvider"
    ) -> None:
        while True:
            try:
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
