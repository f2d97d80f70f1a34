"""What contracts are about in these tests: an algorithm over two banks' data, known everywhere."""

import secrets

import msgspec

from mpc import operations
from node import assets, negotiation_records
from node.negotiation_records import Negotiation
from protocol.documents import Algorithm, Column, Metadata, Schema, Step
from protocol.ids import hexadecimal
from protocol.manifest import Parameters
from protocol.messages import ContractRequest
from protocol.negotiation import State
from protocol.negotiation_consumer import Limits

DATA = {"bank-a": b"\x01" * 32, "bank-b": b"\x02" * 32}
COMPUTE = {"bank-a": b"\x03" * 32, "bank-b": b"\x04" * 32, "regulator-d": b"\x05" * 32}
ALGORITHM = b"\x0a" * 32
ARBITER = b"\xab" * 20


def metadata(node, kind: str, name: str, **parts: object) -> Metadata:
    return Metadata(
        type=kind,
        name=name,
        description="",
        author=node.name,
        license="closed",
        created="2026-01-01T00:00:00Z",
        endpoint=node.key.peer_id,
        **parts,
    )


def algorithm(nodes, **changes: object) -> Metadata:
    parameters = Parameters(
        width=2,
        epochs=2,
        batch_rows=32,
        noise=0.3,
        clip=8.0,
        gradient_clip=0.3,
        learning_rate=4.0,
        holdout=0.3,
        engine="lane",
        evaluation_engine="mpyc",
        field="m61",
    )
    parameters = msgspec.structs.replace(parameters, **changes)
    code = {name: hexadecimal(operations.installed(name).code)
            for name in ("shared-features", "committee-member")}  # fmt: skip
    steps = [
        Step(cdt=hexadecimal(cdt), operation="shared-features", code=code["shared-features"],
             parameters=parameters)
        for cdt in DATA.values()
    ] + [
        Step(cdt=hexadecimal(cdt), operation="committee-member", code=code["committee-member"])
        for cdt in COMPUTE.values()
    ]  # fmt: skip
    return metadata(
        nodes["fintech-c"],
        "algorithm",
        "risk",
        children=tuple(sorted(step.cdt for step in steps)),
        algorithm=Algorithm(
            workflow=tuple(steps),
            pool=tuple(hexadecimal(cdt) for cdt in COMPUTE.values()),
            seats=3,
            threshold=1,
            cohort_floor=1000,
            recipient=hexadecimal(nodes["fintech-c"].account),
            purpose="risk",
            labels="seen-by-owners",
            top_model="0x" + "00" * 32,
        ),
    )


def everybody_knows(nodes, parent: Metadata) -> None:
    schema = Schema(
        columns=(
            Column(name="Age", kind="number", width=2),
            Column(name="Income", kind="number", width=2),
        ),
        rows_about=2000,
    )
    for node in nodes.values():
        for owner, cdt in DATA.items():
            node.registered(
                cdt, nodes[owner].account, metadata(nodes[owner], "data", "facts", schema=schema)
            )
        for owner, cdt in COMPUTE.items():
            name = f"compute-{owner}"
            node.registered(cdt, nodes[owner].account, metadata(nodes[owner], "compute", name))
        node.registered(ALGORITHM, nodes["fintech-c"].account, parent)
    for owner, cdt in DATA.items():
        node = nodes[owner]
        for own, dataset in ((cdt, "facts"), (COMPUTE[owner], f"compute-{owner}")):
            node.engine.db.execute(
                "INSERT INTO own_assets VALUES (?, '', ?, x'', '', ?)",
                [own, dataset, node.engine.clock()],
            )


def request_for(nodes, child: bytes, **changes: object) -> ContractRequest:
    c = nodes["fintech-c"]
    plain = ContractRequest(
        process=secrets.token_bytes(32),
        child=child,
        parent=ALGORITHM,
        parent_proof=assets.find(c.engine.db, ALGORITHM).proof,
        consumer=c.account,
        attester=nodes["regulator-d"].account,
        decider=ARBITER,
        pay_amount=str(10**18),
        uses=1,
        expires=int(c.engine.clock()) + 3600,
    )
    return msgspec.structs.replace(plain, **changes)


def limits(request: ContractRequest, **changes: object) -> Limits:
    plain = Limits(
        pay_most=request.pay_amount,
        uses_least=request.uses,
        expires_least=request.expires,
        attesters=(request.attester,),
        deciders=(request.decider,),
    )
    return msgspec.structs.replace(plain, **changes)


def seen(node, request: ContractRequest) -> Negotiation:
    return negotiation_records.known(node.engine.db, request.process)


async def reached(node, request: ContractRequest, *states: State, within_s: float = 300) -> None:
    def there() -> bool:
        found = negotiation_records.find(node.engine.db, request.process)
        return found is not None and found.state in states

    assert await node.engine.until(there, within_s), seen(node, request)
