"""Gas of every function on a real chain, pinned: a change that costs more must say so.

Keys, ids and times are fixed, so the figures repeat exactly. Whoever changes a contract deletes
tests/vectors/gas.json and runs this again.
"""

import hashlib
import json
from pathlib import Path

from eth_account import Account as EthAccount

from chain import contracts
from chain.devchain import DevAccounts, fund
from chain.identities import cdt_id, dues_hash, leaf_hash, merkle_branch, merkle_root, task_id
from chain.values import ALGORITHM, DATA, Due, Item, Node, SignedBy, TaskTerms
from protocol import typed_data
from protocol.ids import Account, hexadecimal
from protocol.typed_data import Grant, Receipt, Usage

PINNED = Path(__file__).parents[1] / "vectors" / "gas.json"
FAR = 2**33
DECIDER = Account(b"\x0d" * 20)
PATH = "ipfs://bafkrei" + "a" * 52
LIMITS = {"register": 53_000, "compose_10": 115_000, "grant_batch": 70_000, "attest_10": 225_000}


def word(text):
    return hashlib.sha256(text.encode()).digest()


class Run:
    """Sends from fixed keys and writes down what each transaction cost."""

    def __init__(self, chain):
        self.chain = chain
        self.accounts = DevAccounts(chain.provider)
        self.gas = {}
        self.bank, self.fintech, self.regulator = (
            EthAccount.from_key(word(name)) for name in ("bank", "fintech", "regulator")
        )

    def of(self, key):
        return self.chain.account_of(key)

    async def send(self, key, to, data, name=None, share=1):
        ask = self.chain.provider.ask
        nonce = int(await ask("eth_getTransactionCount", key.address, "latest"), 16)
        signed = key.sign_transaction(
            {
                "chainId": self.chain.deployment.chain_id,
                "nonce": nonce,
                "to": to,
                "data": data,
                "value": 0,
                "gas": 10_000_000,
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 1,
            }
        )
        digest = await ask("eth_sendRawTransaction", hexadecimal(bytes(signed.raw_transaction)))
        receipt = await self.accounts.receipt(digest)
        assert int(receipt["status"], 16) == 1, name
        if name:
            self.gas[name] = int(receipt["gasUsed"], 16) // share

    def sign(self, key, domain, message):
        return bytes(key.unsafe_sign_hash(typed_data.digest(domain, message)).signature)


async def measure_gas(chain):
    """Gas by name of every kind of transaction."""
    run = Run(chain)
    for key in (run.bank, run.fintech, run.regulator):
        await fund(chain.url, chain.deployment, run.of(key), tokens=100)
    await market(run, *await registry(run))
    return run.gas


async def test_gas(chain):
    gas = await measure_gas(chain)
    if not PINNED.exists():
        PINNED.write_text(json.dumps(gas, indent=1) + "\n")
    assert gas == json.loads(PINNED.read_text())
    for name, limit in LIMITS.items():
        assert gas[name] <= limit


async def registry(run):
    d = run.chain.deployment
    bank, fintech, regulator = run.bank, run.fintech, run.regulator
    owner, consumer = run.of(bank), run.of(fintech)
    await run.send(bank, d.registry, contracts.register(DATA, word("x"), PATH), "register")
    items = [Item(DATA, word(f"leaf {i}"), PATH) for i in range(10)]
    many = contracts.register_many(items)
    await run.send(bank, d.registry, many, "register_many (one of ten)", share=10)
    leaves = sorted(cdt_id(d.chain_id, d.registry, owner, DATA, item.proof) for item in items)
    composed = contracts.compose(ALGORITHM, word("a"), PATH, leaves)
    await run.send(fintech, d.registry, composed, "compose_10")
    algorithm = cdt_id(d.chain_id, d.registry, consumer, ALGORITHM, word("a"), leaves)

    def grant(child, seq):
        return Grant(
            child=child,
            parent=algorithm,
            terms_hash=word("terms"),
            owner=owner,
            consumer=consumer,
            market=d.market,
            token=d.token,
            decider=DECIDER,
            price=10**18,
            price_unit=0,
            max_uses=10,
            expiry=FAR,
            seq=seq,
        )

    def signed(child, seq=1):
        made = grant(child, seq)
        return made, run.sign(bank, d.registry_domain, made)

    batch = contracts.grant_many([signed(child) for child in leaves[:9]])
    await run.send(fintech, d.registry, batch, "grant_batch", share=9)
    single = contracts.grant_by_signature(*signed(leaves[9]))
    await run.send(fintech, d.registry, single, "grant_by_signature")
    await run.send(bank, d.registry, contracts.grant(grant(leaves[0], 2)), "grant (again)")
    await run.send(bank, d.registry, contracts.revoke(leaves[0], algorithm, 2), "revoke")
    await run.send(bank, d.registry, contracts.grant(grant(leaves[0], 3)))
    await run.send(bank, d.registry, contracts.trust(run.of(regulator), True), "trust")
    await run.send(bank, d.registry, contracts.delegate(consumer, True), "delegate")
    await run.send(bank, d.registry, contracts.declare("bank-a", PATH), "declare")
    bound = contracts.bind(b"\x01" * 38, b"\x02" * 64, FAR, 1)
    await run.send(bank, d.registry, bound, "bind")
    hashes = [leaf_hash(Item(DATA, word(f"user {i}"), PATH)) for i in range(1000)]
    root = merkle_root(hashes)
    await run.send(bank, d.registry, contracts.anchor(root, 1000, PATH), "anchor")
    proved = contracts.prove(
        owner, root, Item(DATA, word("user 5"), PATH), merkle_branch(hashes, 5)
    )
    await run.send(fintech, d.registry, proved, "prove (of 1000)")
    offered = contracts.offer_ownership(
        cdt_id(d.chain_id, d.registry, owner, DATA, word("x")), consumer
    )
    await run.send(bank, d.registry, offered, "offer_ownership")
    accepted = contracts.accept_ownership(cdt_id(d.chain_id, d.registry, owner, DATA, word("x")))
    await run.send(fintech, d.registry, accepted, "accept_ownership")
    return algorithm, leaves


async def market(run, algorithm, leaves):
    d = run.chain.deployment
    bank, fintech, regulator = run.bank, run.fintech, run.regulator
    owner, consumer = run.of(bank), run.of(fintech)
    lots = 50 * 10**18
    await run.send(regulator, d.token, contracts.approve(d.market, lots))
    await run.send(regulator, d.market, contracts.lodge_bond(30 * 10**18), "lodge_bond")
    await run.send(fintech, d.token, contracts.approve(d.market, lots), "approve")
    dues = [Due(leaf, algorithm, owner, 10**18, 0) for leaf in leaves]
    node = Node(consumer, ALGORITHM, word("a"), 0, tuple(leaves), (word("terms"),) * 10)
    amounts = [10**18] * 10

    def terms(number):
        return TaskTerms(
            cdt=algorithm,
            consumer=consumer,
            opener=consumer,
            recipient=consumer,
            decider=DECIDER,
            token=d.token,
            budget=11 * 10**18,
            deadline=FAR,
            salt=word(f"task {number}"),
        )

    for number in range(3):
        first = number == 0
        opened = contracts.open_task(terms(number))
        await run.send(fintech, d.market, opened, "open" if first else None)
        attested = contracts.attest(terms(number), [node], word("plan"))
        if number < 2:
            await run.send(regulator, d.market, attested, "attest_10" if first else None)
    await run.send(fintech, d.market, contracts.cancel(terms(2)), "cancel")
    task = task_id(d.chain_id, d.market, terms(0))
    usage = Usage(task, dues_hash(dues), word("result"), word("usage"), tuple(amounts))
    signatures = [
        SignedBy(run.of(key), run.sign(key, d.market_domain, usage)) for key in (fintech, bank)
    ]
    reported = contracts.report(terms(0), dues, word("result"), word("usage"), amounts, signatures)
    await run.send(fintech, d.market, reported, "report (10 edges, 2 signers)")
    settled = contracts.settle(terms(0), dues, amounts)
    await run.send(fintech, d.market, settled, "settle (10 edges, 1 owner)")
    await run.send(bank, d.market, contracts.withdraw(d.token), "withdraw")
    task = task_id(d.chain_id, d.market, terms(1))
    receipt = Receipt(task, dues_hash(dues), tuple(amounts))
    claimed = contracts.claim(
        terms(1), dues, amounts, (), run.sign(fintech, d.market_domain, receipt)
    )
    await run.send(bank, d.market, claimed, "claim (10 edges)")
    disputed = contracts.dispute(terms(1), dues, word("reason"))
    await run.send(fintech, d.market, disputed, "dispute (10 edges)")
    await run.send(regulator, d.market, contracts.release_bond(10**18), "release_bond")
