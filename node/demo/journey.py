"""The journey of the scenario, step by step, each step a call of some organisation's JSON-RPC.

Nothing here decides anything: the owners' nodes do, by their terms. What the steps leave behind
for the report is in `Journey`'s attributes.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from node.demo.applicants import BANK_A, BANK_B, FINTECH_C, ORGANISATIONS, REGULATOR_D
from node.demo.in_clear import DEFAULT, Settings
from node.demo.network import Network
from node.demo.organisations import (
    COHORT_MIN,
    MEMBER_OPERATION,
    OPERATION,
    PURPOSE,
    TOKEN_UNIT,
)
from node.demo.progress import Progress
from node.errors import Fault

BANKS = (BANK_A, BANK_B)
COMPUTERS = (BANK_A, BANK_B, REGULATOR_D)
GREEDY_WIDTH = 12
BUDGET = 20 * TOKEN_UNIT
SPREAD_S = 20.0
STEP_S = 60.0
SESSION_S = 300.0
_NEGOTIATED = ("FINALIZED", "TERMINATED")
_SESSION_OVER = ("COMPLETED", "ABORTED")


class Journey:
    """One passage from publishing to tracing; to be walked in the order of the methods."""

    def __init__(self, network: Network, progress: Progress) -> None:
        self._network = network
        self._progress = progress
        self.data: dict[str, str] = {}
        self.compute: dict[str, str] = {}
        self.algorithm = ""
        self.task = ""
        self.session: dict[str, Any] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.refused: list[dict[str, Any]] = []
        self.paid: list[dict[str, Any]] = []
        self.withdrawn: dict[str, int] = {}
        self.traces: dict[str, Any] = {}

    @property
    def results_folder(self) -> Path:
        """Where the recipient's worker wrote what it opened."""
        return Path(self.session["folder"])

    # ------------------------------------------------------------------ assets and contracts

    def meet(self) -> None:
        """Every node is connected to the three others, unlocked, and sees the chain."""

        def ready(name: str) -> bool:
            status = self._network[name].call("node_status")
            return bool(
                status["unlocked"]
                and status["peers"] == len(ORGANISATIONS) - 1
                and status["chain"]["connected"]
            )

        self._everywhere(ORGANISATIONS, ready)

    def publish(self) -> None:
        """Both datasets and the three compute assets are confirmed CDTs."""

        def data(name: str) -> None:
            dataset = f"applicants-{name[-1]}"
            self.data[name] = self._network[name].call("dataset_publish", name=dataset)["cdt"]
            self._progress.say(name, f"published {dataset} as {_short(self.data[name])}")

        def compute(name: str) -> None:
            self.compute[name] = self._network[name].call("compute_publish")["cdt"]
            self._progress.say(name, f"published its compute as {_short(self.compute[name])}")

        with ThreadPoolExecutor() as pool:
            jobs = [pool.submit(data, name) for name in BANKS]
            jobs += [pool.submit(compute, name) for name in COMPUTERS]
            for job in jobs:
                job.result()

    def discover(self) -> None:
        """Every catalogue holds all five assets with their documents, checked."""
        wanted = {*self.data.values(), *self.compute.values()}
        self._known_everywhere(wanted)
        self._progress.say(FINTECH_C, f"found {len(wanted)} assets of three organisations")

    def ask_too_much(self) -> None:
        """Bank B is asked for what its terms forbid, and refuses with its reasons."""
        greedy = self._compose("greedy-model", GREEDY_WIDTH, 0.0, DEFAULT)
        self._progress.say(FINTECH_C, f"asks {BANK_B} for width {GREEDY_WIDTH} without noise")
        for found in self._negotiated(greedy, [self.data[BANK_B]]):
            # two rules may bound the same thing; the first is of the terms, what it allows passes
            failed = {each["operand"]: each for each in reversed(found["failed"])}
            constraints = [_reason(each) for each in reversed(failed.values())]
            if found["state"] != "TERMINATED" or not constraints:
                raise Fault("demo-failed", f"{BANK_B} did not refuse width {GREEDY_WIDTH}")
            for constraint in constraints:
                self._progress.say(found["counterparty"], f"refuses: {constraint}")
            self.refused.append(
                {
                    "organisation": found["counterparty"],
                    "asset": found["child_name"],
                    "asked": f"width {GREEDY_WIDTH}, no noise",
                    "constraints": constraints,
                    "failed": found["failed"],
                }
            )

    def negotiate(self) -> None:
        """The algorithm is composed, and every owner has signed its grant."""
        self.algorithm = self._compose("risk-model", DEFAULT.width, DEFAULT.noise, DEFAULT)
        self._progress.say(FINTECH_C, f"composed risk-model {_short(self.algorithm)}")
        for found in self._negotiated(self.algorithm, []):
            if found["state"] != "FINALIZED":
                reasons = "; ".join(_reason(each) for each in found["failed"])
                raise Fault(
                    "demo-failed",
                    f"{found['counterparty']} did not grant {found['child_name']}: "
                    f"{found['sentence'] or found['state']} {reasons}",
                )
            self._progress.say(found["counterparty"], f"grants {found['child_name']}")

    def anchor(self) -> None:
        """The task is open with its escrow, and attested."""
        opened = self._network[FINTECH_C].call(
            "task_open", algorithm=self.algorithm, budget=str(BUDGET)
        )
        self.task = opened["task"]
        self._progress.say(
            FINTECH_C, f"opened task {_short(self.task)}, {tokens(BUDGET)} tokens in escrow"
        )
        self._network.until(REGULATOR_D, lambda: self._task_is(REGULATOR_D, "OPEN"), SPREAD_S)
        self._network[REGULATOR_D].call("task_attest", task=self.task)
        self._progress.say(REGULATOR_D, "checked the plan and vouches for it")
        self._everywhere(ORGANISATIONS, lambda name: self._task_is(name, "ATTESTED"))

    # ------------------------------------------------------------------ the session

    def start_session(self, seed: int) -> str:
        """The session is proposed to everybody; its id."""
        started = self._network[FINTECH_C].call("session_start", task=self.task, seed=seed)
        return str(started["session"])

    def align(self, session: str) -> None:
        """Everybody has signed the roster, the rows are aligned, everybody has signed them."""
        seen: list[str] = []

        def aligned() -> bool:
            shown = self._look(session)
            if shown["state"] not in seen:
                seen.append(shown["state"])
                self._progress.say(FINTECH_C, f"session: {_words(shown['state'])}")
            return shown["state"] in ("RUNNING", *_SESSION_OVER)

        self._network.until("all parties", aligned, SESSION_S)
        self._progress.say(
            FINTECH_C, f"{self.session['rows']:,} applicants are common to all three"
        )

    def train(self, session: str) -> None:
        """Every training round is done."""
        self._rounds(session, "train")

    def evaluate(self, session: str) -> None:
        """The held-out rows were opened once, and every node has completed the session."""
        self._rounds(session, "evaluate")
        self._everywhere(ORGANISATIONS, lambda name: self._completed(name, session))
        for name in ORGANISATIONS:
            shown = self._network[name].call("session_show", session=session)
            self.summaries[name] = shown["summary"]
        self.session = self._look(session)

    # ------------------------------------------------------------------ afterwards

    def settle(self) -> None:
        """All sides have signed the usage, the escrow is paid, and everybody has its money."""
        settled = self._network[FINTECH_C].call("task_settle", task=self.task)
        self.paid = settled["paid"]
        self._progress.say(FINTECH_C, "reported the usage, signed by all; the escrow paid out")

        def withdraw(name: str) -> None:
            amount = int(self._network[name].call("payment_withdraw")["withdrawn"])
            self.withdrawn[name] = amount
            self._progress.say(name, f"withdrew {tokens(amount)} tokens")

        earners = sorted({each["owner"] for each in self.paid if int(each["amount"])})
        with ThreadPoolExecutor() as pool:
            list(pool.map(withdraw, earners))

    def trace(self) -> None:
        """Both banks can say who used their data, for what, and who vouched."""
        for name in BANKS:
            traced = self._network[name].call("trace_asset", cdt=self.data[name])
            self.traces[name] = traced
            for use in traced["uses"]:
                self._progress.say(
                    name,
                    f"{traced['name']} was used by {use['consumer']} in task "
                    f"{_short(use['task'])}, vouched for by {use['attester']}",
                )

    def gas(self) -> dict[str, dict[str, int]]:
        """Gas of each kind of transaction, over all four nodes."""
        total: dict[str, dict[str, int]] = {}
        for name in ORGANISATIONS:
            for kind, figures in self._network[name].call("chain_gas").items():
                spent = total.setdefault(kind, {"transactions": 0, "gas": 0})
                spent["transactions"] += figures["count"]
                spent["gas"] += figures["gas_total"]
        return dict(sorted(total.items()))

    def assets(self) -> list[dict[str, Any]]:
        """Every asset as the fintech's catalogue has it."""
        return self._listed(FINTECH_C)

    def grants(self) -> list[dict[str, Any]]:
        """Every grant that the fintech holds."""
        found: list[dict[str, Any]] = self._network[FINTECH_C].call("grant_list")
        return found

    # ------------------------------------------------------------------ how

    def _compose(self, name: str, width: int, noise: float, settings: Settings) -> str:
        parameters = asdict(settings) | {
            "width": width,
            "noise": noise,
            "engine": "lane",
            "evaluation_engine": "mpyc",
            "field": "m61",
        }
        children: list[dict[str, Any]] = [
            {"cdt": cdt, "operation": OPERATION, "parameters": parameters}
            for cdt in self.data.values()
        ]
        children += [{"cdt": cdt, "operation": MEMBER_OPERATION} for cdt in self.compute.values()]
        composed = self._network[FINTECH_C].call(
            "algorithm_compose",
            name=name,
            description="who will default",
            children=children,
            pool=list(self.compute.values()),
            purpose=PURPOSE,
            seats=3,
            threshold=1,
            cohort_floor=COHORT_MIN,
            labels="seen-by-owners",
        )
        cdt = str(composed["cdt"])
        self._known_everywhere({cdt})
        return cdt

    def _negotiated(self, algorithm: str, children: Sequence[str]) -> list[dict[str, Any]]:
        fintech = self._network[FINTECH_C]
        started = fintech.call("negotiation_start", algorithm=algorithm, children=list(children))
        found: dict[str, dict[str, Any]] = {each["id"]: each for each in started}

        def awaited() -> list[str]:
            for process in found:
                found[process] = fintech.call("negotiation_show", id=process)
            open_ = [each for each in found.values() if each["state"] not in _NEGOTIATED]
            return sorted({each["counterparty"] for each in open_})

        self._network.until("the owners", lambda: not awaited(), STEP_S)
        return list(found.values())

    def _known_everywhere(self, wanted: set[str]) -> None:
        def known(name: str) -> bool:
            return wanted <= {each["cdt"] for each in self._listed(name)}

        self._everywhere(ORGANISATIONS, known)

    def _listed(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._network[name].call("cdt_list", limit=200)["assets"]
        return found

    def _everywhere(self, names: Iterable[str], done: Any) -> None:
        for name in names:
            self._network.until(name, lambda name=name: done(name), SPREAD_S)  # type: ignore[misc]

    def _task_is(self, name: str, state: str) -> bool:
        try:
            return bool(self._network[name].call("task_show", task=self.task)["state"] == state)
        except Fault as fault:
            if fault.kind == "task-unknown":  # this node has not followed the chain so far yet
                return False
            raise

    def _completed(self, name: str, session: str) -> bool:
        shown = self._network[name].call("session_show", session=session)
        _fail_if_aborted(shown, name)
        return bool(shown["state"] == "COMPLETED")

    def _look(self, session: str) -> dict[str, Any]:
        self.session = self._network[FINTECH_C].call("session_show", session=session)
        _fail_if_aborted(self.session, FINTECH_C)
        told = self.session["progress"].values()
        self._progress.await_(sorted({name for each in told for name in each["awaited"]}))
        return self.session

    def _rounds(self, session: str, stage: str) -> None:
        def done() -> bool:
            shown = self._look(session)
            told: Mapping[str, Any] = shown["progress"].get("recipient") or {}
            if stage == "train" and told.get("stage") == "train":
                self._progress.train(told["done"], told["total"], shown["losses"])
                return bool(told["done"] == told["total"])
            past = told.get("stage") in ("evaluate", "close") and stage == "train"
            return past or shown["state"] in _SESSION_OVER

        self._network.until("the committee", done, SESSION_S)


def tokens(amount: int) -> str:
    """An amount in the token's smallest unit as whole tokens."""
    return f"{amount / TOKEN_UNIT:.3f}".rstrip("0").rstrip(".")


def _fail_if_aborted(shown: Mapping[str, Any], name: str) -> None:
    if shown["state"] == "ABORTED":
        blamed = f" (between {', '.join(shown['blamed'])})" if shown["blamed"] else ""
        raise Fault(
            "demo-failed",
            f"the session was aborted at {name}: {shown['reason']}{blamed}; "
            f"see northbund.log in the nodes' folders",
        )


def _reason(finding: Mapping[str, Any]) -> str:
    return f"{finding['what']}: {finding['asked']} was asked, {finding['allowed']} is allowed"


def _short(identifier: str) -> str:
    return identifier[:10] + "…"


def _words(state: str) -> str:
    return state.lower().replace("_", " ")
