"""Methods about tasks and sessions, and about what became of an asset or a person's row."""

import json
from typing import Any

from node import session_records, task_records, traces
from node.api.rooms import Rooms
from node.errors import Fault
from node.receipts import amounts_of
from node.rpc import Method, Parameters
from node.session_jobs import folder_of
from node.session_records import SessionRecord
from node.task_records import TaskRecord
from protocol import codec
from protocol.ids import SessionId, from_hexadecimal
from protocol.manifest import Roster, RowSet

EXAMPLE = "0x" + "11" * 32


class Opening(Parameters, frozen=True):
    """Which algorithm, the escrow in the token's smallest unit, and until when (from now)."""

    algorithm: str
    budget: str
    deadline_s: int = 3600


class OfTask(Parameters, frozen=True):
    """One task."""

    task: str


class SessionStart(Parameters, frozen=True):
    """Which task; `seed` settles the recipient's split of rows, drawn at random if left out."""

    task: str
    seed: int | None = None


class OfSession(Parameters, frozen=True):
    """One session."""

    session: str


class OfCdt(Parameters, frozen=True):
    """One asset."""

    cdt: str


class OfDataset(Parameters, frozen=True):
    """A dataset of northbund.toml, by name."""

    dataset: str


class OfSubject(Parameters, frozen=True):
    """A person's id, as it stands in the data."""

    id: str


def table(rooms: Rooms) -> list[Method]:
    """The methods of this room."""
    methods = TaskMethods(rooms)
    task, session = {"task": EXAMPLE}, {"session": EXAMPLE}
    opening = {"algorithm": EXAMPLE, "budget": "1000"}
    return [
        Method("task_open", methods.open, Opening, "Anchor grants, open a task", opening),
        Method("task_attest", methods.attest, OfTask, "Check a plan and vouch for it", task),
        Method("task_show", methods.show_task, OfTask, "One task", task),
        Method("task_list", methods.list_tasks, summary="All tasks, the latest first"),
        Method("task_claim", methods.claim, OfTask, "Claim by the recipient's receipt", task),
        Method("task_settle", methods.settle, OfTask, "Report the usage and pay out", task),
        Method("session_start", methods.start, SessionStart, "Propose a session", task),
        Method("session_show", methods.show_session, OfSession, "One session", session),
        Method("session_list", methods.list_sessions, summary="All sessions, the latest first"),
        Method("session_stop", methods.stop, OfSession, "End a session at once", session),
        Method("trace_asset", methods.trace, OfCdt, "Who used an asset", {"cdt": EXAMPLE}),
        Method("price_list", methods.prices, summary="What settled uses were paid, by operation"),
        Method(
            "budget_show",
            methods.budget,
            OfDataset,
            "What has been opened of a dataset's rows",
            {"dataset": "credit-facts"},
        ),
        Method(
            "subject_uses",
            methods.subject,
            OfSubject,
            "Every use of one person's row",
            {"id": "applicant-00001"},
        ),
    ]


class TaskMethods:
    """What can be asked about tasks, sessions and uses."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    # ------------------------------------------------------------------ tasks

    async def open(self, given: Opening) -> dict[str, Any]:
        """The task is open on chain, its grants and escrow with it."""
        decider = self._rooms.house.config.trust.decider
        if decider is None:
            raise Fault("config-invalid", "northbund.toml names no [trust] decider for disputes")
        if not given.budget.isdecimal():
            raise Fault("input-invalid", f"budget {given.budget:.40!r} is no whole number")
        algorithm = from_hexadecimal(given.algorithm, 32)
        record = await self._rooms.tasks.open(
            algorithm, int(given.budget), given.deadline_s, decider
        )
        return self._task(record)

    async def attest(self, given: OfTask) -> dict[str, Any]:
        """This node vouches for the task, on chain and by its own signature."""
        answer = await self._rooms.tasks.attest(from_hexadecimal(given.task, 32))
        return {"task": answer.task, "plan": answer.plan, "attester": answer.attester}

    async def show_task(self, given: OfTask) -> dict[str, Any]:
        """One task, as the chain's confirmed events tell it."""
        return self._task(task_records.known(self._db, from_hexadecimal(given.task, 32)))

    async def list_tasks(self, _: Parameters) -> list[dict[str, Any]]:
        """Every task that the chain has confirmed."""
        return [self._task(each) for each in task_records.every(self._db)]

    async def claim(self, given: OfTask) -> dict[str, Any]:
        """This owner's price is claimed, also where the recipient has fallen silent."""
        return self._task(await self._rooms.tasks.claim(from_hexadecimal(given.task, 32)))

    async def settle(self, given: OfTask) -> dict[str, Any]:
        """All sides sign the usage, and the escrow is paid out."""
        settled = await self._rooms.tasks.settle(from_hexadecimal(given.task, 32))
        name = self._rooms.house.directory.name
        return {
            "task": settled.task,
            "paid": [
                {"cdt": cdt, "owner": name(owner), "amount": str(amount)}
                for cdt, owner, amount in settled.paid
            ],
        }

    def _task(self, record: TaskRecord) -> dict[str, Any]:
        terms = record.task_terms
        name = self._rooms.house.directory.name
        return {
            "task": record.task,
            "algorithm": record.algorithm,
            "state": record.state,
            "opener": name(terms.opener),
            "recipient": name(terms.recipient),
            "budget": str(terms.budget),
            "deadline": terms.deadline,
            "attester": name(record.attester) if record.attester else None,
            "plan": record.plan,
            "dues": [
                {
                    "cdt": due.child,
                    "owner": name(due.owner),
                    "price": str(due.price),
                    "unit": ("edge", "row", "opening")[due.unit],
                }
                for due in record.attested_dues
            ],
            "amounts": [str(amount) for amount in record.paid_amounts],
        }

    # ------------------------------------------------------------------ sessions

    async def start(self, given: SessionStart) -> dict[str, Any]:
        """The session's id; it runs in the background, `session_show` tells how far it is."""
        task = from_hexadecimal(given.task, 32)
        return {"session": await self._rooms.sessions.start(task, given.seed)}

    async def show_session(self, given: OfSession) -> dict[str, Any]:
        """Stage, progress, who is awaited, who agreed and why, losses, and how it ended."""
        session = from_hexadecimal(given.session, 32)
        decisions = session_records.decisions(self._db, session)
        if decisions and session_records.find(self._db, session) is None:
            refused = decisions[-1]
            reason = f"{refused['rule']}: {'; '.join(refused['why'])}"
            return {"session": session, "state": "DECLINED", "reason": reason,
                    "decisions": decisions}  # fmt: skip
        record = session_records.known(self._db, session)
        return {**self._session(record), "decisions": decisions}

    async def list_sessions(self, _: Parameters) -> list[dict[str, Any]]:
        """Every session of this node."""
        return [self._session(each) for each in session_records.every(self._db)]

    async def stop(self, given: OfSession) -> dict[str, Any]:
        """The session ends here and everywhere."""
        session = from_hexadecimal(given.session, 32)
        await self._rooms.sessions.stop(session)
        return self._session(session_records.known(self._db, session))

    def _session(self, record: SessionRecord) -> dict[str, Any]:
        live = self._rooms.sessions.participation.live.get(SessionId(record.session))
        row_set = codec.decode(record.row_set, RowSet) if record.row_set else None
        return {
            "session": record.session,
            "task": record.task,
            "roles": record.roles.split(),
            "state": record.state,
            "reason": record.reason,
            "blamed": json.loads(record.blamed),
            "rows": row_set.rows if row_set else None,
            "cost": self._cost(record, row_set),
            "progress": live.progress if live else {},
            "losses": live.losses if live else [],
            "summary": json.loads(record.summary),
            "folder": str(folder_of(self._rooms.house.folder, record.session)),
            "started_at": record.started_at,
            "updated_at": record.updated_at,
        }

    def _cost(self, record: SessionRecord, row_set: RowSet | None) -> str | None:
        if record.roster is None or row_set is None:
            return None
        dues = task_records.known(self._db, record.task).attested_dues
        return str(sum(amounts_of(dues, codec.decode(record.roster, Roster), row_set.rows)))

    # ------------------------------------------------------------------ afterwards

    async def trace(self, given: OfCdt) -> dict[str, Any]:
        """Every attested use of the asset, with this node's own sessions and openings of it."""
        return traces.asset(self._rooms.house, from_hexadecimal(given.cdt, 32))

    async def prices(self, _: Parameters) -> list[dict[str, Any]]:
        """Figures of every settled use that the chain tells of, for who looks for a price."""
        return traces.prices(self._rooms.house)

    async def budget(self, given: OfDataset) -> dict[str, Any]:
        """What sessions reserved on the dataset's rows, and the cap."""
        return traces.budget(self._rooms.house, given.dataset)

    async def subject(self, given: OfSubject) -> dict[str, Any]:
        """From the ledger: every use of this person's row, by any recipient."""
        return {"id": given.id, "uses": traces.subject(self._rooms.house, given.id)}

    @property
    def _db(self) -> Any:
        return self._rooms.house.engine.db
