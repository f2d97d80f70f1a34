"""Attestations: an organisation that the owners trust vouches for a task's plan.

The confirmed event alone is not enough: a lying endpoint could invent it. Every owner asks for
the attester's own EIP-712 signature over {task, plan hash, deadline} and checks it itself.
"""

from sqlite_utils import Database

from node import task_records
from node.config import Chain, Config
from node.directory import Directory
from node.engine import Engine, Transaction
from node.errors import Fault
from node.grant_records import chain_time
from node.host import Host
from node.log import get_logger
from node.plans import plan_of
from node.signer import Signer
from node.task_records import TaskRecord
from protocol import codec, typed_data
from protocol.documents import plan_hash
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, Digest, PeerId, hexadecimal
from protocol.messages import (
    ATTESTATION_PROTOCOL,
    AttestationAnswer,
    AttestationRequest,
    SessionDeclined,
)
from protocol.roster_check import MEMBER_OPERATION, Plan
from protocol.task import TaskState

log = get_logger("attestations")

ASK_TIMEOUT_S = 10.0


class Attestations:
    """Gives, keeps, serves, fetches and checks attestations."""

    def __init__(
        self, engine: Engine, host: Host, directory: Directory, config: Config, chain: Chain
    ) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        self._config = config
        self._domain = typed_data.market_domain(chain.chain_id, chain.market)
        host.serve(ATTESTATION_PROTOCOL, self._serve, limit=256)

    # ------------------------------------------------------------------ as the attester

    def examine(self, task: bytes) -> tuple[TaskRecord, Plan]:
        """The task and its plan, if this node's [attester] rules let it vouch for them.

        Fault `attestation-refused` names the rule; `task-state` if the task is not open.
        """
        record = task_records.known(self._engine.db, task)
        if record.state is not TaskState.OPEN:
            raise Fault("task-state", f"task {hexadecimal(task)} is {record.state}, not OPEN")
        rules = self._config.attester
        if rules is None:
            raise Fault(
                "attestation-refused", "northbund.toml has no [attester]: nothing is vouched"
            )
        plan = plan_of(self._engine.db, record.algorithm)
        algorithm = plan.algorithm
        for step in algorithm.workflow:
            if step.operation not in (*rules.operations, MEMBER_OPERATION):
                raise _refused(f"operation {step.operation!r} is not among [attester] operations")
        if algorithm.purpose not in rules.purposes:
            raise _refused(f"purpose {algorithm.purpose!r} is not among [attester] purposes")
        if plan.recipient not in self._accounts(rules.recipients):
            name = self._directory.name(plan.recipient)
            raise _refused(f"recipient {name} is not among [attester] recipients")
        return record, plan

    def sign(self, record: TaskRecord, plan: Plan, signer: Signer) -> AttestationAnswer:
        """This node's own signature over the plan; `keep` makes it be served."""
        deadline = record.task_terms.deadline
        message = typed_data.Attestation(
            task=record.task, plan_hash=plan_hash(plan.algorithm), deadline=deadline
        )
        return AttestationAnswer(
            task=record.task,
            plan=message.plan_hash,
            deadline=deadline,
            attester=signer.account,
            signature=signer.sign(signer.market, message),
        )

    async def _serve(self, _peer_id: PeerId, data: bytes) -> bytes:
        request = codec.decode(data, AttestationRequest)
        answer = self.kept(self._engine.db, request.task)
        if answer is None:
            sentence = "this node has not attested that task"
            return codec.encode(SessionDeclined(rule="task-unknown", sentence=sentence))
        return codec.encode(answer)

    # ------------------------------------------------------------------ as everybody else

    async def obtain(self, record: TaskRecord) -> AttestationAnswer:
        """The attester's signature over this task, kept here or asked for at its node.

        Fault `task-state` if the chain has no attestation yet.
        """
        kept = self.kept(self._engine.db, record.task)
        if kept is not None:
            return kept
        if record.attester is None:
            raise Fault("task-state", f"task {hexadecimal(record.task)} is not attested yet")
        peer_id = self._directory.peer_of(record.attester)
        data = await self._host.request(
            peer_id,
            ATTESTATION_PROTOCOL,
            codec.encode(AttestationRequest(task=record.task)),
            timeout_s=ASK_TIMEOUT_S,
        )
        answer = codec.decode(data, AttestationAnswer, SessionDeclined)
        if isinstance(answer, SessionDeclined):
            name = self._directory.name(record.attester)
            raise Fault("attestation-refused", f"{name} says: {answer.sentence}")
        self.check(answer, record)
        with self._engine.transaction() as tx:
            self.keep(tx, answer)
        return answer

    def check(self, answer: AttestationAnswer, record: TaskRecord) -> None:
        """Fault `attestation-refused` unless all of this holds, each by this node's own look:

        the attester is one that this node trusts; its deadline has not passed by the time of the
        newest block taken; its signature covers this task, this plan and
        this deadline; the chain has confirmed the same attester and plan; the plan is that of the
        document whose hash the algorithm's owner registered.
        """
        if answer.attester not in self._config.attesters():
            name = self._directory.name(answer.attester)
            raise _refused(f"{name} is not among the attesters that this node trusts")
        message = typed_data.Attestation(
            task=answer.task, plan_hash=Digest(answer.plan), deadline=answer.deadline
        )
        try:
            signer = typed_data.recover(typed_data.digest(self._domain, message), answer.signature)
        except RemoteProtocolError as error:
            raise _refused(str(error)) from error
        plan = plan_of(self._engine.db, record.algorithm)
        now = chain_time(self._engine.db, self._engine.clock())
        holds: dict[str, bool] = {
            "the signature is not the attester's": signer == answer.attester,
            "it is for another task": answer.task == record.task,
            "it is for another deadline": answer.deadline == record.task_terms.deadline,
            "the chain has confirmed no such attestation": record.attester == answer.attester,
            "the chain has another plan": record.plan == answer.plan,
            "the algorithm's document has another plan": answer.plan == plan_hash(plan.algorithm),
            "its deadline has passed": now < answer.deadline,
            f"the task is {record.state}": record.state in (TaskState.ATTESTED, TaskState.CLAIMED),
        }
        for sentence, right in holds.items():
            if not right:
                raise _refused(sentence)

    @staticmethod
    def kept(db: Database, task: bytes) -> AttestationAnswer | None:
        """The attestation of the task that is kept here, or None."""
        row = db.execute("SELECT body FROM attestations WHERE task = ?", [task]).fetchone()
        return codec.decode(row[0], AttestationAnswer) if row else None

    def keep(self, tx: Transaction, answer: AttestationAnswer) -> None:
        """Afterwards the attestation is kept here and served to whoever asks."""
        tx.note("attestation", answer.task, "kept", attester=answer.attester.hex())
        tx.db.execute(
            "INSERT OR REPLACE INTO attestations VALUES (?, ?)", [answer.task, codec.encode(answer)]
        )

    def _accounts(self, names: tuple[str, ...]) -> set[Account]:
        known = self._directory.accounts
        return {known[name] for name in names if name in known}


def _refused(sentence: str) -> Fault:
    return Fault("attestation-refused", sentence)
