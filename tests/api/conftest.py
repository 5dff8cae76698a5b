"""The app in three forms: in this process on SQLite, on both databases, and as a server on a real port."""

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
from tests.api.live import Live, serve
from tests.jobs.world import World

LOCAL = "http://127.0.0.1:8642"


@pytest.fixture
def settings(sqlite_url: str, tmp_path: Path) -> Settings:
    """SQLite, and no patience for inspections; a test may replace either."""
    return Settings(data_dir=tmp_path / "data", database_url=sqlite_url, inspect_wait_s=0)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def both_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database for all tests of a module, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("both") / "ladapress.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server, template = (request.getfixturevalue(f"postgresql_{name}") for name in ("server", "template"))
    with ephemeral.database(server, template=template) as url:
        yield url


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A caller on this machine; errors of the app come as it answers them."""
    with local(settings) as client:
        yield client


@pytest.fixture
def world(client: TestClient, settings: Settings) -> World:
    """Shortcuts through the service, on the database of `client`."""
    return World(database_of(client), settings, itertools.count(1))


@pytest.fixture
def live(settings: Settings) -> Iterator[Live]:
    """The same as a server on a port of its own."""
    with serve(settings) as server:
        yield server


def local(settings: Settings) -> TestClient:
    """To be used as a context: that runs what the app does at its start."""
    return TestClient(create_app(settings), base_url=LOCAL, client=("127.0.0.1", 50_000), raise_server_exceptions=False)


def database_of(client: TestClient) -> Database:
    """The database that the app behind a client has opened."""
    found: Database = client.app.state.context.database  # type: ignore[attr-defined]
    return found
