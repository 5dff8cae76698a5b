"""Worlds on SQLite and on PostgreSQL. The tests of one process share a database of each sort, wiped between tests:
making one takes longer than most of these tests run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from demo import ephemeral
from jobs.db import Database, connect, upgrade
from jobs.settings import Settings
from tests.jobs.world import World, wipe


@pytest.fixture(scope="session")
def shared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("shared"))
    upgrade(settings)
    database = connect(settings)

    @event.listens_for(database.engine, "connect")
    def _do_not_wait_for_the_disk(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")  # test_database holds what the service sets

    yield database
    database.dispose()


@pytest.fixture(scope="session")
def shared_postgresql(postgresql_server: str, postgresql_template: str) -> Iterator[Database]:
    with ephemeral.database(postgresql_server, template=postgresql_template) as url:
        database = connect(Settings(database_url=url))
        yield database
        database.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated database without rows, once on SQLite and once on PostgreSQL."""
    database: Database = request.getfixturevalue(f"shared_{request.param}")
    yield database
    wipe(database)


@pytest.fixture
def world(db: Database, tmp_path: Path) -> World:
    """One project that uploads and submits."""
    url = db.engine.url.render_as_string(hide_password=False)
    return World(db, Settings(data_dir=tmp_path, database_url=url), itertools.count())
