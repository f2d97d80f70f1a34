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
