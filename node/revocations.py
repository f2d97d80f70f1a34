"""Taking a grant back: the owner's signed word goes out at once, the chain follows.

`revoke` stops this node's own sessions under the grant and owes two things in the same
transaction: the signed `Revocation` to the consumer and to every party of a live session under
that edge, sent again until each has noted it; and the transaction that says the same on chain,
sent whenever the chain can be reached. Whoever receives one checks that the asset's owner signed
it, marks the grant and stops what runs under it. What was opened before stays counted, and the
recipient's receipt stays good: an owner that revokes is paid for what it gave.

Adversary: a peer that forges, repeats or holds back a revocation. A forged one is not signed by
the owner's peer; a repeated old one is for a `seq` that a later grant has passed, and changes
nothing; one held back is answered by nobody, so it is sent again, and the chain says it too.
"""

import hashlib
from collections.abc import Iterable

from chain import contracts
from node import assets, grant_records
from node.chain_link import CONFIRM_TIMEOUT_S, ChainLink
from node.engine import Again, Owed, Transaction
from node.errors import Fault
from node.grant_records import KeptGrant
from node.host import Host
from node.house import House
from node.live_edges import grant_stands
from node.log import get_logger
from node.sessions import Sessions
from protocol import codec, envelope
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId, hexadecimal
from protocol.messages import (
    REVOCATION_PROTOCOL,
    Revocation,
    RevocationNoted,
    SessionDeclined,
)

log = get_logger("revocations")

TELL, ANCHOR = "tell-revocation", "anchor-revocation"
TELL_TIMEOUT_S = 5.0
TELL_AT_LEAST_S = 86_400.0
"""For how long a party that is away is told: until the grant would have expired, or a day."""


class Revocations:
    """Takes this node's own grants back, and heeds it when others do."""

    def __init__(self, house: House, host: Host, link: ChainLink, sessions: Sessions) -> None:
        self._house = house
        self._engine = house.engine
        self._host = host
        self._link = link
        self._sessions = sessions
        self._engine.perform(TELL, self._tell)
        self._engine.perform(ANCHOR, self._anchor)
        host.serve(REVOCATION_PROTOCOL, self._serve, limit=1024)

    # ------------------------------------------------------------------ as the owner

    async def revoke(self, child: bytes, parent: bytes) -> bool:
        """Afterwards the grant is void here, all parties are being told and nothing runs under it.

        True if the chain says so too by now; where it cannot be reached it will be told later.
        Fault `grant-unknown` if this node has given no grant for this edge.
        """
        kept = grant_records.newest(self._engine.db, child, parent)
        if kept is None or kept.owner != self._house.directory.own.account:
            raise Fault("grant-unknown", "this node has given no grant for this edge")
        message = Revocation(child=child, parent=parent, seq=kept.seq)
        signed = codec.encode(envelope.seal(message, self._house.key.signing_key))
        with self._engine.transaction() as tx:
            tx.db.execute(
                "UPDATE grants SET revoked = 1 WHERE child = ? AND parent = ?", [child, parent]
            )
            tx.note("grant", child, "revoked", parent=parent.hex(), seq=kept.seq)
            self._owe(tx, kept, signed)
        name = self._house.directory.own.name
        await self._sessions.stop_under(child, parent, f"{name} revoked its grant")
        return await self._anchored(child, parent)

    def _owe(self, tx: Transaction, kept: KeptGrant, signed: bytes) -> None:
        until = max(tx.now + TELL_AT_LEAST_S, float(kept.terms.expiry))
        for peer_id in sorted(self._concerned(kept)):
            body = peer_id.encode() + b"\x00" + signed
            tx.owe(TELL, hashlib.sha256(body).digest(), body, not_after=until)
        tx.owe(ANCHOR, _edge(kept.child, kept.parent), signed)

    def _concerned(self, kept: KeptGrant) -> set[str]:
        """The peers of the consumer and of every live session under the edge, without this one."""
        consumer = self._house.directory.of_account(kept.terms.consumer)
        peers = {str(consumer.peer_id)} if consumer else set()
        for live in self._sessions.under(kept.child, kept.parent):
            peers |= {str(each) for each in self._sessions.named(live)}
        return peers - {str(self._house.directory.own.peer_id)}

    async def _tell(self, owed: Owed) -> Again | None:
        peer_id, _, signed = owed.body.partition(b"\x00")
        data = await self._host.request(
            PeerId(peer_id.decode()), REVOCATION_PROTOCOL, signed, timeout_s=TELL_TIMEOUT_S
        )
        answer = codec.decode(data, RevocationNoted, SessionDeclined)
        if isinstance(answer, RevocationNoted):
            return None
        log.info("revocation not noted yet", peer=peer_id.decode(), why=answer.sentence)
        return Again()

    async def _anchor(self, owed: Owed) -> Again | None:
        told = codec.decode(codec.decode(owed.body, envelope.Signed).body, Revocation)
        edge = f"{hexadecimal(told.child)}:{hexadecimal(told.parent)}"
        key = f"revoke:{edge}:{told.seq}"
        registry = self._house.chain.registry
        data = contracts.revoke(told.child, told.parent, told.seq)
        with self._engine.transaction():
            self._link.enqueue(key, "revoke", registry, data)
        try:
            await self._link.confirmed(key)
        except Fault as fault:
            if fault.kind != "transaction-refused":
                raise
            with self._engine.transaction() as tx:
                tx.note("grant", told.child, "revocation refused by the chain", why=fault.sentence)
        return None

    async def _anchored(self, child: bytes, parent: bytes) -> bool:
        """True once the chain has taken it; False at once if the chain cannot be reached."""
        key = _edge(child, parent)

        def owed() -> bool:
            rows = self._engine.db.execute(
                "SELECT 1 FROM effects WHERE kind = ? AND key = ?", [ANCHOR, key]
            )
            return rows.fetchone() is not None

        if self._link.trouble:
            return False
        await self._engine.until(lambda: not owed(), CONFIRM_TIMEOUT_S)
        return not owed()

    # ------------------------------------------------------------------ as everybody else

    async def _serve(self, _peer_id: PeerId, data: bytes) -> bytes:
        """The owner's signature counts, not who brings it."""
        signed = codec.decode(data, envelope.Signed, limit=1024)
        told = envelope.open_signed(signed, Revocation)
        asset = assets.find(self._engine.db, told.child)
        kept = grant_records.latest(self._engine.db, told.child, told.parent)
        owners = {each.owner for each in (asset, kept) if each is not None}
        if not owners:
            sentence = "this node knows no such asset yet"
            return codec.encode(SessionDeclined(rule="cdt-unknown", sentence=sentence))
        signers = {owner for owner in owners if self._house.directory.bound(owner, signed.key)}
        if not signers:
            raise RemoteProtocolError("the revocation is not signed by the owner of the asset")
        self._mark(told, signed, signers)
        if asset is None or asset.owner in signers:  # an earlier owner ends its own grants alone
            await self._stop(told)
        noted = RevocationNoted(child=told.child, parent=told.parent, seq=told.seq)
        return codec.encode(noted)

    def _mark(self, told: Revocation, signed: envelope.Signed, signers: Iterable[bytes]) -> None:
        """Afterwards the signer's grants up to this `seq` are void; noted once, however often."""
        with self._engine.transaction() as tx:
            marked = sum(
                tx.db.execute(
                    "UPDATE grants SET revoked = 1 "
                    "WHERE child = ? AND parent = ? AND seq <= ? AND owner = ? AND NOT revoked",
                    [told.child, told.parent, told.seq, owner],
                ).rowcount
                for owner in signers
            )
            if marked:
                evidence, parent = codec.encode(signed).hex(), told.parent.hex()
                outcome = "revoked by its owner"
                tx.note(
                    "grant", told.child, outcome, parent=parent, seq=told.seq, evidence=evidence
                )

    async def _stop(self, told: Revocation) -> None:
        if grant_stands(self._engine.db, told.child, told.parent, above=told.seq):
            return
        asset = assets.find(self._engine.db, told.child)
        name = self._house.directory.name(asset.owner) if asset else "the owner"
        await self._sessions.stop_under(told.child, told.parent, f"{name} revoked its grant")


def _edge(child: bytes, parent: bytes) -> bytes:
    return hashlib.sha256(child + parent).digest()
