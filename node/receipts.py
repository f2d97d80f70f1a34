"""What a session costs, edge by edge: the recipient's receipt before it, the usage after it.

Both are EIP-712 signatures over the attested dues in their order on the chain. The receipt states
the most that each edge may claim and is signed before the first share flows, so that every owner
is paid even if the recipient then falls silent; the usage, signed by all sides, replaces it.
"""

from chain.identities import dues_hash
from chain.values import Due
from node import task_records
from node.engine import Engine
from node.errors import Fault
from node.live_session import LiveSession
from node.signer import Signer
from node.task_records import TaskRecord
from protocol import codec, typed_data
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, Digest
from protocol.manifest import Roster, RowSet
from protocol.messages import UsageRecord
from protocol.typed_data import Domain

Dues = tuple[Due, ...]


def amounts_of(dues: Dues, roster: Roster, rows: int) -> tuple[int, ...]:
    """What each edge costs for this roster and number of rows, in the token's smallest unit."""
    numbers = rows * roster.parameters.numbers_per_row
    times = {
        typed_data.PRICE_PER_EDGE: 1,
        typed_data.PRICE_PER_ROW: rows,
        typed_data.PRICE_PER_OPENING: numbers,
    }
    return tuple(due.price * times[due.unit] for due in dues)


class Receipts:
    """Signs and checks receipts and usage for one node."""

    def __init__(self, engine: Engine, market: Domain) -> None:
        self._engine = engine
        self._market = market
        self.signer: Signer | None = None

    def sign(self, task: bytes, roster: Roster, rows: int) -> bytes:
        """This node's receipt, as the recipient, for a session of this roster and row number.

        Fault `funds-missing` if the escrow does not cover it.
        """
        record = task_records.known(self._engine.db, task)
        message = self._receipt(record, roster, rows)
        budget = record.task_terms.budget
        if sum(message.amounts) > budget:
            raise Fault(
                "funds-missing",
                f"this session may cost {sum(message.amounts)}, the task's budget is {budget}",
            )
        return self._signed(message)

    def check(self, live: LiveSession, row_set: RowSet) -> None:
        """RemoteProtocolError unless the row set carries the recipient's receipt for it."""
        if live.roster is None:
            raise RemoteProtocolError("there is no roster that the receipt could be for")
        record = task_records.known(self._engine.db, live.task)
        message = self._receipt(record, live.roster, row_set.rows)
        if sum(message.amounts) > record.task_terms.budget:
            raise RemoteProtocolError("the task's budget does not cover the receipt")
        signer = typed_data.recover(typed_data.digest(self._market, message), row_set.receipt)
        if signer != live.plan.recipient:
            raise RemoteProtocolError("the receipt is not signed by the recipient")

    def usage(
        self, record: TaskRecord, usage: UsageRecord, amounts: tuple[int, ...]
    ) -> typed_data.Usage:
        """The EIP-712 message of a usage record."""
        return typed_data.Usage(
            task=record.task,
            dues=dues_hash(record.attested_dues),
            result_hash=usage.result,
            usage_root=codec.digest(usage),
            amounts=amounts,
        )

    def sign_usage(self, record: TaskRecord, usage: UsageRecord, amounts: tuple[int, ...]) -> bytes:
        """This account's signature over the usage."""
        return self._signed(self.usage(record, usage, amounts))

    def usage_signer(
        self, record: TaskRecord, usage: UsageRecord, amounts: tuple[int, ...], signature: bytes
    ) -> Account:
        """Who signed the usage; RemoteProtocolError if nobody did."""
        digest: Digest = typed_data.digest(self._market, self.usage(record, usage, amounts))
        return typed_data.recover(digest, signature)

    def _receipt(self, record: TaskRecord, roster: Roster, rows: int) -> typed_data.Receipt:
        dues = record.attested_dues
        return typed_data.Receipt(
            task=record.task, dues=dues_hash(dues), amounts=amounts_of(dues, roster, rows)
        )

    def _signed(self, message: typed_data.TypedMessage) -> bytes:
        if self.signer is None:
            raise Fault("daemon-starting", "the account is not unlocked yet")
        return self.signer.sign(self._market, message)
