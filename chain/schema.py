"""The chain's tables in the node's database, as a set of migrations of their own."""

from typing import Final

from sqlite_utils import Database, Migrations

MIGRATIONS: Final = Migrations("chain")


@MIGRATIONS(name="0001-follower")
def _follower(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE chain_blocks (
            number INTEGER PRIMARY KEY, hash BLOB NOT NULL, parent BLOB NOT NULL,
            timestamp INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE chain_logs (
            block INTEGER NOT NULL, position INTEGER NOT NULL, block_hash BLOB NOT NULL,
            transaction_hash BLOB NOT NULL, address BLOB NOT NULL, topics BLOB NOT NULL,
            data BLOB NOT NULL, PRIMARY KEY (block, position)
        ) STRICT, WITHOUT ROWID;
        """
    )


@MIGRATIONS(name="0002-outbox")
def _outbox(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE chain_outbox (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
            account BLOB NOT NULL, destination BLOB NOT NULL, data BLOB NOT NULL,
            gas INTEGER, nonce INTEGER, state TEXT NOT NULL
                CHECK (state IN ('new', 'sent', 'mined', 'final', 'refused')),
            block INTEGER, block_hash BLOB, transaction_hash BLOB, gas_used INTEGER,
            success INTEGER, reason TEXT NOT NULL DEFAULT '', enqueued_at REAL NOT NULL,
            UNIQUE (account, nonce)
        ) STRICT;
        CREATE INDEX chain_outbox_state ON chain_outbox (state, id);
        CREATE TABLE chain_attempts (
            hash BLOB PRIMARY KEY, job INTEGER NOT NULL REFERENCES chain_outbox (id),
            max_fee TEXT NOT NULL, priority_fee TEXT NOT NULL, raw BLOB NOT NULL,
            signed_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX chain_attempts_job ON chain_attempts (job);
        """
    )


@MIGRATIONS(name="0003-projection")
def _projection(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE chain_assets (
            cdt BLOB PRIMARY KEY, creator BLOB NOT NULL, owner BLOB NOT NULL,
            epoch INTEGER NOT NULL, kind INTEGER NOT NULL, proof BLOB NOT NULL,
            salt BLOB NOT NULL, storage_path TEXT NOT NULL, block INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE chain_children (
            parent BLOB NOT NULL, position INTEGER NOT NULL, child BLOB NOT NULL,
            PRIMARY KEY (parent, position)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX chain_children_child ON chain_children (child);
        CREATE TABLE chain_grants (
            child BLOB NOT NULL, parent BLOB NOT NULL, owner_epoch INTEGER NOT NULL,
            owner BLOB NOT NULL, terms_hash BLOB NOT NULL, consumer BLOB NOT NULL,
            consumer_epoch INTEGER NOT NULL, token BLOB NOT NULL, decider BLOB NOT NULL,
            price TEXT NOT NULL, unit INTEGER NOT NULL, max_uses INTEGER NOT NULL,
            uses INTEGER NOT NULL, expiry INTEGER NOT NULL, live INTEGER NOT NULL,
            seq INTEGER NOT NULL, PRIMARY KEY (child, parent, owner_epoch)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE chain_trusts (
            owner BLOB NOT NULL, attester BLOB NOT NULL, PRIMARY KEY (owner, attester)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE chain_tasks (
            task BLOB PRIMARY KEY, cdt BLOB NOT NULL, consumer BLOB NOT NULL,
            opener BLOB NOT NULL, recipient BLOB NOT NULL, decider BLOB NOT NULL,
            token BLOB NOT NULL, budget TEXT NOT NULL, deadline INTEGER NOT NULL,
            salt BLOB NOT NULL, state TEXT NOT NULL, attester BLOB, plan BLOB,
            closes_at INTEGER, result_hash BLOB, usage_root BLOB,
            opened_block INTEGER NOT NULL, attested_block INTEGER
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX chain_tasks_cdt ON chain_tasks (cdt);
        CREATE TABLE chain_dues (
            task BLOB NOT NULL, position INTEGER NOT NULL, child BLOB NOT NULL,
            parent BLOB NOT NULL, owner BLOB NOT NULL, terms_hash BLOB NOT NULL,
            price TEXT NOT NULL, unit INTEGER NOT NULL, amount TEXT,
            PRIMARY KEY (task, position)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX chain_dues_child ON chain_dues (child);
        CREATE TABLE chain_bindings (
            account BLOB PRIMARY KEY, seq TEXT NOT NULL, valid_until TEXT NOT NULL,
            peer_id BLOB NOT NULL, peer_signature BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE chain_organisations (
            account BLOB PRIMARY KEY, name TEXT NOT NULL, document TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        """
    )
