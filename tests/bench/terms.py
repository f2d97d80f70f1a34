"""How many requests an owner's terms judge in a second: `python -m tests.bench.terms`."""

import time

from protocol import terms_policy, terms_table
from protocol.ids import Account, hexadecimal
from protocol.terms import Scalar, evaluate

EVALUATIONS = 4_000
ROUNDS = 5
C, D = Account(b"\xcc" * 20), Account(b"\xdd" * 20)
TABLE = {
    "operations": ["shared-features"],
    "counterparties": ["fintech-c"],
    "recipients": ["fintech-c"],
    "purposes": ["credit-risk-model"],
    "attesters": ["regulator-d"],
    "deciders": ["0x" + "ab" * 20],
    "valid_for_days": 30,
    "uses": 5,
    "price": 10**15,
    "labels": ["hidden"],
    "parameters": {"width": {"max": 4}, "epochs": {"min": 1, "max": 4}},
    "prohibition": [{"operand": "odrl:purpose", "operator": "isAnyOf", "value": ["marketing"]}],
}
"""A whole policy: 20 constraints, of which each request is told the outcome of every one."""
FACTS: dict[str, Scalar] = {
    "cdt:operation": "shared-features",
    "odrl:recipient": hexadecimal(C),
    "cdt:outputRecipient": hexadecimal(C),
    "odrl:purpose": "credit-risk-model",
    "cdt:attester": hexadecimal(D),
    "cdt:decider": "0x" + "ab" * 20,
    "odrl:dateTime": 1_000,
    "odrl:count": 1,
    "odrl:payAmount": str(10**15),
    "cdt:committeeSize": 3,
    "cdt:operators": 3,
    "cdt:contributors": 2,
    "cdt:cohortSize": 1_000,
    "cdt:openings": 4,
    "cdt:noise": 0.3,
    "cdt:labels": "hidden",
    "cdt:parameter.width": 2,
    "cdt:parameter.epochs": 2,
}


def measure() -> dict[str, dict[str, object]]:
    """The median of the rounds; half of the requests pass, half fail in one constraint."""
    read = terms_table.read(TABLE, data=True)
    policy = terms_policy.for_data(read, {"fintech-c": C, "regulator-d": D}, 2_000)
    asked = [FACTS, FACTS | {"cdt:parameter.width": 8}]
    decisions = [evaluate(policy, facts) for facts in asked]
    if [len(each.failures) for each in decisions] != [0, 1]:
        raise RuntimeError("the requests of the benchmark are not judged as they should be")
    rates = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for number in range(EVALUATIONS):
            evaluate(policy, asked[number % 2])
        rates.append(EVALUATIONS / (time.perf_counter() - started))
    what = f"requests against {len(decisions[0].findings)} constraints, each with its reason"
    rate = sorted(rates)[ROUNDS // 2]
    line = {"value": round(rate), "unit": "1/s", "baseline": None, "ratio": None, "what": what}
    return {"terms.evaluations_per_s": line}


if __name__ == "__main__":
    for name, figures in measure().items():
        print(f"{name:28} {figures['value']:>10} {figures['unit']:6} {figures['what']}")  # noqa: T201
