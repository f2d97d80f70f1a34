"""The calldata of every transaction: one function each, pure.

Registry first, then token and market. What the caller must own or wait for is each contract's
own rule; the sender simulates before it signs and says the contract's reason.
"""

from collections.abc import Sequence
from typing import Any

from chain.abi import calldata
from chain.values import NOBODY, Due, Item, Node, SignedBy, TaskTerms, fields_of
from protocol.ids import Account
from protocol.typed_data import Grant


def register(kind: int, proof: bytes, storage_path: str, salt: int = 0) -> bytes:
    """Registers one asset without children."""
    return calldata("Registry", "register", kind, proof, storage_path, salt)


def register_many(items: Sequence[Item]) -> bytes:
    """Registers up to MAX_BATCH assets without children, all or none."""
    return calldata("Registry", "register_many", [fields_of(item) for item in items])


def compose(
    kind: int, proof: bytes, storage_path: str, children: Sequence[bytes], salt: int = 0
) -> bytes:
    """Registers an asset made of others; `children` sorted, each once."""
    return calldata("Registry", "compose", kind, proof, storage_path, list(children), salt)


def anchor(root: bytes, leaves: int, storage_path: str) -> bytes:
    """Publishes many leaves by the root of their Merkle tree."""
    return calldata("Registry", "anchor", root, leaves, storage_path)


def prove(owner: Account, root: bytes, item: Item, branch: Sequence[bytes]) -> bytes:
    """Makes one anchored leaf an asset like any other."""
    return calldata("Registry", "prove", owner, root, fields_of(item), list(branch))


def offer_ownership(cdt: bytes, heir: Account) -> bytes:
    """Offers an asset to another account; NOBODY withdraws the offer."""
    return calldata("Registry", "offer_ownership", cdt, heir)


def accept_ownership(cdt: bytes) -> bytes:
    """Takes an offered asset over."""
    return calldata("Registry", "accept_ownership", cdt)


def grant(grant_: Grant) -> bytes:
    """The owner's yes for one edge, by its own transaction."""
    return calldata("Registry", "grant", grant_.values())


def grant_by_signature(grant_: Grant, signature: bytes) -> bytes:
    """The owner's yes for one edge, by its signature."""
    return calldata("Registry", "grant_by_signature", grant_.values(), signature)


def grant_many(grants: Sequence[tuple[Grant, bytes]]) -> bytes:
    """Up to MAX_BATCH signed grants; a bad one is skipped with an event."""
    return calldata("Registry", "grant_many", [(g.values(), signature) for g, signature in grants])


def revoke(child: bytes, parent: bytes, seq: int) -> bytes:
    """Ends the grant of one edge and voids every signature with a seq up to this one."""
    return calldata("Registry", "revoke", child, parent, seq)


def trust(attester: Account, on: bool) -> bytes:
    """Says whether the sender accepts this account's attestations."""
    return calldata("Registry", "trust", attester, on)


def delegate(who: Account, on: bool) -> bytes:
    """Says whether another account may open tasks on the sender's algorithms."""
    return calldata("Registry", "delegate", who, on)


def declare(name: str, document: str) -> bytes:
    """The sender's organisation: its name and where its document is found."""
    return calldata("Registry", "declare", name, document)


def bind(peer_id: bytes, peer_signature: bytes, valid_until: int, seq: int) -> bytes:
    """States which peer speaks for the sender; an empty peer id ends the binding."""
    return calldata("Registry", "bind", peer_id, peer_signature, valid_until, seq)


def approve(spender: Account, amount: int) -> bytes:
    """Lets the market take this much of the sender's tokens; sent to the token."""
    return calldata("TestToken", "approve", spender, amount)


def transfer(to: Account, amount: int) -> bytes:
    """Moves the sender's tokens; sent to the token."""
    return calldata("TestToken", "transfer", to, amount)


def lodge_bond(amount: int) -> bytes:
    """Adds to the sender's free bond (approve the market first)."""
    return calldata("TaskMarket", "lodge_bond", amount)


def release_bond(amount: int) -> bytes:
    """Moves free bond to the sender's credit."""
    return calldata("TaskMarket", "release_bond", amount)


def open_task(terms: TaskTerms) -> bytes:
    """Opens a task and takes its budget into escrow (approve the market first)."""
    return calldata("TaskMarket", "open", fields_of(terms))


def cancel(terms: TaskTerms) -> bytes:
    """Takes an open task back before anybody has attested it."""
    return calldata("TaskMarket", "cancel", fields_of(terms))


def attest(terms: TaskTerms, nodes: Sequence[Node], plan: bytes) -> bytes:
    """The sender vouches for a task whose plan has this hash; `nodes` as `chain.tree.witness`."""
    return calldata("TaskMarket", "attest", fields_of(terms), *witness_arguments(nodes), plan)


def witness_arguments(nodes: Sequence[Node]) -> tuple[list[Any], list[bytes], list[bytes]]:
    """A tree as the contract takes it: composites, then all children and their terms flat."""
    composites = [(n.creator, n.kind, n.proof, n.salt, len(n.children)) for n in nodes]
    children = [child for node in nodes for child in node.children]
    terms = [each for node in nodes for each in node.terms]
    return composites, children, terms


def claim(
    terms: TaskTerms,
    dues: Sequence[Due],
    amounts: Sequence[int],
    prior: Sequence[int],
    signature: bytes,
) -> bytes:
    """An owner presents the recipient's receipt; `prior` is what was claimed before."""
    values = (
        fields_of(terms),
        [fields_of(due) for due in dues],
        list(amounts),
        list(prior),
        signature,
    )
    return calldata("TaskMarket", "claim", *values)


def dispute(terms: TaskTerms, dues: Sequence[Due], reason: bytes) -> bytes:
    """A party calls for the decider; `reason` is the hash of its statement."""
    return calldata(
        "TaskMarket", "dispute", fields_of(terms), [fields_of(due) for due in dues], reason
    )


def decide(
    terms: TaskTerms, dues: Sequence[Due], amounts: Sequence[int], bond_to: Account = NOBODY
) -> bytes:
    """The decider rules; `bond_to` gets the attester's bond, NOBODY leaves it to the attester."""
    values = (fields_of(terms), [fields_of(due) for due in dues], list(amounts), bond_to)
    return calldata("TaskMarket", "decide", *values)


def report(
    terms: TaskTerms,
    dues: Sequence[Due],
    result_hash: bytes,
    usage_root: bytes,
    amounts: Sequence[int],
    signatures: Sequence[SignedBy],
) -> bytes:
    """Records the usage that the recipient and every owner signed."""
    return calldata(
        "TaskMarket",
        "report",
        fields_of(terms),
        [fields_of(due) for due in dues],
        result_hash,
        usage_root,
        list(amounts),
        [fields_of(signed) for signed in signatures],
    )


def settle(terms: TaskTerms, dues: Sequence[Due], amounts: Sequence[int]) -> bytes:
    """Turns the escrow into credits."""
    values = (fields_of(terms), [fields_of(due) for due in dues], list(amounts))
    return calldata("TaskMarket", "settle", *values)


def refund(terms: TaskTerms) -> bytes:
    """Returns the escrow of a task that came to nothing."""
    return calldata("TaskMarket", "refund", fields_of(terms))


def withdraw(token: Account) -> bytes:
    """Pays the sender all that stands to its credit in one token."""
    return calldata("TaskMarket", "withdraw", token)
