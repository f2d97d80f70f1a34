"""The node's database: one SQLite file, its tables made by numbered migrations.

Identifiers are BLOBs, amounts of money decimal TEXT, times Unix seconds, structured bodies the
canonical bytes of their wire type. Everything is written from the daemon's one thread, inside
`Engine.transaction`; nothing else opens the file for writing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database, Migrations

from node import asset_words
from node.errors import Fault

MIGRATIONS = Migrations("node")


@MIGRATIONS(name="0001-catalogue")
def _catalogue(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE documents (
            proof BLOB PRIMARY KEY, body BLOB NOT NULL, stored_at REAL NOT NULL
        ) STRICT;
        CREATE TABLE spare_documents (
            proof BLOB PRIMARY KEY, size INTEGER NOT NULL, stored_at REAL NOT NULL
        ) STRICT;
        CREATE TABLE wanted_documents (
            cdt BLOB PRIMARY KEY, lane INTEGER NOT NULL, attempts INTEGER NOT NULL,
            due_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX wanted_documents_due ON wanted_documents (lane, due_at);
        CREATE TABLE assets (
            id INTEGER PRIMARY KEY, cdt BLOB NOT NULL UNIQUE, owner BLOB NOT NULL,
            creator BLOB NOT NULL, kind TEXT NOT NULL, proof BLOB NOT NULL,
            children BLOB NOT NULL, epoch INTEGER NOT NULL DEFAULT 0,
            salt TEXT NOT NULL DEFAULT '0', name TEXT NOT NULL DEFAULT '',
            endpoint TEXT NOT NULL DEFAULT '', state TEXT NOT NULL,
            reason TEXT NOT NULL DEFAULT '', withdrawn INTEGER NOT NULL DEFAULT 0,
            seen_at REAL NOT NULL, title TEXT NOT NULL DEFAULT '', body TEXT NOT NULL DEFAULT '',
            terms TEXT NOT NULL DEFAULT ''
        ) STRICT;
        CREATE INDEX assets_owner ON assets (owner, state);
        CREATE INDEX assets_proof ON assets (proof);
        CREATE INDEX assets_state ON assets (state, withdrawn);
        CREATE TABLE announcements (
            change INTEGER PRIMARY KEY AUTOINCREMENT,
            cdt BLOB NOT NULL, author BLOB NOT NULL, owner BLOB NOT NULL, seq INTEGER NOT NULL,
            not_after INTEGER NOT NULL, withdrawn INTEGER NOT NULL, entry BLOB NOT NULL UNIQUE,
            body BLOB NOT NULL, UNIQUE (cdt, author)
        ) STRICT;
        CREATE INDEX announcements_author ON announcements (author, owner);
        CREATE INDEX announcements_end ON announcements (not_after);
        CREATE TABLE bindings (
            account BLOB NOT NULL, source TEXT NOT NULL CHECK (source IN ('chain', 'gossip')),
            peer_id TEXT NOT NULL, valid_until INTEGER NOT NULL, seq INTEGER NOT NULL,
            body BLOB NOT NULL, PRIMARY KEY (account, source)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX bindings_peer ON bindings (peer_id);
        CREATE TABLE organisations (account BLOB PRIMARY KEY, proof BLOB NOT NULL)
            STRICT, WITHOUT ROWID;
        CREATE INDEX organisations_proof ON organisations (proof);
        CREATE TABLE own_assets (
            cdt BLOB PRIMARY KEY, kind TEXT NOT NULL, dataset TEXT NOT NULL DEFAULT '',
            proof BLOB NOT NULL, transaction_key TEXT NOT NULL,
            published_at REAL NOT NULL
        ) STRICT;
        CREATE VIEW needed_documents AS
            SELECT proof FROM assets WHERE state != 'announced'
            UNION ALL SELECT proof FROM own_assets;
        """
    )
    db.executescript(asset_words.SCHEMA)


@MIGRATIONS(name="0001-peers")
def _peers(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE peer_addresses (
            peer_id TEXT NOT NULL, address TEXT NOT NULL, source TEXT NOT NULL,
            place INTEGER NOT NULL, told_at REAL NOT NULL, worked_at REAL NOT NULL,
            PRIMARY KEY (peer_id, source, address)
        ) STRICT;
        CREATE TABLE peer_bans (
            peer_id TEXT PRIMARY KEY, reason TEXT NOT NULL, until REAL NOT NULL
        ) STRICT;
        """
    )


@MIGRATIONS(name="0002-negotiations")
def _negotiations(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE negotiations (
            process BLOB PRIMARY KEY, side TEXT NOT NULL CHECK (side IN ('consumer', 'provider')),
            child BLOB NOT NULL, parent BLOB NOT NULL, counterparty BLOB NOT NULL,
            peer_id TEXT NOT NULL, state TEXT NOT NULL, deadline REAL NOT NULL,
            not_after REAL NOT NULL, offer INTEGER NOT NULL, told INTEGER NOT NULL,
            request BLOB NOT NULL, offered BLOB, answer BLOB, limits TEXT NOT NULL,
            findings TEXT NOT NULL, sentence TEXT NOT NULL, updated_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX negotiations_edge ON negotiations (child, parent);
        CREATE INDEX negotiations_peer ON negotiations (peer_id, updated_at);
        CREATE TABLE referrals (
            process BLOB PRIMARY KEY, peer_id TEXT NOT NULL, referred TEXT NOT NULL,
            asked_at REAL NOT NULL, until REAL NOT NULL, decision TEXT NOT NULL,
            decided_by TEXT NOT NULL, decided_at REAL NOT NULL, remark TEXT NOT NULL
        ) STRICT;
        CREATE TABLE withdrawn_requests (
            process BLOB PRIMARY KEY, peer_id TEXT NOT NULL, at REAL NOT NULL
        ) STRICT;
        CREATE TABLE grants (
            child BLOB NOT NULL, parent BLOB NOT NULL, seq INTEGER NOT NULL, owner BLOB NOT NULL,
            body BLOB NOT NULL, signature BLOB NOT NULL, uses_counted INTEGER NOT NULL DEFAULT 0,
            revoked INTEGER NOT NULL DEFAULT 0, waived TEXT NOT NULL DEFAULT '',
            withdrawn INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (child, parent, seq)
        ) STRICT;
        CREATE TABLE given_terms (hash BLOB PRIMARY KEY, body BLOB NOT NULL) STRICT;
        """
    )


@MIGRATIONS(name="0003-attestations")
def _attestations(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE attestations (task BLOB PRIMARY KEY, body BLOB NOT NULL) STRICT;
        """
    )


@MIGRATIONS(name="0004-sessions")
def _sessions(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE sessions (
            session BLOB PRIMARY KEY, task BLOB NOT NULL, roles TEXT NOT NULL, state TEXT NOT NULL,
            reason TEXT NOT NULL DEFAULT '', blamed TEXT NOT NULL DEFAULT '[]',
            roster BLOB, row_set BLOB, summary TEXT NOT NULL DEFAULT '{}',
            started_at REAL NOT NULL, updated_at REAL NOT NULL
        ) STRICT;
        CREATE TABLE ledger (
            row_key BLOB NOT NULL, session BLOB NOT NULL, numbers INTEGER NOT NULL,
            PRIMARY KEY (row_key, session)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE spendings (
            session BLOB PRIMARY KEY, task BLOB NOT NULL, dataset TEXT NOT NULL,
            operator TEXT NOT NULL, recipient BLOB NOT NULL, purpose TEXT NOT NULL,
            numbers INTEGER NOT NULL, rows INTEGER NOT NULL, reserved_at REAL NOT NULL
        ) STRICT;
        CREATE TABLE tested_ids (
            session BLOB NOT NULL, role TEXT NOT NULL, operator TEXT NOT NULL,
            ids INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (session, role, operator)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE lineages (
            attestation BLOB PRIMARY KEY, lineage BLOB NOT NULL, rows_digest BLOB NOT NULL,
            session BLOB NOT NULL
        ) STRICT;
        CREATE TABLE counted_uses (
            attestation BLOB NOT NULL, child BLOB NOT NULL, parent BLOB NOT NULL,
            PRIMARY KEY (attestation, child, parent)
        ) STRICT;
        """
    )


@MIGRATIONS(name="0005-effects")
def _effects(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE effects (
            kind TEXT NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL, attempts INTEGER NOT NULL,
            due_at REAL NOT NULL, not_after REAL NOT NULL, PRIMARY KEY (kind, key)
        ) STRICT;
        CREATE INDEX effects_due ON effects (due_at);
        CREATE TABLE decisions (
            id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, subject BLOB NOT NULL,
            outcome TEXT NOT NULL, detail TEXT NOT NULL
        ) STRICT;
        CREATE INDEX decisions_subject ON decisions (kind, subject);
        """
    )


@MIGRATIONS(name="0006-known-grants")
def _known_grants(db: Database) -> None:
    """Revocations are the chain's: they stand in its own tables (of another set) alone."""
    db.executescript(
        """
        CREATE VIEW known_grants AS
            SELECT child, parent, seq, owner, body, signature, uses_counted,
                max(revoked, EXISTS (
                    SELECT 1 FROM chain_grants c WHERE c.child = g.child AND c.parent = g.parent
                        AND NOT c.live AND c.seq >= g.seq
                )) AS revoked, waived, withdrawn
            FROM grants g;
        """
    )


def open_memory() -> Database:
    """A database of this node's own tables that lives as long as the process."""
    db = Database(sqlite3.connect(":memory:", isolation_level=None))
    MIGRATIONS.apply(db)
    return db


def open_store(path: Path, *further: Migrations) -> Database:
    """The database at `path`, migrated, in WAL mode, every commit synced to the disk.

    `further` are the migrations of packages that keep tables of their own here (the chain's).
    Fault `database-damaged` if the file is no database, `database-newer` if a later release
    wrote it, `disk-full` if there is no room.
    """
    try:
        db = Database(sqlite3.connect(path, isolation_level=None))
        path.chmod(0o600)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        for migrations in (MIGRATIONS, *further):
            _refuse_newer(db, migrations, path)
            migrations.apply(db)
    except sqlite3.OperationalError as error:
        if _is_lack_of_room(error):
            raise Fault("disk-full", f"no room for the database {path}") from error
        raise Fault("database-damaged", f"{path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Fault("database-damaged", f"{path} is not a database: {error}") from error
    return db


@contextmanager
def writing(db: Database) -> Iterator[None]:
    """All that the block writes is stored when it ends, or nothing of it; blocks may be nested.

    Fault `disk-full` if the disk does not take it.
    """
    try:
        with db.atomic():
            yield
    except sqlite3.OperationalError as error:
        if _is_lack_of_room(error):
            raise Fault("disk-full", "the disk does not take what the node has to store") from error
        raise


def _is_lack_of_room(error: sqlite3.OperationalError) -> bool:
    # A quota or a limit on files' sizes is told as an input/output error.
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _refuse_newer(db: Database, migrations: Migrations, path: Path) -> None:
    ours = {migration.name for migration in migrations.pending(Database(memory=True))}
    later = sorted({migration.name for migration in migrations.applied(db)} - ours)
    if later:
        raise Fault("database-newer", f"{path} holds the migration {later[0]!r}, unknown here")
