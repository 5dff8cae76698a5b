"""Engines and sessions: SQLite (WAL, every commit on disk) or PostgreSQL by psycopg 3; the way to the newest schema.

`sessions` are for writing: on SQLite they take the write lock when they begin, so that no transaction fails half-way
for having read first. `readers` do not; they see a snapshot and wait for nobody.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from jobs.settings import Settings

BUSY_TIMEOUT_S = 20
POOL = 10  # connections that stay open, more than an API process has threads; what is above is opened for one use
IDLE_TIMEOUT_S = 60  # of a transaction between two statements, on PostgreSQL
MIGRATIONS = Path(__file__).parent / "migrations"
UPGRADE_TRIES, LOCK_TIMEOUT_S = 60, 1
LOCKED = ("40P01", "55P03")  # PostgreSQL's codes of a deadlock, and of a lock that was waited for too long
UPGRADE_LOCK = 0x1ADA  # PostgreSQL advisory lock: api and worker may start at the same moment


@dataclass(frozen=True)
class Database:
    """The engine, and sessions for writing and for reading. Rows stay usable after their session."""

    engine: Engine
    sessions: sessionmaker[Session]
    readers: sessionmaker[Session]

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def connect(settings: Settings) -> Database:
    """The database of the settings. Opens no connection yet."""
    engine = _engine(settings.database_url)
    reading = engine.execution_options(read_only=True)
    if engine.dialect.name == "postgresql":  # where each statement has its own snapshot anyway: two round trips less
        reading = reading.execution_options(isolation_level="AUTOCOMMIT")
    return Database(
        engine,
        sessionmaker(engine, expire_on_commit=False),
        sessionmaker(reading, expire_on_commit=False, autoflush=False),
    )


def upgrade(settings: Settings) -> None:
    """Bring the schema to the newest migration. Safe when several processes do it at once, and while others work.

    On PostgreSQL a migration that meets a transaction which holds what it needs, and needs what it holds, is undone as
    a whole and tried again; so is one that waits, for whoever comes after it would wait as long.
    """
    engine = _engine(settings.database_url, migrating=True)
    try:
        for left in reversed(range(UPGRADE_TRIES)):
            try:
                _upgrade(engine)
                break
            except OperationalError as error:
                if left == 0 or getattr(error.orig, "sqlstate", None) not in LOCKED:
                    raise
            time.sleep(LOCK_TIMEOUT_S)
    finally:
        engine.dispose()


def _upgrade(engine: Engine) -> None:
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """The migration that the schema is at; None where there is no schema."""
    return MigrationContext.configure(connection).get_current_revision()


def migrations() -> list[str]:
    """Every migration of this version, the newest first."""
    return [step.revision for step in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]


def insert_once(s: Session, table: Any, **values: Any) -> bool:
    """Insert a row unless a unique constraint forbids it. Returns whether this call inserted it.

    Waits for another transaction that is inserting the same key, so that False means: it is there and committed.
    """
    statement = insert(s, table).values(**values).on_conflict_do_nothing().returning(table.id)
    return s.scalars(statement).one_or_none() is not None


def insert(s: Session, table: Any) -> Any:
    """An INSERT of the session's own dialect, which knows ON CONFLICT."""
    kind = sqlite if s.get_bind().dialect.name == "sqlite" else postgresql
    return kind.insert(table)


def _keep_wal(cursor: Any) -> None:
    """Turn the write-ahead log on. Of processes that open a new file at once, one does it and the others wait.

    SQLite itself does not wait here, whatever `busy_timeout` says: two that ask in one instant could block each other.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _engine(url: str, *, migrating: bool = False) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            hide_parameters=True,  # of an error's text, which a log would repeat
            pool_pre_ping=True,
            pool_size=POOL,
            max_overflow=POOL,
            connect_args={"connect_timeout": 5},
        )

        @event.listens_for(engine, "connect")
        def _bound(connection: Any, _record: Any) -> None:
            # A worker that freezes inside a transaction would hold its job's row for ever, and the reconciler skips
            # locked rows: the server ends such a transaction.
            connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S}s'")
            connection.commit()

        return engine
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ValueError("database_url must be sqlite:///<file> or postgresql://...")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(
        parsed, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=POOL, max_overflow=POOL, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; _begin below does
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        _keep_wal(cursor)
        cursor.execute("PRAGMA synchronous = FULL")  # a power cut loses no commit that was answered
        # Batch migrations drop and rebuild tables, which foreign keys would refuse.
        cursor.execute(f"PRAGMA foreign_keys = {'OFF' if migrating else 'ON'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
