# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# pragma nonreentrancy on
"""
@title Task market
@license Apache-2.0
@notice A task's money and its stations: open with escrow, attest, claim or report, settle.
        All payments are pulled. Nobody can change the rules or take what is not his: there is
        no administrator, no proxy, no fee. States and money are told in README.md.
@dev A task's id is the hash of its terms, so the terms are not stored: who acts on a task
     brings them along.
"""

interface ERC20:
    def balanceOf(account: address) -> uint256: view
    def transfer(to: address, amount: uint256) -> bool: nonpayable
    def transferFrom(source: address, to: address, amount: uint256) -> bool: nonpayable


interface Registry:
    def market() -> address: view
    def heads(cdt: bytes32) -> uint256: view
    def delegates(owner: address, who: address) -> bool: view
    def consume(
        root: bytes32,
        composites: DynArray[Composite, MAX_COMPOSITES],
        children: DynArray[bytes32, MAX_EDGES],
        terms: DynArray[bytes32, MAX_EDGES],
        consumer: address,
        attester: address,
        token: address,
        decider: address,
    ) -> DynArray[Due, MAX_EDGES]: nonpayable


MAX_COMPOSITES: constant(uint256) = 16
MAX_EDGES: constant(uint256) = 64
MAX_SIGNERS: constant(uint256) = 65
MAX_SIGNATURE: constant(uint256) = 520  # eight owners of one wallet
ALGORITHM: constant(uint256) = 3
UNIT_EDGE: constant(uint256) = 0

WALLET_GAS: constant(uint256) = 200_000
WALLET_MAGIC: constant(bytes4) = 0x1626ba7e
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME_HASH: constant(bytes32) = keccak256("Northbund TaskMarket")
VERSION_HASH: constant(bytes32) = keccak256("1")
RECEIPT_TYPE: constant(bytes32) = keccak256("Receipt(bytes32 task,bytes32 dues,uint256[] amounts)")
USAGE_TYPE: constant(bytes32) = keccak256(
    "Usage(bytes32 task,bytes32 dues,bytes32 resultHash,bytes32 usageRoot,uint256[] amounts)"
)

OPEN: constant(uint256) = 1
ATTESTED: constant(uint256) = 2
CLAIMED: constant(uint256) = 3
DISPUTED: constant(uint256) = 4
REPORTED: constant(uint256) = 5
SETTLED: constant(uint256) = 6
REFUNDED: constant(uint256) = 7
CANCELLED: constant(uint256) = 8


# What a task is about; its id commits to exactly this.
struct Task:
    cdt: bytes32
    consumer: address
    opener: address
    recipient: address
    decider: address
    token: address
    budget: uint96
    deadline: uint40
    salt: bytes32


# As in the registry.
struct Composite:
    creator: address
    kind: uint256
    proof: bytes32
    salt: uint256
    children: uint256


# As in the registry.
struct Due:
    child: bytes32
    parent: bytes32
    owner: address
    price: uint256
    unit: uint256


# One side's signature of a usage.
struct Signed:
    account: address
    signature: Bytes[MAX_SIGNATURE]


# Where a task stands; hashes of what is owed and of the amounts that are claimed or reported.
struct Record:
    word: uint256
    dues: bytes32
    amounts: bytes32


# A task is open and its budget in escrow.
event Opened:
    task: indexed(bytes32)
    cdt: indexed(bytes32)
    consumer: indexed(address)
    terms: Task


# Somebody vouches for the plan; these are the dues, in the order of all later amounts.
event Attested:
    task: indexed(bytes32)
    attester: indexed(address)
    plan: bytes32
    dues: DynArray[Due, MAX_EDGES]


# An owner claims by the receipt; `amounts` is what is claimed in all.
event Claimed:
    task: indexed(bytes32)
    claimant: indexed(address)
    closes_at: uint256
    amounts: DynArray[uint256, MAX_EDGES]


# A party calls for the decider.
event Disputed:
    task: indexed(bytes32)
    complainant: indexed(address)
    closes_at: uint256
    reason: bytes32


# The decider has ruled; `Settled` follows.
event Decided:
    task: indexed(bytes32)
    decider: indexed(address)
    bond_to: address


# All sides have signed what was used.
event Reported:
    task: indexed(bytes32)
    result_hash: bytes32
    usage_root: bytes32
    amounts: DynArray[uint256, MAX_EDGES]


# The escrow has become credits.
event Settled:
    task: indexed(bytes32)
    paid: uint256
    returned: uint256
    amounts: DynArray[uint256, MAX_EDGES]


# The task came to nothing.
event Refunded:
    task: indexed(bytes32)
    returned: uint256


# The opener took the task back.
event Cancelled:
    task: indexed(bytes32)
    returned: uint256


# The account can withdraw this much more; no task: a released bond.
event Credited:
    account: indexed(address)
    token: indexed(address)
    task: indexed(bytes32)
    amount: uint256


# The account has been paid.
event Withdrawn:
    account: indexed(address)
    token: indexed(address)
    amount: uint256


# The attester's bond that no task has locked.
event BondChanged:
    attester: indexed(address)
    free: uint256


registry: public(immutable(address))
bond_token: public(immutable(address))
bond: public(immutable(uint256))
dispute_window: public(immutable(uint256))
decision_period: public(immutable(uint256))
grace: public(immutable(uint256))

# word: state 8 | attester 160 | closes at 40
records: public(HashMap[bytes32, Record])
credits: public(HashMap[address, HashMap[address, uint256]])  # token, account
bonds: public(HashMap[address, uint256])  # free, not locked by a task


@deploy
def __init__(
    registry_address: address,
    bond_token_address: address,
    bond_amount: uint256,
    dispute_window_s: uint256,
    decision_period_s: uint256,
    grace_s: uint256,
):
    """
    @notice Fixes the rules for ever.
    @param bond_amount What an attester puts up for each task that it attests.
    @param dispute_window_s How long a claim by receipt can be disputed.
    @param decision_period_s How long a decider has; after that a dispute changes nothing.
    @param grace_s How long after its deadline an attested task can still be claimed.
    """
    assert staticcall Registry(registry_address).market() == self, "registry of another market"
    assert max(max(dispute_window_s, decision_period_s), grace_s) < 2**32, "period too long"
    registry = registry_address
    bond_token = bond_token_address
    bond = bond_amount
    dispute_window = dispute_window_s
    decision_period = decision_period_s
    grace = grace_s


# ------------------------------------------------------------------------ money


@internal
def _pull(token: address, amount: uint256):
    """
    @notice Takes tokens from the sender and reverts unless all of them arrive.
    """
    # A token may return nothing or false, or keep a fee.
    if amount == 0:
        return
    before: uint256 = staticcall ERC20(token).balanceOf(self)
    assert extcall ERC20(token).transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "token refused"
    assert staticcall ERC20(token).balanceOf(self) >= before + amount, "less arrived"


@internal
def _credit(task: bytes32, token: address, account: address, amount: uint256):
    """
    @notice Adds to what an account can withdraw.
    """
    if amount == 0:
        return
    self.credits[token][account] += amount
    log Credited(account=account, token=token, task=task, amount=amount)


@external
def withdraw(token: address):
    """
    @notice Pays the sender all that stands to its credit in one token.
    """
    amount: uint256 = self.credits[token][msg.sender]
    assert amount > 0, "nothing to withdraw"
    self.credits[token][msg.sender] = 0
    log Withdrawn(account=msg.sender, token=token, amount=amount)
    assert extcall ERC20(token).transfer(msg.sender, amount, default_return_value=True), "token refused"


@external
def lodge_bond(amount: uint256):
    """
    @notice Adds to the sender's free bond, from which each attestation takes its part.
    """
    self._pull(bond_token, amount)
    self.bonds[msg.sender] += amount
    log BondChanged(attester=msg.sender, free=self.bonds[msg.sender])


@external
def release_bond(amount: uint256):
    """
    @notice Moves free bond to the sender's credit.
    """
    assert self.bonds[msg.sender] >= amount, "not free"
    self.bonds[msg.sender] -= amount
    self._credit(empty(bytes32), bond_token, msg.sender, amount)
    log BondChanged(attester=msg.sender, free=self.bonds[msg.sender])


@internal
def _free_bond(attester: address):
    """
    @notice Gives an attester the bond back that one task had locked.
    """
    self.bonds[attester] += bond
    log BondChanged(attester=attester, free=self.bonds[attester])


# ------------------------------------------------------------------------ stations


@internal
@view
def _id(task: Task) -> bytes32:
    """
    @notice The id of a task: the hash of its terms, this chain and this market.
    """
    return keccak256(abi_encode(chain.id, self, task))


@internal
@pure
def _word(state: uint256, attester: address, closes_at: uint256) -> uint256:
    """
    @notice A record's word.
    """
    return state | (convert(attester, uint256) << 8) | (closes_at << 168)


@internal
@pure
def _attester(word: uint256) -> address:
    """
    @notice The attester in a record's word.
    """
    return convert((word >> 8) & (2**160 - 1), address)


@external
def open(task: Task) -> bytes32:
    """
    @notice Opens a task on an algorithm and takes its budget into escrow.
    @dev A tree over its bounds cannot have been composed, so none is checked here.
    @return The task's id.
    """
    assert task.opener == msg.sender, "not the opener"
    head: uint256 = staticcall Registry(registry).heads(task.cdt)
    assert (head >> 160) & 255 == ALGORITHM and (head >> 168) & 255 > 0, "not a composed algorithm"
    assert convert(head & (2**160 - 1), address) == task.consumer, "consumer is not the owner"
    if msg.sender != task.consumer:
        assert staticcall Registry(registry).delegates(task.consumer, msg.sender), "not a delegate"
    assert convert(task.deadline, uint256) > block.timestamp, "deadline has passed"
    assert task.recipient != empty(address), "no recipient"
    assert task.decider not in [empty(address), task.opener, task.consumer, task.recipient], "decider is a party"
    id: bytes32 = self._id(task)
    assert self.records[id].word == 0, "already opened"
    self.records[id].word = OPEN
    log Opened(task=id, cdt=task.cdt, consumer=task.consumer, terms=task)
    self._pull(task.token, convert(task.budget, uint256))
    return id


@external
def cancel(task: Task):
    """
    @notice The opener takes an open task back, before anybody has attested it.
    """
    id: bytes32 = self._id(task)
    assert self.records[id].word == OPEN, "not open"
    assert task.opener == msg.sender, "not the opener"
    self.records[id].word = CANCELLED
    self._credit(id, task.token, task.opener, convert(task.budget, uint256))
    log Cancelled(task=id, returned=convert(task.budget, uint256))


@external
def attest(
    task: Task,
    composites: DynArray[Composite, MAX_COMPOSITES],
    children: DynArray[bytes32, MAX_EDGES],
    terms: DynArray[bytes32, MAX_EDGES],
    plan: bytes32,
):
    """
    @notice The sender vouches for a task: it has checked the plan with this hash. The whole
            tree is checked, every edge live and every owner trusting the sender, a use of each
            grant is spent, and a part of the sender's bond is locked.
    @param composites The tree, with `children` and `terms`, as Registry.consume asks.
    """
    id: bytes32 = self._id(task)
    assert self.records[id].word == OPEN, "not open"
    assert convert(task.deadline, uint256) > block.timestamp, "deadline has passed"
    assert msg.sender not in [task.opener, task.consumer, task.recipient, task.decider], "attester is a party"
    free: uint256 = self.bonds[msg.sender]
    assert free >= bond, "bond is not lodged"
    dues: DynArray[Due, MAX_EDGES] = extcall Registry(registry).consume(
        task.cdt,
        composites,
        children,
        terms,
        task.consumer,
        msg.sender,
        task.token,
        task.decider,
    )
    flat: uint256 = 0
    for due: Due in dues:
        if due.unit == UNIT_EDGE:
            flat += due.price
    assert flat <= convert(task.budget, uint256), "over budget"
    if bond > 0:
        self.bonds[msg.sender] = free - bond
    self.records[id].word = self._word(
        ATTESTED, msg.sender, convert(task.deadline, uint256) + grace
    )
    self.records[id].dues = keccak256(abi_encode(dues))
    log Attested(task=id, attester=msg.sender, plan=plan, dues=dues)


@external
def claim(
    task: Task,
    dues: DynArray[Due, MAX_EDGES],
    amounts: DynArray[uint256, MAX_EDGES],
    prior: DynArray[uint256, MAX_EDGES],
    signature: Bytes[MAX_SIGNATURE],
):
    """
    @notice An owner presents the recipient's receipt, which states the most that each edge may
            claim. It is paid when the dispute window after the deadline has passed, unless a
            usage signed by all sides replaces it. A recipient who signed two receipts owes the
            higher amount of each line.
    @param prior The amounts claimed so far; empty at the first claim.
    """
    id: bytes32 = self._id(task)
    word: uint256 = self.records[id].word
    state: uint256 = word & 255
    assert state in [ATTESTED, CLAIMED, DISPUTED], "not attested"
    assert word >> 168 > block.timestamp, "too late"
    self._check_dues(id, dues)
    assert self._is_owner(msg.sender, dues), "not an owner"
    assert len(amounts) == len(dues), "one amount for each edge"
    assert self._signed(
        task.recipient,
        self._digest(
            keccak256(abi_encode(RECEIPT_TYPE, id, self.records[id].dues, self._hash(amounts)))
        ),
        signature,
    ), "bad signature"
    old: bytes32 = self.records[id].amounts
    if old == empty(bytes32):
        assert len(prior) == 0, "prior"
    else:
        assert self._hash(prior) == old, "prior"
    owed: DynArray[uint256, MAX_EDGES] = []
    for i: uint256 in range(len(dues), bound=MAX_EDGES):
        if dues[i].unit == UNIT_EDGE:
            assert amounts[i] >= dues[i].price, "less than the price"
        owed.append(amounts[i] if len(prior) == 0 else max(amounts[i], prior[i]))
    self._check_total(task, owed)
    closes_at: uint256 = word >> 168
    if state != DISPUTED:
        state = CLAIMED
        closes_at = max(
            closes_at, max(block.timestamp, convert(task.deadline, uint256)) + dispute_window
        )
    self.records[id].word = self._word(state, self._attester(word), closes_at)
    self.records[id].amounts = self._hash(owed)
    log Claimed(task=id, claimant=msg.sender, closes_at=closes_at, amounts=owed)


@external
def dispute(task: Task, dues: DynArray[Due, MAX_EDGES], reason: bytes32):
    """
    @notice The opener, the recipient or an owner calls for the decider, who stands in every
            grant of the task. A decider that stays silent changes nothing but the time.
    @param reason Hash of the statement, which travels off the chain.
    """
    id: bytes32 = self._id(task)
    word: uint256 = self.records[id].word
    assert word & 255 in [ATTESTED, CLAIMED], "not attested"
    assert word >> 168 > block.timestamp, "too late"
    self._check_dues(id, dues)
    assert msg.sender in [task.opener, task.recipient] or self._is_owner(msg.sender, dues), "not a party"
    closes_at: uint256 = max(word >> 168, block.timestamp + decision_period)
    self.records[id].word = self._word(DISPUTED, self._attester(word), closes_at)
    log Disputed(task=id, complainant=msg.sender, closes_at=closes_at, reason=reason)


@external
def decide(
    task: Task,
    dues: DynArray[Due, MAX_EDGES],
    amounts: DynArray[uint256, MAX_EDGES],
    bond_to: address,
):
    """
    @notice The decider ends a dispute: what each edge is paid, and whether the attester loses
            its bond, and to which party.
    @param bond_to An owner or the opener, or the empty address: the attester keeps its bond.
    """
    id: bytes32 = self._id(task)
    word: uint256 = self.records[id].word
    assert word & 255 == DISPUTED, "not disputed"
    assert msg.sender == task.decider, "not the decider"
    assert word >> 168 > block.timestamp, "too late"
    self._check_dues(id, dues)
    assert len(amounts) == len(dues), "one amount for each edge"
    self._check_total(task, amounts)
    log Decided(task=id, decider=msg.sender, bond_to=bond_to)
    if bond_to == empty(address):
        self._free_bond(self._attester(word))
    else:
        assert bond_to == task.opener or self._is_owner(bond_to, dues), "not a party"
        self._credit(id, bond_token, bond_to, bond)
    self._pay(id, task, dues, amounts)


@external
def report(
    task: Task,
    dues: DynArray[Due, MAX_EDGES],
    result_hash: bytes32,
    usage_root: bytes32,
    amounts: DynArray[uint256, MAX_EDGES],
    signatures: DynArray[Signed, MAX_SIGNERS],
):
    """
    @notice Records what was used, signed by the recipient and every owner. It replaces any
            claim and ends any dispute, and can be settled at once: all whom it concerns agree.
    @param usage_root Merkle root of the usage records.
    @param amounts What each edge is paid.
    """
    id: bytes32 = self._id(task)
    word: uint256 = self.records[id].word
    assert word & 255 in [ATTESTED, CLAIMED, DISPUTED], "not attested"
    assert convert(task.deadline, uint256) > block.timestamp, "deadline has passed"
    self._check_dues(id, dues)
    assert len(amounts) == len(dues), "one amount for each edge"
    self._check_total(task, amounts)
    digest: bytes32 = self._digest(
        keccak256(
            abi_encode(
                USAGE_TYPE,
                id,
                self.records[id].dues,
                result_hash,
                usage_root,
                self._hash(amounts),
            )
        )
    )
    self._check_signers(task, dues, digest, signatures)
    self.records[id].word = self._word(REPORTED, self._attester(word), block.timestamp)
    self.records[id].amounts = self._hash(amounts)
    log Reported(task=id, result_hash=result_hash, usage_root=usage_root, amounts=amounts)


@internal
@view
def _check_signers(
    task: Task,
    dues: DynArray[Due, MAX_EDGES],
    digest: bytes32,
    signatures: DynArray[Signed, MAX_SIGNERS],
):
    """
    @notice Reverts unless all given signatures are good and no side is missing.
    """
    accounts: DynArray[address, MAX_SIGNERS] = []
    for signed: Signed in signatures:
        assert self._signed(signed.account, digest, signed.signature), "bad signature"
        accounts.append(signed.account)
    assert task.recipient in accounts, "recipient has not signed"
    for due: Due in dues:
        assert due.owner in accounts, "an owner has not signed"


@external
def settle(
    task: Task, dues: DynArray[Due, MAX_EDGES], amounts: DynArray[uint256, MAX_EDGES]
):
    """
    @notice Turns the escrow into credits: at once what all sides signed, and a claim after its
            window (after the decision period, where it was disputed and nobody decided).
    """
    id: bytes32 = self._id(task)
    word: uint256 = self.records[id].word
    state: uint256 = word & 255
    assert state in [CLAIMED, DISPUTED, REPORTED], "nothing to settle"
    assert state == REPORTED or block.timestamp >= word >> 168, "window is open"
    self._check_dues(id, dues)
    assert self.records[id].amounts == self._hash(amounts), "other amounts"
    self._free_bond(self._attester(word))
    self._pay(id, task, dues, amounts)


@external
def refund(task: Task):
    """
    @notice Returns the escrow of a task that nobody attested, or nobody claimed, when its
            deadline and the grace have passed.
    """
    id: bytes32 = self._id(task)
    word: uint256 = self.records[id].word
    state: uint256 = word & 255
    assert state in [OPEN, ATTESTED, DISPUTED], "nothing to refund"
    closes_at: uint256 = word >> 168
    if state == OPEN:
        closes_at = convert(task.deadline, uint256) + grace
    assert block.timestamp >= closes_at, "too early"
    assert self.records[id].amounts == empty(bytes32), "claimed"
    if state != OPEN:
        self._free_bond(self._attester(word))
    self.records[id].word = REFUNDED | (word & ~convert(255, uint256))
    self._credit(id, task.token, task.opener, convert(task.budget, uint256))
    log Refunded(task=id, returned=convert(task.budget, uint256))


@internal
def _pay(
    id: bytes32,
    task: Task,
    dues: DynArray[Due, MAX_EDGES],
    amounts: DynArray[uint256, MAX_EDGES],
):
    """
    @notice Ends a task: credits to the owners, the rest to the opener.
    """
    self.records[id].word = SETTLED | (self.records[id].word & ~convert(255, uint256))
    paid: uint256 = 0
    for i: uint256 in range(len(dues), bound=MAX_EDGES):
        self._credit(id, task.token, dues[i].owner, amounts[i])
        paid += amounts[i]
    self._credit(id, task.token, task.opener, convert(task.budget, uint256) - paid)
    log Settled(
        task=id, paid=paid, returned=convert(task.budget, uint256) - paid, amounts=amounts
    )


# ------------------------------------------------------------------------ checks


@internal
@view
def _check_dues(id: bytes32, dues: DynArray[Due, MAX_EDGES]):
    """
    @notice Reverts unless these are the dues that were attested.
    """
    assert self.records[id].dues == keccak256(abi_encode(dues)), "other dues"


@internal
@pure
def _check_total(task: Task, amounts: DynArray[uint256, MAX_EDGES]):
    """
    @notice Reverts if the amounts exceed the budget.
    """
    total: uint256 = 0
    for amount: uint256 in amounts:
        total += amount
    assert total <= convert(task.budget, uint256), "over budget"


@internal
@pure
def _is_owner(account: address, dues: DynArray[Due, MAX_EDGES]) -> bool:
    """
    @notice Whether an account is owed one of the dues.
    """
    for due: Due in dues:
        if due.owner == account:
            return True
    return False


@internal
@pure
def _hash(amounts: DynArray[uint256, MAX_EDGES]) -> bytes32:
    """
    @notice EIP-712's hash of an array: its words in a row, without offset and length.
    """
    return keccak256(slice(abi_encode(amounts), 64, 32 * len(amounts)))


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    """
    @notice The EIP-712 digest of a struct hash on this market.
    """
    domain: bytes32 = keccak256(
        abi_encode(DOMAIN_TYPE, NAME_HASH, VERSION_HASH, chain.id, self)
    )
    return keccak256(concat(0x1901, domain, struct_hash))


@internal
@view
def _signed(who: address, digest: bytes32, signature: Bytes[MAX_SIGNATURE]) -> bool:
    """
    @notice Whether the account signed the digest, plainly or as a wallet (EIP-1271).
    """
    # A plain signature first: an account under EIP-7702 has code and may still sign plainly.
    if len(signature) == 65:
        s: uint256 = convert(slice(signature, 32, 32), uint256)
        if s <= HALF_ORDER:
            signer: address = ecrecover(
                digest,
                convert(slice(signature, 64, 1), uint256),
                convert(slice(signature, 0, 32), uint256),
                s,
            )
            if signer == who and signer != empty(address):
                return True
    if not who.is_contract:
        return False
    success: bool = False
    answer: Bytes[32] = b""
    success, answer = raw_call(
        who,
        abi_encode(digest, signature, method_id=WALLET_MAGIC),
        max_outsize=32,
        gas=WALLET_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    return success and len(answer) == 32 and convert(answer, bytes32) == convert(WALLET_MAGIC, bytes32)


@external
@view
def task_id(task: Task) -> bytes32:
    """
    @notice The id of a task with these terms.
    """
    return self._id(task)
