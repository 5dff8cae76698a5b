"""The app in three forms: in this process on SQLite, on both databases, and as a server on a real port.

Starting an app and making a database take a second each, emptying them takes none: they last for a module, and each
test finds them empty.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from demo import ephemeral
from jobs.db import Database
from jobs.settings import Settings
from jobs.tables import Base
from tests.api.live import Live, serve
from tests.jobs.world import World

LOCAL = "http://127.0.0.1:8642"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def both_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database for all tests of a module, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield copy_of(request.getfixturevalue("sqlite_template"), tmp_path_factory)
        return
    server, template = (request.getfixturevalue(f"postgresql_{name}") for name in ("server", "template"))
    with ephemeral.database(server, template=template) as url:
        yield url


@pytest.fixture(scope="module")
def settings(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """SQLite, and no patience for inspections; a module may replace either."""
    url = copy_of(sqlite_template, tmp_path_factory)
    return Settings(data_dir=tmp_path_factory.mktemp("data"), database_url=url, inspect_wait_s=0)


@pytest.fixture(scope="module")
def app_client(settings: Settings) -> Iterator[TestClient]:
    """What `client` empties."""
    with local(settings) as client:
        yield client


@pytest.fixture
def client(app_client: TestClient, settings: Settings) -> TestClient:
    """A caller on this machine, of an empty service; errors of the app come as it answers them."""
    empty(database_of(app_client), settings)
    return app_client


@pytest.fixture
def world(client: TestClient, settings: Settings) -> World:
    """Shortcuts through the service, on the database of `client`."""
    return World(database_of(client), settings, itertools.count(1))


@pytest.fixture(scope="module")
def live_server(settings: Settings) -> Iterator[Live]:
    """What `live` empties."""
    with serve(settings) as server:
        yield server


@pytest.fixture
def live(live_server: Live, settings: Settings) -> Live:
    """The same as a server on a port of its own, empty."""
    empty(live_server.world.db, settings)
    return live_server


@pytest.fixture
def fresh(sqlite_url: str, tmp_path: Path) -> Settings:
    """For a test that makes keys: once a key exists, an app never again forgets it."""
    return Settings(data_dir=tmp_path / "data", database_url=sqlite_url, inspect_wait_s=0)


def local(settings: Settings) -> TestClient:
    """To be used as a context: that runs what the app does at its start."""
    return TestClient(create_app(settings), base_url=LOCAL, client=("127.0.0.1", 50_000), raise_server_exceptions=False)


def database_of(client: TestClient) -> Database:
    """The database that the app behind a client has opened."""
    found: Database = client.app.state.context.database  # type: ignore[attr-defined]
    return found


def empty(database: Database, settings: Settings) -> None:
    """Remove all rows but projects, and all bytes."""
    with database.sessions.begin() as s:
        for table in reversed(Base.metadata.sorted_tables):
            if table.name != "project":
                s.execute(table.delete())
    for folder in (settings.store_dir, settings.upload_dir):
        shutil.rmtree(folder, ignore_errors=True)


def copy_of(template: Path, factory: pytest.TempPathFactory) -> str:
    """URL of a copy of a database file that nobody has open."""
    path = factory.mktemp("database") / "ladapress.db"
    shutil.copyfile(template, path)
    return f"sqlite:///{path}"
