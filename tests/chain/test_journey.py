"""The whole life of a task on a real chain, through outbox and follower."""

import hashlib

import trio
from eth_account.signers.local import LocalAccount

from chain import contracts, events, tree, views
from chain.abi import read
from chain.events import Event
from chain.follower import Follower, stored_events
from chain.identities import cdt_id, dues_hash, task_id
from chain.sender import Sender
from chain.values import ALGORITHM, DATA, Node, SignedBy, TaskTerms
from protocol import typed_data
from protocol.ids import Account
from protocol.typed_data import Grant, Receipt, Usage, recover

TERMS = hashlib.sha256(b"terms").digest()
EXPIRY = 2**39


def sign(key: LocalAccount, digest: bytes) -> bytes:
    return bytes(key.unsafe_sign_hash(digest).signature)


async def test_the_whole_journey(chain, nursery: trio.Nursery) -> None:
    d = chain.deployment
    await d.verify(chain.provider)
    bank, fintech, regulator = [await chain.new_account() for _ in range(3)]
    senders = {}
    for key in (bank, fintech, regulator):
        sender = Sender(chain.database(), chain.provider, key, d.chain_id)
        senders[chain.account_of(key)] = sender
        nursery.start_soon(sender.run)
    seen: list[Event] = []
    db = chain.database()
    follower = Follower(db, chain.provider, d, 0, lambda _, batch: seen.extend(batch), poll_s=0.02)
    nursery.start_soon(follower.run)

    async def send(key: LocalAccount, name: str, to: Account, data: bytes) -> None:
        sender = senders[chain.account_of(key)]
        assert sender.enqueue(name, name, to, data)
        assert not sender.enqueue(name, name, to, data)
        done = await sender.confirmed(name)
        await follower.reached(done.block)

    a, c, r = (chain.account_of(key) for key in (bank, fintech, regulator))
    proof = hashlib.sha256(b"metadata").digest()
    await send(bank, "register", d.registry, contracts.register(DATA, proof, "ipfs://x"))
    await send(bank, "trust", d.registry, contracts.trust(r, True))
    data = cdt_id(d.chain_id, d.registry, a, DATA, proof)
    await send(
        fintech, "compose", d.registry, contracts.compose(ALGORITHM, proof, "ipfs://y", [data])
    )
    algorithm = cdt_id(d.chain_id, d.registry, c, ALGORITHM, proof, [data])
    grant = Grant(
        child=data,
        parent=algorithm,
        terms_hash=TERMS,
        owner=a,
        consumer=c,
        market=d.market,
        token=d.token,
        decider=Account(b"\x05" * 20),
        price=5,
        price_unit=0,
        max_uses=1,
        expiry=EXPIRY,
        seq=1,
    )
    signature = sign(bank, typed_data.digest(d.registry_domain, grant))
    await send(fintech, "grants", d.registry, contracts.grant_many([(grant, signature)]))
    terms = TaskTerms(
        cdt=algorithm,
        consumer=c,
        opener=c,
        recipient=c,
        decider=Account(b"\x05" * 20),
        token=d.token,
        budget=100,
        deadline=follower.block_time() + 3600,
        salt=b"\0" * 32,
    )
    await send(fintech, "approve", d.token, contracts.approve(d.market, 100))
    await send(fintech, "open", d.market, contracts.open_task(terms))
    task = task_id(d.chain_id, d.market, terms)
    bond = await read(chain.provider, d.market, views.bond_amount())
    await send(regulator, "approve", d.token, contracts.approve(d.market, bond))
    await send(regulator, "bond", d.market, contracts.lodge_bond(bond))
    nodes = tree.witness(db, algorithm)
    assert nodes == (Node(c, ALGORITHM, proof, 0, (data,), (TERMS,)),)
    assert [grant.uses_left for grant in tree.live_grants(db, follower.block_time())] == [1]
    await send(regulator, "attest", d.market, contracts.attest(terms, nodes, b"\x07" * 32))
    (attested,) = [e for e in seen if isinstance(e, events.Attested)]
    assert attested.task == task
    assert attested.dues[0].owner == a
    receipt = Receipt(task, dues_hash(attested.dues), (5,))
    receipt_digest = typed_data.digest(d.market_domain, receipt)
    assert recover(receipt_digest, sign(fintech, receipt_digest)) == c
    usage = Usage(task, dues_hash(attested.dues), b"\x08" * 32, b"\x09" * 32, (5,))
    digest = typed_data.digest(d.market_domain, usage)
    signatures = [SignedBy(chain.account_of(k), sign(k, digest)) for k in (fintech, bank)]
    await send(
        fintech,
        "report",
        d.market,
        contracts.report(terms, attested.dues, b"\x08" * 32, b"\x09" * 32, (5,), signatures),
    )
    await send(bank, "settle", d.market, contracts.settle(terms, attested.dues, (5,)))
    before = await read(chain.provider, d.token, views.balance_of(a))
    await send(bank, "withdraw", d.market, contracts.withdraw(d.token))
    assert await read(chain.provider, d.token, views.balance_of(a)) == before + 5
    record = await read(chain.provider, d.market, views.record_of(task))
    assert record.state == "SETTLED"
    assert await read(chain.provider, d.market, views.credit_of(d.token, c)) == 95
    assert seen == stored_events(db)
    (use,) = tree.uses_of(db, data)
    assert (use.state, use.amount, use.attester, use.terms_hash) == ("SETTLED", 5, r, TERMS)
    assert tree.paths_above(db, data) == [(data, algorithm)]
    assert [f.total for f in tree.price_figures(db, d.token)] == [5]
    assert tree.live_grants(db, follower.block_time()) == []
    kinds = [type(event).__name__ for event in seen]
    assert kinds[:4] == ["Registered", "Trusted", "Registered", "Composed"]
    nursery.cancel_scope.cancel()
