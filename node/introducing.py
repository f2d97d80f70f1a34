"""How this node makes itself known: its peer bound to its account, its name and addresses told.

By gossip for nothing: account and peer both sign a binding, which travels with announcements and is
renewed before it ends. On the chain for two transactions: a binding that wins over gossip, and the
record of the organisation. What stands on the chain is this account's last word: after it has
ended its binding there, nothing is signed by itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import trio

from chain import contracts
from node import assets, organisation_records
from node.bindings import Bound
from node.chain_link import ChainLink
from node.engine import Transaction
from node.errors import Fault
from node.house import House
from node.log import get_logger
from node.signer import Signer
from protocol import binding, documents, organisation
from protocol.binding import Binding
from protocol.errors import LocalProtocolError
from protocol.ids import hexadecimal
from protocol.organisation import Organisation
from protocol.typed_data import Bind, registry_domain

log = get_logger("introducing")

DAY_S: Final = 86_400
GOSSIPED_S: Final = 90 * DAY_S
RENEW_S: Final = 30 * DAY_S
LOOK_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Introduced:
    """What the chain says of this node from now on; `cid` is the record's, empty if it has none."""

    peer_id: str
    valid_until: int
    seq: int
    cid: str
    gas_used: int


class Introducing:
    """Binds this node's peer to its account, and tells who it is."""

    def __init__(self, house: House, link: ChainLink) -> None:
        self._house = house
        self._engine = house.engine
        self._own = house.directory.own
        self._bindings = house.directory.bindings
        self._link = link
        self._domain = registry_domain(house.chain.chain_id, house.chain.registry)

    # ------------------------------------------------------------------ by gossip

    async def run(self, signer: Signer) -> None:
        """Keeps a signed binding for gossip wherever the chain has none, for ever."""
        while True:
            await self._link.caught_up()
            try:
                self.renew(signer)
            except Fault as fault:
                log.warning("binding not signed", why=fault.sentence)
            await trio.sleep(LOOK_S)

    def renew(self, signer: Signer) -> bool:
        """True if a binding was signed, for none that counts holds for another RENEW_S."""
        now = self._engine.clock()
        if self._bindings.has_ended(self._own.account):
            return False
        current = self._bindings.of_account(self._own.account)
        if current is not None and self._suffices(current, now):
            return False
        message = self._message(int(now) + GOSSIPED_S)
        signed = Binding(
            account=self._own.account,
            peer_id=self._own.peer_id,
            valid_until=message.valid_until,
            seq=message.seq,
            account_signature=signer.sign(self._domain, message),
            peer_signature=self._signed_by_peer(message),
        )
        with self._engine.transaction() as tx:
            self._bindings.keep(tx, signed)
            tx.note("binding", self._own.account, "signed", seq=signed.seq)
        return True

    def _suffices(self, current: Bound, now: float) -> bool:
        """The chain's wins while it is in force, so that gossip has nothing to add to it."""
        ours = current.peer_id == self._own.peer_id
        return current.source == "chain" or (ours and current.valid_until > now + RENEW_S)

    # ------------------------------------------------------------------ on the chain

    async def publish(
        self, valid_days: int, description: str, addresses: Iterable[str]
    ) -> Introduced:
        """Afterwards the chain binds this peer for so many days, and has this node's record.

        Fault `input-invalid` for a text or an address that no record may hold; Faults of the
        chain as `ChainLink.confirmed`.
        """
        self._link.require()
        body = self._record(description, tuple(addresses))
        message = self._message(int(self._engine.clock()) + valid_days * DAY_S)
        signature = self._signed_by_peer(message)
        steps = [(f"bind:{message.seq}", "bind", _bind(message, signature))]
        path = documents.storage_path(documents.proof_of(body))
        if not self._is_declared(path):
            declared = contracts.declare(self._own.name, path)
            steps.append((f"declare:{message.seq}", "declare", declared))
        gas = await self._sent(steps, body)
        return Introduced(self._own.peer_id, message.valid_until, message.seq, _cid(body), gas)

    async def end(self) -> Introduced:
        """Afterwards the chain says that no peer speaks for this account. Its record stays."""
        self._link.require()
        message = Bind(self._own.account, b"", 0, self._next_seq())
        gas = await self._sent([(f"bind:{message.seq}", "bind", _bind(message, b""))], None)
        return Introduced("", 0, message.seq, "", gas)

    async def _sent(self, steps: list[tuple[str, str, bytes]], body: bytes | None) -> int:
        registry = self._house.chain.registry
        for _, _, data in steps:
            await self._link.foresee(registry, data)
        with self._engine.transaction() as tx:
            if body is not None:
                self._keep(tx, body)
            for key, kind, data in steps:
                self._link.enqueue(key, kind, registry, data)
        return sum([(await self._link.confirmed(key)).gas_used for key, _, _ in steps])

    def _keep(self, tx: Transaction, body: bytes) -> None:
        assets.keep_document(tx, body)
        tx.note("binding", self._own.account, "published", cid=_cid(body))

    def _is_declared(self, path: str) -> bool:
        said = organisation_records.find(self._engine.db, self._own.account)
        return said is not None and (said.name, said.document) == (self._own.name, path)

    def _record(self, description: str, addresses: tuple[str, ...]) -> bytes:
        try:
            document = Organisation(
                type="organisation",
                account=hexadecimal(self._own.account),
                name=self._own.name,
                description=description,
                peer_id=self._own.peer_id,
                addresses=addresses,
            )
            return organisation.canonical(document)
        except LocalProtocolError as error:
            raise Fault("input-invalid", str(error)) from error

    def _message(self, valid_until: int) -> Bind:
        key = self._house.key.signing_key
        return binding.bind_to(key, self._own.account, valid_until, self._next_seq())

    def _next_seq(self) -> int:
        """By the clock, so that it rises though this database may have been lost."""
        return max(int(self._engine.clock()), self._bindings.latest_seq(self._own.account) + 1)

    def _signed_by_peer(self, message: Bind) -> bytes:
        return binding.sign_as_peer(self._house.key.signing_key, self._domain, message)


def addresses_to_tell(listening: Iterable[str]) -> tuple[str, ...]:
    """Those of a node's addresses that others may find it at: without its peer id, not loopback's.

    A node that listens on loopback alone tells that: all of its network is one machine.
    """
    bare = [each.partition("/p2p/")[0] for each in listening]
    open_ = [each for each in bare if not each.startswith(("/ip4/127.", "/ip6/::1/"))]
    return tuple((open_ or bare)[: organisation.MAX_ADDRESSES])


def _bind(message: Bind, signature: bytes) -> bytes:
    return contracts.bind(message.peer_id, signature, message.valid_until, message.seq)


def _cid(body: bytes) -> str:
    return documents.cid_of(documents.proof_of(body))
