"""Databases and Redis for every test that wants them: real servers, never those of the machine.

`database_url` runs a test on SQLite and on PostgreSQL. Each test gets a database of its own, copied from
one that the project's migrations built once in this session. Where servers come from: `demo/ephemeral.py`.
"""

import os
import secrets
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from redis import Redis
from sqlalchemy import make_url

from demo import ephemeral
from tests.s3 import S3, server

# A shell that starts a command in the background has it ignore SIGINT, and every process it starts; some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Laws are tested, not speed: a busy machine must not fail them.
settings.register_profile("ladapress", deadline=None)
settings.load_profile("ladapress")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of this process's PostgreSQL server (one per xdist worker), `postgresql+psycopg://…/postgres`."""
    with ephemeral.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> Iterator[str]:
    """Name of a database built by the migrations, of which every test gets a copy."""
    from jobs.db import upgrade
    from jobs.settings import Settings

    with ephemeral.database(postgresql_server) as url:
        upgrade(Settings(database_url=url))
        yield str(make_url(url).database)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File built by the migrations, of which every test gets a copy."""
    from jobs.db import upgrade
    from jobs.settings import Settings

    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(Settings(database_url=f"sqlite:///{path}"))
    return path


@pytest.fixture
def postgresql_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_dump and pg_restore of the server that the tests start are on PATH: older ones would refuse it."""
    found = ephemeral.postgresql_binaries(os.environ.get("PATH", ""), ephemeral.DEBIAN_POSTGRESQL)
    if (found / "pg_dump").exists():
        monkeypatch.setenv("PATH", f"{found}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def postgresql_url(postgresql_server: str, postgresql_template: str) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database of this test's own."""
    with ephemeral.database(postgresql_server, template=postgresql_template) as url:
        yield url


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database of this test's own."""
    path = tmp_path / "ladapress.db"
    with closing(sqlite3.connect(sqlite_template)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database of this test's own, once on SQLite and once on PostgreSQL."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of this process's Redis server (one per xdist worker); keep to keys that hold `celery_prefix`."""
    with ephemeral.redis() as url:
        yield url


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """This process's S3-compatible server (one per xdist worker), with an empty bucket; take prefixes of your own."""
    with server() as running:
        yield running


@pytest.fixture
def celery_prefix(redis_url: str) -> Iterator[str]:
    """Prefix for this test's queues and keys; keys that hold it are removed at the end, and nothing else."""
    prefix = f"ladapress-test-{secrets.token_hex(6)}-"
    yield prefix
    with Redis.from_url(redis_url) as client:
        for key in client.scan_iter(match=f"*{prefix}*", count=1000):
            client.delete(key)
