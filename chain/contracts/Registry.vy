# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Registry of composable data tokens (CDT)
@license Apache-2.0
@notice Identities of assets, their composition, the grants of their owners, whom each owner
        trusts, and what each organisation states about itself. Nobody has power here beyond
        what its own account owns: there is no administrator, no proxy, no fee.
@dev No reentrancy lock: the only foreign code called is an EIP-1271 wallet, by static call.
"""

MAX_CHILDREN: constant(uint256) = 16
MAX_HEIGHT: constant(uint256) = 4
MAX_COMPOSITES: constant(uint256) = 16
MAX_EDGES: constant(uint256) = 64
MAX_BATCH: constant(uint256) = 32
MAX_DEPTH: constant(uint256) = 32
MAX_SIGNATURE: constant(uint256) = 1040  # sixteen owners of one wallet
MAX_BATCH_SIGNATURE: constant(uint256) = 520  # eight

DATA: constant(uint256) = 1
COMPUTE: constant(uint256) = 2
ALGORITHM: constant(uint256) = 3

UNIT_OPENING: constant(uint8) = 2  # units of a price: 0 edge, 1 row, 2 opening
MAX_SEQ: constant(uint32) = 2**31 - 1

WALLET_GAS: constant(uint256) = 200_000
WALLET_MAGIC: constant(bytes4) = 0x1626ba7e
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME_HASH: constant(bytes32) = keccak256("Northbund Registry")
VERSION_HASH: constant(bytes32) = keccak256("1")
GRANT_TYPE: constant(bytes32) = keccak256(
    "Grant(bytes32 child,bytes32 parent,bytes32 terms,address owner,uint32 epoch,address consumer,uint32 consumerEpoch,address market,address token,address decider,uint96 price,uint8 unit,uint32 maxUses,uint40 expiry,uint32 seq)"
)


# One asset without children.
struct Item:
    kind: uint256
    proof: bytes32
    storage_path: String[96]
    salt: uint256


# An owner's yes for one edge; README.md tells its fields.
struct Grant:
    child: bytes32
    parent: bytes32
    terms: bytes32
    owner: address
    epoch: uint32
    consumer: address
    consumer_epoch: uint32
    market: address
    token: address
    decider: address
    price: uint96
    unit: uint8
    max_uses: uint32
    expiry: uint40
    seq: uint32


# A grant with its owner's signature over `grant_digest`.
struct SignedGrant:
    grant: Grant
    signature: Bytes[MAX_BATCH_SIGNATURE]


# One asset of an attested tree: what its id is made of, and how many children it has.
struct Composite:
    creator: address
    kind: uint256
    proof: bytes32
    salt: uint256
    children: uint256


# What is owed for one edge: a price for the edge, for each row or for each opening.
struct Due:
    child: bytes32
    parent: bytes32
    owner: address
    price: uint256
    unit: uint256


# An asset exists; `Composed` follows if it has children.
event Registered:
    cdt: indexed(bytes32)
    owner: indexed(address)
    kind: uint256
    proof: bytes32
    salt: uint256
    storage_path: String[96]


# The children of the asset that was just registered.
event Composed:
    cdt: indexed(bytes32)
    children: DynArray[bytes32, MAX_CHILDREN]


# Many leaves exist under one Merkle root.
event Anchored:
    owner: indexed(address)
    root: indexed(bytes32)
    leaves: uint256
    storage_path: String[96]


# The heir may accept; the empty address withdraws.
event OwnershipOffered:
    cdt: indexed(bytes32)
    owner: indexed(address)
    heir: indexed(address)


# A new owner; every grant on the asset is void.
event OwnershipTransferred:
    cdt: indexed(bytes32)
    former: indexed(address)
    owner: indexed(address)
    epoch: uint256


# The edge has this grant and no other.
event Granted:
    child: indexed(bytes32)
    parent: indexed(bytes32)
    owner: indexed(address)
    terms: bytes32
    word: uint256
    epoch: uint256
    consumer: address
    consumer_epoch: uint256
    token: address
    decider: address


# One grant of a batch was not accepted, and why.
event GrantSkipped:
    child: indexed(bytes32)
    parent: indexed(bytes32)
    owner: indexed(address)
    seq: uint256
    reason: String[32]


# The edge has no grant, and no signature up to `seq` can make one.
event Revoked:
    child: indexed(bytes32)
    parent: indexed(bytes32)
    owner: indexed(address)
    seq: uint256


# The owner accepts the attester's attestations, or no more.
event Trusted:
    owner: indexed(address)
    attester: indexed(address)
    on: bool


# The delegate may open tasks on the owner's algorithms, or no more.
event Delegated:
    owner: indexed(address)
    delegate: indexed(address)
    on: bool


# What an account says of itself.
event OrganisationDeclared:
    account: indexed(address)
    name: String[64]
    document: String[96]


# Which peer speaks for the account; an empty peer id: none.
event PeerBound:
    account: indexed(address)
    seq: uint256
    valid_until: uint256
    peer_id: Bytes[64]
    peer_signature: Bytes[64]


market: public(immutable(address))

# owner 160 | kind 8 | height 8 | composites 8 | edges 8 | ownership epoch 32
heads: public(HashMap[bytes32, uint256])
heirs: public(HashMap[bytes32, address])
# Edge, i.e. keccak(child, parent, the child's ownership epoch) -> key of its newest grant.
latest: public(HashMap[bytes32, bytes32])
# Key, i.e. keccak(edge, terms, keccak(token, consumer, consumer's epoch, decider)) -> the grant:
# price 96 | expiry 40 | max uses 32 | uses 32 | unit 8 | 16 zero | live 1 | seq 31.
# An edge has at most one such word that is not zero: the one that `latest` points to.
grants: public(HashMap[bytes32, uint256])
trusts: public(HashMap[address, HashMap[address, bool]])
delegates: public(HashMap[address, HashMap[address, bool]])
anchors: public(HashMap[address, HashMap[bytes32, uint256]])
binding_seq: public(HashMap[address, uint64])


@deploy
def __init__(market_address: address):
    """
    @notice Fixes the one market that may spend grants, for ever.
    @param market_address Where the market will be; the deployer computes it in advance.
    """
    assert market_address != empty(address), "no market"
    market = market_address


# ------------------------------------------------------------------ identities


@internal
@view
def _id(
    creator: address, kind: uint256, proof: bytes32, children_hash: bytes32, salt: uint256
) -> bytes32:
    """
    @notice The id of an asset; `children_hash` is zero for one without children.
    """
    return keccak256(abi_encode(chain.id, self, creator, kind, proof, children_hash, salt))


@internal
def _register(
    owner: address, kind: uint256, proof: bytes32, storage_path: String[96], salt: uint256
) -> bytes32:
    """
    @notice Registers an asset without children for an owner.
    """
    assert kind >= DATA and kind <= ALGORITHM, "unknown type"
    cdt: bytes32 = self._id(owner, kind, proof, empty(bytes32), salt)
    assert self.heads[cdt] == 0, "already registered"
    self.heads[cdt] = convert(owner, uint256) | (kind << 160)
    log Registered(
        cdt=cdt, owner=owner, kind=kind, proof=proof, salt=salt, storage_path=storage_path
    )
    return cdt


@external
def register(kind: uint256, proof: bytes32, storage_path: String[96], salt: uint256) -> bytes32:
    """
    @notice Registers one asset without children; it belongs to the sender.
    @param kind 1 data, 2 compute, 3 algorithm.
    @param proof SHA-256 of the canonical metadata.
    @param storage_path Where the document is found by its content.
    @param salt Tells apart two assets with the same document; 0 as a rule.
    @return The id of the CDT.
    """
    return self._register(msg.sender, kind, proof, storage_path, salt)


@external
def register_many(items: DynArray[Item, MAX_BATCH]):
    """
    @notice Registers many assets without children, all or none.
    """
    for item: Item in items:
        self._register(msg.sender, item.kind, item.proof, item.storage_path, item.salt)


@external
def compose(
    kind: uint256,
    proof: bytes32,
    storage_path: String[96],
    children: DynArray[bytes32, MAX_CHILDREN],
    salt: uint256,
) -> bytes32:
    """
    @notice Registers an asset made of others. Children exist before their parent and the id
            commits to them, so no cycle can be built and a parent is fixed for ever. Data is
            made of data, compute of compute, an algorithm of anything.
    @param children Ids in rising order, each once.
    @return The id of the CDT.
    """
    assert kind >= DATA and kind <= ALGORITHM, "unknown type"
    assert len(children) > 0, "no children"
    previous: uint256 = 0
    height: uint256 = 0
    composites: uint256 = 1
    count: uint256 = len(children)
    for child: bytes32 in children:
        assert convert(child, uint256) > previous, "children not sorted"
        previous = convert(child, uint256)
        head: uint256 = self.heads[child]
        assert head != 0, "unknown child"
        assert kind == ALGORITHM or (head >> 160) & 255 == kind, "child of another type"
        height = max(height, (head >> 168) & 255)
        composites += (head >> 176) & 255
        count += (head >> 184) & 255
    height += 1
    assert height <= MAX_HEIGHT, "too deep"
    assert composites <= MAX_COMPOSITES, "too many composites"
    assert count <= MAX_EDGES, "too many edges"
    cdt: bytes32 = self._id(msg.sender, kind, proof, keccak256(abi_encode(children)), salt)
    assert self.heads[cdt] == 0, "already registered"
    self.heads[cdt] = (
        convert(msg.sender, uint256)
        | (kind << 160)
        | (height << 168)
        | (composites << 176)
        | (count << 184)
    )
    log Registered(
        cdt=cdt, owner=msg.sender, kind=kind, proof=proof, salt=salt, storage_path=storage_path
    )
    log Composed(cdt=cdt, children=children)
    return cdt


@external
def anchor(root: bytes32, leaves: uint256, storage_path: String[96]):
    """
    @notice Publishes many leaves at once by the root of their Merkle tree. Keyed by the sender
            too: whoever copies the root publishes other assets, his own.
    @param leaves How many there are, stated for readers; not checked.
    @param storage_path Where the list of leaves is found.
    """
    assert leaves > 0, "no leaves"
    assert self.anchors[msg.sender][root] == 0, "already anchored"
    self.anchors[msg.sender][root] = leaves
    log Anchored(owner=msg.sender, root=root, leaves=leaves, storage_path=storage_path)


@external
def prove(
    owner: address, root: bytes32, leaf: Item, branch: DynArray[bytes32, MAX_DEPTH]
) -> bytes32:
    """
    @notice Makes one anchored leaf an asset like any other, owned by who anchored it. Anybody
            may do so; nothing but the id follows from it.
    @param branch Sibling hashes from the leaf to the root; pairs are hashed in sorted order,
           leaves twice, so that no inner node passes for a leaf.
    """
    assert self.anchors[owner][root] != 0, "not anchored"
    node: bytes32 = keccak256(
        keccak256(abi_encode(leaf.kind, leaf.proof, keccak256(leaf.storage_path), leaf.salt))
    )
    for sibling: bytes32 in branch:
        if convert(node, uint256) < convert(sibling, uint256):
            node = keccak256(concat(node, sibling))
        else:
            node = keccak256(concat(sibling, node))
    assert node == root, "not a leaf of this root"
    return self._register(owner, leaf.kind, leaf.proof, leaf.storage_path, leaf.salt)


# ------------------------------------------------------------------- ownership


@external
def offer_ownership(cdt: bytes32, heir: address):
    """
    @notice Offers an asset to another account; the empty address withdraws the offer.
    """
    assert self._owner(self.heads[cdt]) == msg.sender, "not the owner"
    self.heirs[cdt] = heir
    log OwnershipOffered(cdt=cdt, owner=msg.sender, heir=heir)


@external
def accept_ownership(cdt: bytes32):
    """
    @notice Takes an offered asset over. Its ownership epoch rises, so every grant and every
            signature of former owners is void, even if the asset returns to one of them.
    """
    assert self.heirs[cdt] == msg.sender, "not offered"
    head: uint256 = self.heads[cdt]
    former: address = self._owner(head)
    epoch: uint256 = self._epoch(head) + 1
    assert epoch < 2**32, "too many transfers"
    self.heirs[cdt] = empty(address)
    self.heads[cdt] = (
        (head & (((2**32 - 1) << 160))) | convert(msg.sender, uint256) | (epoch << 192)
    )
    log OwnershipTransferred(cdt=cdt, former=former, owner=msg.sender, epoch=epoch)


@internal
@pure
def _owner(head: uint256) -> address:
    """
    @notice The owner in a head word.
    """
    return convert(head & (2**160 - 1), address)


@internal
@pure
def _epoch(head: uint256) -> uint256:
    """
    @notice The ownership epoch in a head word: how often the asset has changed hands.
    """
    return head >> 192


# ---------------------------------------------------------------------- grants


@internal
@view
def _grant_digest(g: Grant) -> bytes32:
    """
    @notice The EIP-712 digest of a grant on this registry.
    """
    domain: bytes32 = keccak256(
        abi_encode(DOMAIN_TYPE, NAME_HASH, VERSION_HASH, chain.id, self)
    )
    return keccak256(concat(0x1901, domain, keccak256(abi_encode(GRANT_TYPE, g))))


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


@internal
@view
def _fault(g: Grant) -> String[32]:
    """
    @notice Why a grant cannot be accepted now, whoever brings it; empty if it can.
    """
    head: uint256 = self.heads[g.child]
    if head == 0 or self._owner(head) != g.owner:
        return "not the owner"
    if self._epoch(head) != convert(g.epoch, uint256):
        return "ownership has changed"
    if g.market != market:
        return "another market"
    if convert(g.expiry, uint256) <= block.timestamp:
        return "expired"
    if g.unit > UNIT_OPENING:
        return "unknown unit"
    if g.max_uses == 0:
        return "no uses"
    if g.seq > MAX_SEQ:
        return "seq too large"
    return ""


@internal
@pure
def _edge(child: bytes32, parent: bytes32, epoch: uint256) -> bytes32:
    """
    @notice The key of one edge under one ownership of its child.
    """
    return keccak256(abi_encode(child, parent, epoch))


@internal
@pure
def _circumstances(
    token: address, consumer: address, consumer_epoch: uint256, decider: address
) -> bytes32:
    """
    @notice What all grants under one parent in one task have in common.
    """
    return keccak256(abi_encode(token, consumer, consumer_epoch, decider))


@internal
@pure
def _key(edge: bytes32, terms: bytes32, circumstances: bytes32) -> bytes32:
    """
    @notice Where the grant of an edge on these terms stands.
    """
    return keccak256(concat(edge, terms, circumstances))


@internal
def _grant(g: Grant) -> String[32]:
    """
    @notice Writes a grant that has no fault and is newer than the standing one.
    @return Why not; empty if it stands now as asked.
    """
    edge: bytes32 = self._edge(g.child, g.parent, convert(g.epoch, uint256))
    key: bytes32 = self._key(
        edge,
        g.terms,
        self._circumstances(g.token, g.consumer, convert(g.consumer_epoch, uint256), g.decider),
    )
    word: uint256 = (
        convert(g.price, uint256)
        | (convert(g.expiry, uint256) << 96)
        | (convert(g.max_uses, uint256) << 136)
        | (convert(g.unit, uint256) << 200)
        | (1 << 224)
        | (convert(g.seq, uint256) << 225)
    )
    former: bytes32 = self.latest[edge]
    old: uint256 = 0
    if former != empty(bytes32):
        old = self.grants[former]
        if former == key and (old & ~((2**32 - 1) << 168)) == word:
            return ""
    if old >> 225 >= convert(g.seq, uint256):
        return "seq is not new"
    if former != key:
        self.latest[edge] = key
        if former != empty(bytes32):
            self.grants[former] = 0
    self.grants[key] = word
    log Granted(
        child=g.child,
        parent=g.parent,
        owner=g.owner,
        terms=g.terms,
        word=word,
        epoch=convert(g.epoch, uint256),
        consumer=g.consumer,
        consumer_epoch=convert(g.consumer_epoch, uint256),
        token=g.token,
        decider=g.decider,
    )
    return ""


@external
def grant(g: Grant):
    """
    @notice The owner's yes for one edge, given by its own transaction.
    @dev `seq` starts at 1 and strictly rises for each edge and ownership epoch; a new grant
         replaces the old one whole, with its uses back at zero.
    """
    assert msg.sender == g.owner, "not the owner"
    fault: String[32] = self._fault(g)
    assert len(fault) == 0, fault
    fault = self._grant(g)
    assert len(fault) == 0, fault


@external
def grant_by_signature(g: Grant, signature: Bytes[MAX_SIGNATURE]):
    """
    @notice The owner's yes for one edge, by its EIP-712 signature; anybody may bring it.
    """
    fault: String[32] = self._fault(g)
    assert len(fault) == 0, fault
    assert self._signed(g.owner, self._grant_digest(g), signature), "bad signature"
    fault = self._grant(g)
    assert len(fault) == 0, fault


@external
def grant_many(grants: DynArray[SignedGrant, MAX_BATCH]):
    """
    @notice Many signed grants. One that stands already changes nothing; a bad one is skipped
            and named in an event, so that no owner can spoil the others' grants.
    """
    for signed: SignedGrant in grants:
        fault: String[32] = self._fault(signed.grant)
        if len(fault) == 0:
            if self._signed(
                signed.grant.owner, self._grant_digest(signed.grant), signed.signature
            ):
                fault = self._grant(signed.grant)
            else:
                fault = "bad signature"
        if len(fault) != 0:
            log GrantSkipped(
                child=signed.grant.child,
                parent=signed.grant.parent,
                owner=signed.grant.owner,
                seq=convert(signed.grant.seq, uint256),
                reason=fault,
            )


@external
def revoke(child: bytes32, parent: bytes32, seq: uint32):
    """
    @notice Ends the grant of one edge, and voids every signature with a `seq` up to this one
            that is still in the post. What is attested already is not undone.
    @param seq At least that of the grant; 2^31 - 1 closes the edge for this ownership epoch.
    """
    head: uint256 = self.heads[child]
    assert self._owner(head) == msg.sender, "not the owner"
    assert seq <= MAX_SEQ, "seq too large"
    edge: bytes32 = self._edge(child, parent, self._epoch(head))
    key: bytes32 = self.latest[edge]
    if key == empty(bytes32):  # nothing granted yet: void what is in the post
        key = edge
        self.latest[edge] = key
    assert convert(seq, uint256) >= self.grants[key] >> 225, "seq is not new"
    self.grants[key] = convert(seq, uint256) << 225
    log Revoked(child=child, parent=parent, owner=msg.sender, seq=convert(seq, uint256))


@external
@view
def grant_digest(g: Grant) -> bytes32:
    """
    @notice What the owner signs.
    """
    return self._grant_digest(g)


@external
@view
def grant_of(child: bytes32, parent: bytes32) -> (uint256, bytes32):
    """
    @notice The newest grant of one edge under the child's present owner: its word and its key.
    """
    key: bytes32 = self.latest[self._edge(child, parent, self._epoch(self.heads[child]))]
    return self.grants[key], key


# ------------------------------------------------------- trust and organisations


@external
def trust(attester: address, on: bool):
    """
    @notice Whose attestations the sender accepts for its assets. Withdrawing trust acts on
            attestations to come; the sender's node also refuses runs that have not started.
    """
    self.trusts[msg.sender][attester] = on
    log Trusted(owner=msg.sender, attester=attester, on=on)


@external
def delegate(who: address, on: bool):
    """
    @notice Who else may open tasks on the sender's algorithms (with his own money).
    """
    self.delegates[msg.sender][who] = on
    log Delegated(owner=msg.sender, delegate=who, on=on)


@external
def declare(name: String[64], document: String[96]):
    """
    @notice What the sender says of itself. The directory believes everybody; whom to believe
            is each reader's own decision.
    """
    log OrganisationDeclared(account=msg.sender, name=name, document=document)


@external
def bind(peer_id: Bytes[64], peer_signature: Bytes[64], valid_until: uint64, seq: uint64):
    """
    @notice States which network peer speaks for the sender; a higher `seq` replaces it and an
            empty peer id ends it.
    @param peer_signature The peer key's Ed25519 signature of the EIP-712 Bind digest; readers
           check it, the chain cannot.
    """
    assert seq > self.binding_seq[msg.sender], "seq is not new"
    self.binding_seq[msg.sender] = seq
    log PeerBound(
        account=msg.sender,
        seq=convert(seq, uint256),
        valid_until=convert(valid_until, uint256),
        peer_id=peer_id,
        peer_signature=peer_signature,
    )


# --------------------------------------------------------------- for the market


@external
def consume(
    root: bytes32,
    composites: DynArray[Composite, MAX_COMPOSITES],
    children: DynArray[bytes32, MAX_EDGES],
    terms: DynArray[bytes32, MAX_EDGES],
    consumer: address,
    attester: address,
    token: address,
    decider: address,
) -> DynArray[Due, MAX_EDGES]:
    """
    @notice Walks the whole tree below an algorithm, checks every edge and spends a use of each
            grant. Only the market may call it, when a trusted account attests a task.
    @param composites The tree's composites in breadth-first order: what their ids are made of
           and how many children each has. An asset that is reached by two ways is used, and
           paid, twice.
    @param children The children of all of them, one composite's after the other's.
    @param terms For each child the hash of the terms that the attester has read.
    @return What is due, edge by edge, in the same order.
    @dev Flat arrays, because memory for nested ones costs a tenth of the whole call.
    """
    assert msg.sender == market, "not the market"
    assert len(terms) == len(children), "witness terms"
    head: uint256 = self.heads[root]
    assert self._owner(head) == consumer, "consumer is not the owner"
    dues: DynArray[Due, MAX_EDGES] = []
    ids: DynArray[bytes32, MAX_COMPOSITES] = [root]
    heads: DynArray[uint256, MAX_COMPOSITES] = [head]
    edge: uint256 = 0
    for i: uint256 in range(len(composites), bound=MAX_COMPOSITES):
        assert i < len(ids), "witness too long"
        parent: bytes32 = ids[i]
        circumstances: bytes32 = self._circumstances(
            token, self._owner(heads[i]), self._epoch(heads[i]), decider
        )
        own: DynArray[bytes32, MAX_CHILDREN] = []
        for _j: uint256 in range(composites[i].children, bound=MAX_CHILDREN):
            assert edge < len(children), "witness too short"
            child: bytes32 = children[edge]
            own.append(child)
            head = self.heads[child]
            word: uint256 = self._spend(
                self._key(
                    self._edge(child, parent, self._epoch(head)), terms[edge], circumstances
                )
            )
            owner: address = self._owner(head)
            assert self.trusts[owner][attester], "attester is not trusted"
            dues.append(
                Due(
                    child=child,
                    parent=parent,
                    owner=owner,
                    price=word & (2**96 - 1),
                    unit=(word >> 200) & 255,
                )
            )
            if (head >> 168) & 255 > 0:
                ids.append(child)
                heads.append(head)
            edge += 1
        assert parent == self._id(
            composites[i].creator,
            composites[i].kind,
            composites[i].proof,
            keccak256(abi_encode(own)),
            composites[i].salt,
        ), "witness is of another tree"
    assert len(ids) == len(composites), "witness too short"
    assert edge == len(children), "witness too long"
    return dues


@internal
def _spend(key: bytes32) -> uint256:
    """
    @notice Spends one use of a live grant.
    @return Its word before.
    """
    word: uint256 = self.grants[key]
    assert (word >> 224) & 1 == 1, "no live grant on these terms"
    assert (word >> 96) & (2**40 - 1) > block.timestamp, "grant has expired"
    assert (word >> 168) & (2**32 - 1) < (word >> 136) & (2**32 - 1), "grant is used up"
    self.grants[key] = word + (1 << 168)
    return word
