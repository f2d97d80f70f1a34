"""Other organisations, as the chain introduces them: their records are fetched, their peers found.

Adversary: any account, for anybody may declare anything. A record is fetched only for an account
for which a peer speaks by the chain, is small, must name that very account and peer, and gives
nothing but addresses at which that peer may be found: who answers there must still prove to be it.
"""

from collections.abc import Iterable
from typing import Final

import trio
from sqlite_utils import Database

from node import assets, organisation_records
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Again, Engine, Owed, Transaction
from node.errors import Fault
from node.host import Host
from node.log import get_logger
from protocol import documents, organisation
from protocol.errors import RemoteProtocolError
from protocol.ids import Account
from protocol.organisation import Organisation

log = get_logger("acquaintances")

FETCH: Final = "fetch-organisation"
FETCHES_MOST: Final = 4
RETRY_FIRST_S: Final = 1.0
RETRY_MOST_S: Final = 3_600.0
LIFE_S: Final = 30 * 86_400.0


class Acquaintances:
    """Follows the records of organisations and tells the host their addresses."""

    def __init__(
        self, engine: Engine, host: Host, directory: Directory, exchange: DocumentExchange
    ) -> None:
        self._engine = engine
        self._host = host
        self._directory = directory
        self._exchange = exchange
        self._limiter = trio.CapacityLimiter(FETCHES_MOST)
        engine.perform(FETCH, self._fetch)

    def follow(self, tx: Transaction, accounts: Iterable[Account]) -> None:
        """Afterwards what these accounts have declared on chain is known, their records wanted."""
        for account in dict.fromkeys(accounts):
            take_from_chain(tx, account)
            self._directory.bindings.follow(tx, account)
            if account != self._directory.own.account and proof_of(tx.db, account) is not None:
                tx.owe(FETCH, account, not_after=tx.now + LIFE_S)

    async def _fetch(self, owed: Owed) -> Again | None:
        known = self._directory.of_account(owed.key)
        proof = proof_of(self._engine.db, owed.key)
        if proof is None or known is None or known.source == "gossip":
            return None
        try:
            async with self._limiter:
                await self._exchange.obtain(proof, [known.peer_id])
            found = record(self._engine, Account(owed.key), proof)
            if found.peer_id != known.peer_id:
                raise RemoteProtocolError("the organisation's document names another peer")
        except RemoteProtocolError as error:
            log.info("organisation's record refused", account=owed.key.hex(), why=str(error))
            return None
        except Fault as fault:
            log.debug("organisation's record not here", account=owed.key.hex(), why=fault.sentence)
            return Again(min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** min(owed.attempts, 12)))
        self._host.learn(known.peer_id, found.addresses, "chain")
        return None


def take_from_chain(tx: Transaction, account: bytes) -> None:
    """Afterwards the address of this account's document is the one that it has declared last."""
    tx.db.execute("DELETE FROM organisations WHERE account = ?", [account])
    declared = organisation_records.find(tx.db, account)
    if declared is None:
        return
    try:
        proof = documents.proof_at(declared.document)
    except RemoteProtocolError:  # a name without a document
        return
    tx.db.execute("INSERT INTO organisations VALUES (?, ?)", [account, proof])


def take_back(tx: Transaction) -> None:
    """Afterwards the addresses of documents are those of the declarations that are left."""
    tx.db.execute("DELETE FROM organisations")
    for declared in organisation_records.every(tx.db):
        take_from_chain(tx, declared.account)


def proof_of(db: Database, account: bytes) -> bytes | None:
    """The proof of the document that this account has declared, or None."""
    row = db.execute("SELECT proof FROM organisations WHERE account = ?", [account]).fetchone()
    return bytes(row[0]) if row else None


def record(engine: Engine, account: Account, proof: bytes) -> Organisation:
    """The account's document, which is here; RemoteProtocolError unless it is of this account."""
    found = organisation.parse(assets.body_of(engine.db, proof))
    organisation.check(found, account)
    return found
