"""What a contract request asks for, as the operands that terms constrain."""

from protocol import terms
from protocol.documents import Algorithm, Metadata, Step
from protocol.errors import RemoteProtocolError
from protocol.ids import hexadecimal
from protocol.manifest import Parameters
from protocol.messages import ContractRequest
from protocol.privacy import Committee
from protocol.terms import Scalar


def step_for(metadata: Metadata, child: bytes) -> tuple[Algorithm, Step]:
    """The algorithm and its step for `child`; RemoteProtocolError if it names none."""
    if metadata.algorithm is None:
        raise RemoteProtocolError("the parent is no algorithm, so it says nothing of what is done")
    wanted = hexadecimal(child)
    for step in metadata.algorithm.workflow:
        if step.cdt == wanted:
            return metadata.algorithm, step
    raise RemoteProtocolError(f"the parent's workflow has no step for {wanted}")


def facts_of(
    request: ContractRequest, algorithm: Algorithm, step: Step, committee: Committee
) -> dict[str, Scalar]:
    """The operands that `request` states, through the parent's own document.

    How many operators sit and contribute is the owner's own count, the recipient's and unknown
    ones left out. Each party tests at least as many ids as rows must be common. An epsilon is
    stated by operations that guarantee one, and by no other.
    """
    facts: dict[str, Scalar] = {
        terms.OPERATION: step.operation,
        terms.CODE: step.code,
        terms.COUNTERPARTY: hexadecimal(request.consumer),
        terms.OUTPUT_RECIPIENT: algorithm.recipient,
        terms.PURPOSE: algorithm.purpose,
        terms.EXPIRY: request.expires,
        terms.USES: request.uses,
        terms.PAY_AMOUNT: request.pay_amount,
        terms.COMMITTEE_SIZE: algorithm.seats,
        terms.OPERATORS: _distinct(committee.members, committee),
        terms.CONTRIBUTORS: _distinct(committee.contributors, committee),
        terms.COHORT_SIZE: algorithm.cohort_floor,
        terms.TESTED_IDS: algorithm.cohort_floor,
        terms.LABELS: algorithm.labels,
        terms.ATTESTER: hexadecimal(request.attester),
        terms.DECIDER: hexadecimal(request.decider),
    }
    if step.parameters is not None:
        facts[terms.OPENINGS] = step.parameters.numbers_per_row
        facts[terms.NOISE] = step.parameters.noise
        facts |= _parameters(step.parameters)
        epsilon = getattr(step.parameters, "epsilon", None)
        if epsilon is not None:
            facts[terms.EPSILON] = epsilon
    return facts


def _distinct(operators: tuple[str | None, ...], committee: Committee) -> int:
    return len(set(operators) - {committee.recipient, None})


def _parameters(parameters: Parameters) -> dict[str, Scalar]:
    return {
        terms.PARAMETER + name: getattr(parameters, name) for name in parameters.__struct_fields__
    }
