"""Alembic's entry: runs on the connection that `jobs.db.upgrade` hands over, or on the one of the settings."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from jobs.db import connect
from jobs.settings import Settings
from jobs.tables import Base


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,  # SQLite alters a table by rebuilding it
        transactional_ddl=True,  # jobs.db begins SQLite's transactions itself, so DDL rolls back there too
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    database = connect(Settings())
    with database.engine.begin() as own:
        migrate(own)
    database.dispose()
