"""Tasks on chain: open with the grants and the escrow, attest, settle, withdraw.

Every step is an intent with a key of its own in the outbox, stored together with what it follows
from, so that a crash in the middle neither loses nor doubles it. What moves a task's state are
the chain's confirmed events alone.
"""

import secrets
from dataclasses import dataclass

from chain import contracts, identities, tree, views
from chain.errors import ChainRefused
from chain.values import SignedBy, TaskTerms
from node import assets, attester_trust, grant_records, grants, task_records
from node.chain_link import ChainLink
from node.engine import Transaction
from node.errors import Fault
from node.house import House
from node.plans import plan_of
from node.sessions import Sessions
from node.signer import Signer
from node.task_records import TaskRecord
from protocol import codec
from protocol.ids import Account, CdtId, TaskId, hexadecimal
from protocol.messages import AttestationAnswer
from protocol.task import TaskState
from protocol.typed_data import Grant


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settled task paid: (child, owner, amount) for each edge."""

    task: TaskId
    paid: tuple[tuple[CdtId, Account, int], ...]


class Tasks:
    """This node's tasks: as opener and recipient, and as attester."""

    def __init__(self, house: House, sessions: Sessions, link: ChainLink, signer: Signer) -> None:
        self._house = house
        self._engine = house.engine
        self._chain = house.chain
        self._directory = house.directory
        self._attestations = house.attestations
        self._sessions = sessions
        self._link = link
        self._signer = signer

    async def trust_attesters(self) -> None:
        """Afterwards the chain is told whom this node's configuration trusts to attest."""
        own, wanted = self._directory.own.account, self._house.config.attesters()
        await attester_trust.tell_chain(self._engine, self._link, self._chain.registry, own, wanted)

    async def open(
        self, algorithm: bytes, budget: int, deadline_s: int, decider: Account
    ) -> TaskRecord:
        """Afterwards the grants stand on chain and the task is open with its escrow.

        Fault `grant-unknown` names an edge without a grant, `grant-unusable` one that the
        registry skipped.
        """
        self._link.require()
        await self._require_tokens(budget)
        await self._link.require_funds()
        plan = plan_of(self._engine.db, algorithm)
        signed = [
            self._grant_for(leaf, algorithm) for leaf in assets.children(self._engine.db, algorithm)
        ]
        own = self._directory.own.account
        terms = TaskTerms(
            cdt=CdtId(algorithm),
            consumer=own,
            opener=own,
            recipient=Account(plan.recipient),
            decider=decider,
            token=self._chain.token,
            budget=budget,
            deadline=int(self._engine.clock()) + deadline_s,
            salt=secrets.token_bytes(32),
        )
        task = identities.task_id(self._chain.chain_id, self._chain.market, terms)
        name = hexadecimal(task)
        market, registry, token = self._chain.market, self._chain.registry, self._chain.token
        with self._engine.transaction():
            self._link.enqueue(f"grants:{name}", "grant", registry, contracts.grant_many(signed))
            self._link.enqueue(
                f"approve:{name}", "approve", token, contracts.approve(market, budget)
            )
            self._link.enqueue(f"open:{name}", "open", market, contracts.open_task(terms))

        def no_escrow(_: Transaction) -> None:
            self._link.withdraw(f"approve:{name}", f"open:{name}")

        await self._link.confirmed(f"grants:{name}", undo=no_escrow)
        await self._link.confirmed(f"open:{name}", undo=no_escrow)
        return task_records.known(self._engine.db, task)

    async def _require_tokens(self, budget: int) -> None:
        held = await self.balance()
        if held < budget:
            raise Fault(
                "funds-missing",
                f"the account holds {held} of the token, and the budget is {budget} (both in its"
                " smallest unit)",
            )

    def _grant_for(self, leaf: bytes, algorithm: bytes) -> tuple[Grant, bytes]:
        kept = grant_records.latest(self._engine.db, leaf, algorithm)
        if kept is None:
            asset = assets.find(self._engine.db, leaf)
            name = asset.name if asset else hexadecimal(leaf)
            raise Fault("grant-unknown", f"{name} has not been granted to this algorithm")
        return grants.typed(kept.terms), kept.signature

    async def attest(self, task: bytes) -> AttestationAnswer:
        """Afterwards this node has vouched: on chain, and by its own signature for the owners."""
        self._link.require()
        record, plan = self._attestations.examine(task)
        try:
            witness = tree.witness(self._engine.db, record.algorithm)
        except ChainRefused as error:
            raise Fault("attestation-refused", error.reason) from error
        name, market = hexadecimal(task), self._chain.market
        await self._link.require_funds()
        bond = await self._missing_bond()
        answer = self._attestations.sign(record, plan, self._signer)
        with self._engine.transaction() as tx:
            if bond:
                approve = contracts.approve(market, bond)
                self._link.enqueue(f"bond-approve:{name}", "approve", self._chain.token, approve)
                lodge = contracts.lodge_bond(bond)
                self._link.enqueue(f"bond:{name}", "lodge bond", market, lodge)
            attest = contracts.attest(record.task_terms, witness, answer.plan)
            self._link.enqueue(f"attest:{name}", "attest", market, attest)
            self._attestations.keep(tx, answer)

        def no_bond(_: Transaction) -> None:
            self._link.withdraw(f"bond-approve:{name}", f"bond:{name}")

        await self._link.confirmed(f"attest:{name}", undo=no_bond)
        return answer

    async def _missing_bond(self) -> int:
        """How much has to be lodged before this node may attest."""
        market = self._chain.market
        wanted = await self._link.read(market, views.bond_amount())
        free = await self._link.read(market, views.bond_of(self._directory.own.account))
        return wanted if free < wanted else 0

    async def claim(self, task: bytes) -> TaskRecord:
        """Afterwards this owner's price is claimed by the recipient's receipt, without its help.

        `settle` pays it once the dispute window after the task's deadline has passed. Fault
        `session-unknown` if no receipt was ever given here, `task-state` if it is too late.
        """
        self._link.require()
        record = task_records.known(self._engine.db, task)
        if record.state not in (TaskState.ATTESTED, TaskState.CLAIMED, TaskState.DISPUTED):
            raise Fault(
                "task-state", f"task {hexadecimal(task)} is {record.state}: nothing to claim"
            )
        amounts, receipt = self._sessions.settlement.receipt(record)
        claimed = record.paid_amounts
        if claimed and all(have >= want for have, want in zip(claimed, amounts, strict=True)):
            return record  # another owner has claimed by the same receipt, for everybody
        data = contracts.claim(record.task_terms, record.attested_dues, amounts, claimed, receipt)
        key = f"claim:{hexadecimal(task)}:{hexadecimal(codec.sha256(receipt))}"
        with self._engine.transaction() as tx:
            self._link.enqueue(key, "claim", self._chain.market, data)
            tx.note("claim", task, "sent", amounts=[str(amount) for amount in amounts])
        await self._link.confirmed(key)
        return task_records.known(self._engine.db, task)

    async def settle(self, task: bytes) -> Settled:
        """Afterwards the escrow is paid out.

        The recipient's node first gathers everybody's signature of what was used. Any other node
        settles what was reported, or claimed by receipt, once the contract's window has passed.
        """
        self._link.require()
        record = task_records.known(self._engine.db, task)
        if record.state is not TaskState.SETTLED:
            own = self._directory.own.account
            unreported = record.state is not TaskState.REPORTED
            if record.task_terms.recipient == own and unreported:
                await self._report_and_settle(record)
            else:
                await self._settle_known(record)
            record = task_records.known(self._engine.db, task)
        dues = zip(record.attested_dues, record.paid_amounts, strict=True)
        paid = tuple((CdtId(due.child), due.owner, amount) for due, amount in dues)
        return Settled(TaskId(record.task), paid)

    async def _settle_known(self, record: TaskRecord) -> None:
        name = hexadecimal(record.task)
        if not record.paid_amounts:
            raise Fault(
                "task-state", f"task {name} is {record.state}: nobody has claimed or reported"
            )
        amounts = record.paid_amounts
        settle = contracts.settle(record.task_terms, record.attested_dues, amounts)
        with self._engine.transaction():
            self._link.enqueue(f"settle:{name}", "settle", self._chain.market, settle)
        await self._link.confirmed(f"settle:{name}")

    async def _report_and_settle(self, record: TaskRecord) -> None:
        usage, signatures = await self._sessions.settlement.gather(record.task)
        amounts = tuple(int(due.amount) for due in usage.dues)
        signed = [SignedBy(account, signature) for account, signature in signatures.items()]
        name, market = hexadecimal(record.task), self._chain.market
        terms, dues = record.task_terms, record.attested_dues
        report = contracts.report(terms, dues, usage.result, codec.digest(usage), amounts, signed)
        with self._engine.transaction():
            self._link.enqueue(f"report:{name}", "report", market, report)
            settle = contracts.settle(terms, dues, amounts)
            self._link.enqueue(f"settle:{name}", "settle", market, settle)

        def no_settlement(_: Transaction) -> None:
            self._link.withdraw(f"settle:{name}")

        await self._link.confirmed(f"report:{name}", undo=no_settlement)
        await self._link.confirmed(f"settle:{name}")

    async def credit(self) -> int:
        """What this account can withdraw now, in the token's smallest unit."""
        own = self._directory.own.account
        return await self._link.read(self._chain.market, views.credit_of(self._chain.token, own))

    async def balance(self) -> int:
        """What this account holds of the token, in its smallest unit."""
        own = self._directory.own.account
        return await self._link.read(self._chain.token, views.balance_of(own))

    async def withdraw(self) -> int:
        """Afterwards the account holds its credit; how much. Fault `payment-nothing`."""
        amount = await self.credit()
        if not amount:
            raise Fault("payment-nothing", "nothing stands to this account's credit")
        await self._link.require_funds()
        key = f"withdraw:{secrets.token_hex(8)}"
        data = contracts.withdraw(self._chain.token)
        with self._engine.transaction():
            self._link.enqueue(key, "withdraw", self._chain.market, data)
        await self._link.confirmed(key)
        return amount
