"""An administrator's own examples, judged by a policy before it is live.

The very same rules judge them as judge a request from the network; only earlier grants and
revocations are not looked at. Nothing is read but the configuration.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mpc import operations
from node.config import Config
from node.config_reading import sentence_of
from node.errors import Fault
from node.example_file import Example, ExampleFile, Request, merged
from node.judging import Question, alive
from protocol import terms, terms_policy, terms_table
from protocol.documents import Algorithm, Step
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.judgement import Judgement, judged, nearest
from protocol.manifest import Parameters
from protocol.messages import ContractRequest
from protocol.privacy import Committee
from protocol.terms import Terms
from protocol.terms_table import TermsTable

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policy says of one example, and whether that is what was expected."""

    example: Example
    judgement: Judgement

    @property
    def failed(self) -> tuple[str, ...]:
        """The operands that failed, each once."""
        return tuple(dict.fromkeys(each.operand for each in self.judgement.failures))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What failed in sentences, each once: terms and floors may say the same."""
        return tuple(dict.fromkeys(each.sentence for each in self.judgement.failures))

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one, for the expected reasons."""
        fails = self.example.fails
        same = fails is None or {terms_policy.operand_of(each) for each in fails} == set(
            self.failed
        )
        return self.judgement.verdict == self.example.expect and same


def judge(
    examples: ExampleFile, config: Config, own: Account, now: float, source: str
) -> list[Outcome]:
    """What `config` says of each example, for a node with the account `own` at time `now`.

    Fault `input-invalid` names the example that asks for what cannot be asked, `dataset-unknown`
    a dataset that the configuration has not.
    """
    bench = _Bench.of(config, own, now)
    outcomes = []
    for example in examples.examples:
        asked = merged(examples.request, example.request)
        where = f"{source}, example {example.name!r}"
        try:
            request = msgspec.convert(asked, Request)
            outcomes.append(Outcome(example, bench.judge(request)))
        except (msgspec.ValidationError, RemoteProtocolError) as error:
            told = sentence_of(error) if isinstance(error, msgspec.ValidationError) else error
            raise Fault("input-invalid", f"{where}: {told}") from None
    return outcomes


@dataclass(frozen=True, slots=True)
class _Bench:
    """The configuration that examples are put to."""

    config: Config
    accounts: Mapping[str, Account]
    operators: Mapping[bytes, str]
    now: float

    @classmethod
    def of(cls, config: Config, own: Account, now: float) -> "_Bench":
        accounts = {each.name: each.account for each in config.organisations}
        operators = {bytes(each.account): each.operator for each in config.organisations}
        return cls(config, accounts | {config.name: own}, operators | {own: config.name}, now)

    def judge(self, asked: Request) -> Judgement:
        table, policy = self._policy(asked)
        question = self._question(asked)
        waived = map(terms_policy.operand_of, asked.waived)
        return judged(
            (*question.said(policy), *alive(question.request, self.now)),
            question.firm(policy),
            offer=nearest(policy, question.request, now=self.now),
            referable=lambda operand: terms_table.referable(table, operand),
            waived={each for each in waived if terms_table.referable(table, each)},
        )

    def _policy(self, asked: Request) -> tuple[TermsTable, Terms]:
        data = bool(asked.dataset)
        if asked.compute is data:
            raise RemoteProtocolError("a request names a dataset, or says compute = true")
        if data:
            table = self.config.dataset(asked.dataset).terms
        elif self.config.compute is None:
            raise RemoteProtocolError("the policy has no [compute]")
        else:
            table = self.config.compute.terms
        build = terms_policy.for_data if data else terms_policy.for_compute
        try:
            found = terms_table.read(table, data=data)
            last = terms_table.until(found, self.now)
            return found, build(found, self.accounts, last)
        except terms_table.TermsTableError as error:
            raise Fault("terms-invalid", str(error)) from error

    def _question(self, asked: Request) -> Question:
        columns = self.config.dataset(asked.dataset).features if asked.dataset else ()
        seats = asked.seats or len(asked.members)
        return Question(
            has_rows=bool(asked.dataset),
            numeric_columns=sum(1 for column in columns if column.kind == "number"),
            request=self._request(asked),
            algorithm=Algorithm(
                workflow=(),
                pool=tuple(map(str, range(len(asked.members)))),
                seats=seats,
                threshold=asked.threshold,
                cohort_floor=asked.cohort,
                recipient=hexadecimal(self._account(asked.recipient)),
                purpose=asked.purpose,
                labels=asked.labels,
                top_model="",
            ),
            step=self._step(asked),
            committee=Committee(
                members=self._operators(asked.members),
                contributors=self._operators(asked.contributors),
                recipient=self._operator(asked.recipient),
                threshold=asked.threshold,
                seats=seats,
            ),
        )

    def _request(self, asked: Request) -> ContractRequest:
        if asked.price >= 2**96:  # msgspec knows no bounds beyond 64 bits
            raise RemoteProtocolError("price: the registry keeps none of 2^96 and more")
        return ContractRequest(
            process=bytes(32),
            child=bytes(32),
            parent=bytes(32),
            parent_proof=bytes(32),
            consumer=self._account(asked.consumer),
            attester=self._account(asked.attester),
            decider=self._account(asked.decider),
            pay_amount=str(asked.price),
            uses=asked.uses,
            expires=int(self.now + asked.days * DAY_S),
        )

    def _step(self, asked: Request) -> Step:
        installed = operations.installed(asked.operation)
        code = asked.code or (hexadecimal(installed.code) if installed else "0x" + "0" * 64)
        parameters = None
        if asked.dataset:
            given = {**(asked.parameters or {}), "type": "shared-features"}
            parameters = msgspec.convert(given, Parameters)
        return Step(cdt="", operation=asked.operation, code=code, parameters=parameters)

    def _operators(self, names: Iterable[str]) -> tuple[str | None, ...]:
        return tuple(map(self._operator, names))

    def _operator(self, name: str) -> str | None:
        return self.operators.get(self._account(name))

    def _account(self, name: str) -> Account:
        if name in self.accounts:
            return self.accounts[name]
        try:
            return Account(from_hexadecimal(name, 20))
        except RemoteProtocolError:
            raise RemoteProtocolError(
                f"{name!r:.80} is neither an organisation of the policy nor an account"
            ) from None


def plain(outcomes: Iterable[Outcome], config: Config) -> list[dict[str, Any]]:
    """The outcomes as JSON values, the reasons in sentences with the organisations' names."""
    names = {hexadecimal(each.account): each.name for each in config.organisations}
    return [
        {
            "example": each.example.name,
            "as_expected": each.as_expected,
            "expected": each.example.expect,
            "verdict": each.judgement.verdict,
            "failed": [terms.describe(operand) for operand in each.failed],
            "why": terms.with_names("; ".join(each.reasons), names),
        }
        for each in outcomes
    ]
