"""Why terms say what they say: of a request, of an edge, of a whole composition, of grants given.

What is told of this node's own assets is what its judging would answer; of others' assets it is
what their published terms say, which promises nothing: their nodes decide, by their own of that
day.
"""

import json
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlite_utils import Database

from node import assets, grant_records
from node import negotiation_records as records
from node.errors import Fault
from node.grant_records import KeptGrant
from node.house import House
from node.negotiation_records import Negotiation
from protocol import narrowing, terms
from protocol.contract_request import facts_of, step_for
from protocol.documents import Algorithm, Metadata, Step
from protocol.errors import RemoteProtocolError
from protocol.ids import Account, from_hexadecimal, hexadecimal
from protocol.judgement import Judgement, nearest
from protocol.messages import ContractRequest
from protocol.narrowing import Composed, Located
from protocol.terms import Terms

MOST_ASSETS = 256
"""In one composition that is explained; its composer chooses how many there are."""
A_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One grant given that is alive, and what today's terms say of the request it answered."""

    kept: KeptGrant
    failures: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether it would be given today."""
        return not self.failures


def explain(house: House, process: bytes) -> dict[str, Any]:
    """Why a negotiation stands where it stands, and what this node's terms would say today."""
    known = records.known(house.engine.db, process)
    told: dict[str, Any] = {
        "state": known.state,
        "sentence": known.sentence,
        "findings": _named(house, _decoded(known)),
    }
    if known.side == "provider":
        told |= {"today": _today(house, known.wanted)}
    return told


def _today(house: House, request: ContractRequest) -> dict[str, Any]:
    """The judgement of today; uses that a grant has given already are not asked again."""
    granted = grant_records.latest(house.engine.db, request.child, request.parent)
    judge = house.judging.judge_again if granted else house.judging.judge
    try:
        return verdict(house, judge(request))
    except RemoteProtocolError as error:
        raise Fault("composition-invalid", str(error)) from error


def explain_edge(house: House, child: bytes, parent: bytes) -> dict[str, Any]:
    """What terms say of using `child` under the algorithm `parent`.

    Of this node's own asset: its judgement on the newest request for the edge, or on one that
    asks for nothing but what the terms allow where the algorithm does not fix it. Of another's: by
    its published terms. Fault `cdt-unknown`; `composition-invalid` if the parent says nothing of
    the child.
    """
    asset, _ = assets.confirmed(house.engine.db, child)
    if asset.owner != house.directory.own.account:
        located = forecast(house, child, parent)
        return {"verdict": _foretold(located), "findings": _plain_located(house, located)}
    asked = next(
        (
            each
            for each in records.every(house.engine.db)
            if (each.side, each.child, each.parent) == ("provider", child, parent)
        ),
        None,
    )
    _, policy = house.judging.terms_of_leaf(child)
    top, _ = assets.confirmed(house.engine.db, parent)
    wish = _wish(house, policy, child, parent, top.owner, top.proof)
    request = asked.wanted if asked else wish
    return _today(house, request)


def explain_algorithm(house: House, algorithm: bytes) -> dict[str, Any]:
    """What the published terms of everything below an algorithm say of it, child by child."""
    located = [
        each
        for child in assets.children(house.engine.db, algorithm)
        for each in forecast(house, child, algorithm)
    ]
    return {"verdict": _foretold(tuple(located)), "findings": _plain_located(house, tuple(located))}


def forecast(house: House, child: bytes, parent: bytes) -> tuple[Located, ...]:
    """A finding for each constraint that `child` and what is below it publish, of this edge."""
    asset, metadata = assets.confirmed(house.engine.db, parent)
    try:
        algorithm, step = step_for(metadata, child)
    except RemoteProtocolError as error:
        raise Fault("composition-invalid", str(error)) from error
    return _foresee(house, asset.owner, algorithm, metadata.children, step)


def refusals(
    house: House, algorithm: Algorithm, children: tuple[str, ...]
) -> list[dict[str, object]]:
    """What published terms would refuse to an algorithm of this node's own, not published yet.

    One finding for each constraint that fails, with the child and what below it says so.
    """
    own = house.directory.own.account
    located = [
        each
        for step in algorithm.workflow
        for each in _foresee(house, own, algorithm, children, step)
        if not each.finding.passed
    ]
    return _plain_located(house, tuple(located))


def _foresee(
    house: House, consumer: Account, algorithm: Algorithm, children: tuple[str, ...], step: Step
) -> tuple[Located, ...]:
    child = from_hexadecimal(step.cdt, 32)
    tree = tree_of(house.engine.db, child)
    request = _wish(house, narrowing.effective(tree), child, bytes(32), consumer)
    committee = house.judging.committee_of(algorithm, children)
    return narrowing.judge(tree, facts_of(request, algorithm, step, committee))


def check_promise(db: Database, metadata: Metadata) -> None:
    """Fault `composition-invalid` if a composite's own terms allow what something below does not.

    The sentence names the child, the constraint and what both say.
    """
    own = published(metadata)
    if own is None or not metadata.children:
        return
    below = tuple(tree_of(db, from_hexadecimal(child, 32)) for child in metadata.children)
    located = narrowing.laxer(Composed(metadata.name, own, below))
    if located:
        told = "; ".join(
            f"{' > '.join(each.path)}: {terms.describe(each.finding.operand)}: your terms allow "
            f"{each.finding.asked}, and it allows {each.finding.allowed}"
            for each in located
        )
        raise Fault("composition-invalid", f"your terms promise more than is below: {told}")


def tree_of(db: Database, cdt: bytes) -> Composed:
    """The asset with everything below it and the terms that each publishes.

    Fault `cdt-unknown` names what is not confirmed here, `composition-invalid` says that there is
    too much of it.
    """
    left = [MOST_ASSETS]
    return _branch(db, cdt, left, narrowing.MAX_HEIGHT)


def _branch(db: Database, cdt: bytes, left: list[int], height: int) -> Composed:
    left[0] -= 1
    if left[0] < 0 or height < 0:
        raise Fault(
            "composition-invalid",
            f"the composition holds more than {MOST_ASSETS} assets, or is higher than "
            f"{narrowing.MAX_HEIGHT}",
        )
    asset, metadata = assets.confirmed(db, cdt)
    below = tuple(_branch(db, child, left, height - 1) for child in asset.child_ids)
    return Composed(asset.name or hexadecimal(cdt), published(metadata), below)


def published(metadata: Metadata) -> Terms | None:
    """The terms that a document states, or None."""
    return metadata.services[0].terms if metadata.services else None


def review(house: House) -> list[Reviewed]:
    """Each grant that this node has given and that is alive, by today's terms."""
    db, own = house.engine.db, house.directory.own.account
    held = [each for each in grant_records.every(db) if not each.withdrawn]
    newest = {(each.child, each.parent): each for each in held}
    now = grant_records.chain_time(db, house.engine.clock())
    return [
        Reviewed(kept, _failures(house, kept))
        for kept in newest.values()
        if kept.owner == own and not kept.revoked and kept.terms.expiry > now
    ]


def _failures(house: House, kept: KeptGrant) -> tuple[str, ...]:
    """In sentences; an asset that is gone from the configuration permits nothing any more."""
    try:
        request = records.granted_request(house.engine.db, kept.child, kept.parent)
        judgement = house.judging.judge_again(request, kept.waived_operands)
    except (Fault, RemoteProtocolError) as error:
        return (str(error),)
    return tuple(each.sentence for each in judgement.failures)


def verdict(house: House, judgement: Judgement) -> dict[str, Any]:
    """A judgement as JSON values."""
    counter = judgement.counter
    return {
        "verdict": judgement.verdict,
        "findings": _named(house, records.plain(judgement.findings)),
        "would_pass": None
        if counter is None
        else {
            "price": counter.pay_amount,
            "uses": counter.uses,
            "expires": counter.expires,
            "attester": counter.attester,
            "decider": counter.decider,
        },
    }


def _named(house: House, findings: list[dict[str, object]]) -> list[dict[str, object]]:
    names = {hexadecimal(account): name for name, account in house.directory.accounts.items()}
    return [
        finding | {key: terms.with_names(str(finding[key]), names) for key in ("asked", "allowed")}
        for finding in findings
    ]


def _wish(
    house: House,
    policy: Terms,
    child: bytes,
    parent: bytes,
    consumer: Account,
    proof: bytes = bytes(32),
) -> ContractRequest:
    """A request that the terms would like as far as the algorithm leaves it open."""
    now = house.engine.clock()
    plain = ContractRequest(
        process=bytes(32),
        child=child,
        parent=parent,
        parent_proof=proof,
        consumer=consumer,
        attester=bytes(20),
        decider=bytes(20),
        pay_amount="0",
        uses=1,
        expires=int(now) + A_DAY_S,
    )
    offer = nearest(policy, plain, now=now)
    if offer is None:
        return plain
    return msgspec.structs.replace(
        plain,
        pay_amount=offer.pay_amount,
        uses=offer.uses,
        expires=offer.expires,
        attester=offer.attester,
        decider=offer.decider,
    )


def _foretold(located: tuple[Located, ...]) -> str:
    return "permit" if all(each.finding.passed for each in located) else "refuse"


def _plain_located(house: House, located: tuple[Located, ...]) -> list[dict[str, object]]:
    findings = _named(house, records.plain(each.finding for each in located))
    return [
        {"asset": " > ".join(each.path)} | finding
        for each, finding in zip(located, findings, strict=True)
    ]


def _decoded(known: Negotiation) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(known.findings)
    return found
