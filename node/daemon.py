"""The composition root: one place where a node's rooms are made and joined, started and stopped.

Ready means that the RPC answers and libp2p listens; unlocking the account and loading the chain's
libraries go on behind it, in threads. SIGTERM and SIGINT end everything at any time, during the
start too: sessions, worker processes, sockets; the process leaves with status 0.
"""

import logging
import secrets
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from node import chain_events, log, session_records
from node.acquaintances import Acquaintances
from node.api import table
from node.api.rooms import Rooms
from node.attestations import Attestations
from node.bindings import Bindings
from node.bitswap import Bitswap
from node.catalogue_rooms import CatalogueRooms
from node.chain_link import ChainLink
from node.config import Chain, FolderConfig
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine, Transaction
from node.errors import Fault
from node.folder import Folder, instance_lock, write_private
from node.grants import Grants
from node.host import Host
from node.house import House
from node.introducing import Introducing
from node.joining import join
from node.judging import Judging
from node.keys import Password, load_peer_key, read_private, unlock
from node.negotiations import Negotiations
from node.publishing import Publishing
from node.receipts import Receipts
from node.revocations import Revocations
from node.rpc import Dispatcher
from node.rpc_http import serve_rpc
from node.session_jobs import Jobs
from node.sessions import Sessions
from node.signer import Signer, own_account
from node.store import open_store
from node.tasks import Tasks
from protocol import typed_data

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from chain.events import Event
    from chain.external import ExternalSigner

logger = log.get_logger("daemon")


def run(configured: FolderConfig, password: Password | None) -> None:
    """Run the node in this folder until it is told to stop. Fault says why it cannot start.

    Without a password the account's key must be with a signer outside.
    """
    level, console = configured.config.log.level, configured.config.log.console
    log.configure(level, console=console, file=configured.folder.log_file)
    logging.raiseExceptions = False  # on a full disk, no trace on stderr for each lost record
    with instance_lock(configured.folder):
        trio.run(_main, configured, password)


async def _main(configured: FolderConfig, password: Password | None) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, configured, password)
            async for number in signals:
                logger.info("stopping", signal=signal.Signals(number).name)
                nursery.cancel_scope.cancel()
                return


async def _serve(configured: FolderConfig, password: Password | None) -> None:
    """The node, until it is cancelled."""
    config, folder = configured.config, configured.folder
    if config.chain is None:
        raise Fault("chain-not-configured", f"{folder.config_file} has no [chain]")
    started_at = time.time()
    key = load_peer_key(folder.peer_key)
    from chain.schema import MIGRATIONS  # noqa: PLC0415

    engine = Engine(open_store(folder.database, MIGRATIONS), time.time)
    bindings = Bindings(engine.db, _registry(config.chain), engine.clock)
    directory = Directory.of(config, own_account(configured), key.peer_id, bindings)
    known = {each.peer_id: each.addresses for each in directory.others}
    async with (
        join(config, key.seed, engine.db, known) as host,
        trio.open_nursery() as nursery,
    ):
        row_key = ledger_key(folder)
        judging = Judging(engine, directory, config)
        house = House(
            engine=engine,
            config=config,
            chain=config.chain,
            directory=directory,
            folder=folder,
            key=key,
            judging=judging,
            grants=Grants(engine, directory, judging, config.chain),
            attestations=Attestations(engine, host, directory, config, config.chain),
            receipts=Receipts(engine, _market(config.chain)),
            jobs=Jobs(config, directory, folder, judging, row_key),
            row_key=row_key,
        )
        rooms = _rooms(house, host, nursery, started_at)
        with engine.transaction() as tx:
            session_records.abort_interrupted(tx)
        dispatcher = Dispatcher(table(rooms), version="1")
        await nursery.start(serve_rpc, dispatcher, folder, config.rpc.port)
        nursery.start_soon(engine.run)
        nursery.start_soon(rooms.catalogue.run)
        nursery.start_soon(_unlock, rooms, password)
        logger.info("ready", peer_id=key.peer_id, seconds=round(time.time() - started_at, 3))


def _rooms(house: House, host: Host, nursery: trio.Nursery, started_at: float) -> Rooms:
    exchange = DocumentExchange(house.engine, host, house.directory)
    Bitswap(house.engine, host, exchange.quota)
    catalogue = CatalogueRooms.of(house.engine, host, house.directory, house.key, exchange)

    acquaintances = Acquaintances(house.engine, host, house.directory, exchange)

    def on_events(tx: Transaction, found: "Sequence[Event]") -> None:
        acquaintances.follow(tx, chain_events.introduced(found))
        chain_events.apply(tx, found, catalogue.announcing, exchange, house.directory)

    def on_rollback(tx: Transaction) -> None:
        chain_events.take_back(tx, house.directory.bindings)

    link = ChainLink(house.engine, house.chain, on_events, on_rollback)
    sessions = Sessions(house, host, nursery)
    return Rooms(
        house=house,
        host=host,
        link=link,
        catalogue=catalogue,
        publishing=Publishing(house, catalogue.announcing, link),
        negotiations=Negotiations(
            house.engine, host, house.directory, exchange, house.judging, house.grants
        ),
        sessions=sessions,
        revocations=Revocations(house, host, link, sessions),
        introducing=Introducing(house, link),
        started_at=started_at,
    )


async def _unlock(rooms: Rooms, password: Password | None) -> None:
    """Unlock the account, then keep the chain; a wrong password ends the daemon."""
    house = rooms.house
    key = await trio.to_thread.run_sync(_key, house, password)
    signer = Signer(key, _registry(house.chain), _market(house.chain))
    house.grants.signer = house.receipts.signer = signer
    rooms.unlocked_tasks = Tasks(house, rooms.sessions, rooms.link, signer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rooms.link.run, signer)
        nursery.start_soon(rooms.unlocked_tasks.trust_attesters)
        nursery.start_soon(rooms.publishing.resume)
        nursery.start_soon(rooms.introducing.run, signer)


def _key(house: House, password: Password | None) -> "LocalAccount | ExternalSigner":
    outside = house.config.signer
    if outside is not None:
        from chain.external import ExternalSigner  # noqa: PLC0415  as slow as the keystore's

        return ExternalSigner(outside.url, outside.account)
    if password is None:
        raise Fault("password-missing", "the keystore needs a password")
    return unlock(house.folder.keystore, password)


def _market(chain: Chain) -> typed_data.Domain:
    return typed_data.market_domain(chain.chain_id, chain.market)


def _registry(chain: Chain) -> typed_data.Domain:
    return typed_data.registry_domain(chain.chain_id, chain.registry)


def ledger_key(folder: Folder) -> bytes:
    """The key under which the ledger names rows; made at the first start, kept for ever.

    Fault `key-damaged` if the file is not what was written (with another key the ledger would
    forget every row), `key-unsafe` if others can read it.
    """
    path = folder.path / "ledger.key"
    if not path.exists():
        write_private(path, secrets.token_bytes(32))
    key = read_private(path)
    if len(key) != 32:
        raise Fault("key-damaged", f"{path} has {len(key)} bytes; 32 would be right")
    return key
