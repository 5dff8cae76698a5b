"""Engines, migrations and settings: what the other tests of jobs stand on."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from pydantic import SecretStr, ValidationError
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from demo import ephemeral
from jobs.db import MIGRATIONS, connect, migrations, upgrade
from jobs.settings import Settings
from jobs.tables import Base
from tests.jobs.world import World


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a database without any table."""
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path / "new" / "folder")
        return
    with ephemeral.database(request.getfixturevalue("postgresql_server")) as url:
        yield Settings(data_dir=tmp_path, database_url=url)


def test_the_migrations_build_exactly_the_tables(empty: Settings) -> None:
    """From nothing to head, by several processes' worth of threads at once; Alembic then sees no difference."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(upgrade, [empty] * 3))
    db = connect(empty)
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    db.dispose()


def test_processes_that_open_a_new_file_at_once_all_get_in(tmp_path: Path) -> None:
    """Who turns the write-ahead log on is left to chance; nobody is told that the database is locked."""

    def enter(url: str, together: threading.Barrier) -> None:
        db = connect(Settings(data_dir=tmp_path, database_url=url))
        together.wait()
        with db.sessions.begin() as s:
            assert s.execute(text("SELECT 1")).scalar() == 1
        db.dispose()

    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            together = threading.Barrier(8)
            ran = [pool.submit(enter, f"sqlite:///{tmp_path / str(number)}.db", together) for _ in range(8)]
            for one in ran:
                one.result()


def test_a_migration_that_breaks_leaves_the_old_schema(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """DDL is in the transaction, on SQLite too."""
    monkeypatch.setattr("alembic.op.execute", lambda _statement: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        upgrade(empty)
    monkeypatch.undo()
    db = connect(empty)
    with db.engine.connect() as connection:
        assert inspect(connection).get_table_names() == []
    db.dispose()
    upgrade(empty)


def test_a_migration_gives_way_to_who_works_and_comes_again(postgresql_url: str) -> None:
    """Where each holds what the other needs, the migration is undone and tried again; the other has its way."""
    settings = Settings(database_url=postgresql_url)
    db = connect(settings)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with db.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0009")
    with ThreadPoolExecutor(1) as pool, db.sessions.begin() as working:
        working.execute(text("SELECT count(*) FROM artifact"))  # the last that the migration changes
        migrating = pool.submit(upgrade, settings)
        with db.readers() as s:
            while not s.execute(
                text("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'artifact'::regclass")
            ).all():
                assert not migrating.done()
        working.execute(text("SELECT count(*) FROM job"))  # the first
        working.commit()
        migrating.result()
    with db.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == migrations()[0]
    db.dispose()


def test_every_column_takes_what_the_models_say(world: World) -> None:
    """Foreign keys are enforced on both databases."""
    from sqlalchemy.exc import IntegrityError

    from jobs.tables import Dataset

    with pytest.raises(IntegrityError), world.db.sessions.begin() as s:
        s.add(Dataset(id="data_x", project_id="proj_nowhere", format="csv", size=1, sha256="0" * 64))


def test_sqlite_loses_no_answered_commit(tmp_path: Path) -> None:
    """WAL with synchronous FULL: a power cut after the answer changes nothing."""
    db = connect(Settings(data_dir=tmp_path))
    with db.engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    db.dispose()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 20_000, "foreign_keys": 1}


def test_postgresql_ends_the_transaction_of_a_frozen_worker(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that stops inside a transaction keeps its rows locked for a while, not for ever."""
    monkeypatch.setattr("jobs.db.IDLE_TIMEOUT_S", 1)
    db = connect(Settings(database_url=postgresql_url))
    with db.sessions() as frozen:
        frozen.execute(text("SELECT pg_advisory_xact_lock(1)"))
        with db.sessions.begin() as other:
            other.execute(text("SELECT pg_advisory_xact_lock(1)"))  # returns when the server has ended the first
        with pytest.raises(DBAPIError):
            frozen.execute(text("SELECT 1"))
        frozen.invalidate()
    db.dispose()


def test_sqlite_readers_wait_for_nobody_and_writers_queue_up(sqlite_url: str, tmp_path: Path) -> None:
    """A writer holds the lock from its first moment, so nobody who has read first is sent away."""
    db = connect(Settings(data_dir=tmp_path, database_url=sqlite_url))
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with db.sessions.begin() as s:
            s.execute(text("SELECT 1"))
            inside.set()
            assert leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        assert inside.wait(10)
        with db.readers() as s:
            assert s.execute(text("SELECT count(*) FROM project")).scalar() == 1
        impatient = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            impatient.execute("BEGIN IMMEDIATE")
        impatient.close()
        leave.set()
        holder.result()
    db.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db", "nonsense://"])
def test_a_database_that_is_not_shared_by_processes_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="database_url must be"):
        connect(Settings(database_url=url))


def test_settings_come_from_the_environment_and_hang_on_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADAPRESS_DATA_DIR", "/srv/lada")
    monkeypatch.setenv("LADAPRESS_LEASE_S", "6")
    settings = Settings()
    assert settings.lease_s == 6
    assert settings.database_url == "sqlite:////srv/lada/ladapress.db"
    assert (settings.store_dir, settings.work_dir) == (Path("/srv/lada/store"), Path("/srv/lada/work"))
    with pytest.raises(ValidationError):
        settings.lease_s = 7  # type: ignore[misc]


def test_settings_give_the_environment_they_would_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, numbers, paths, switches and secrets."""
    settings = Settings(data_dir=Path("/srv/lada"), store_secret_access_key=SecretStr("s3cret"), rate_limits=False)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_reading_settings_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(data_dir=Path("here")).data_dir == tmp_path / "here"
    assert list(tmp_path.iterdir()) == []


def test_no_password_is_in_the_settings_text() -> None:
    settings = Settings(database_url="postgresql://u:hunter2@h/d", broker_url="redis://:hunter2@h")
    assert "hunter2" not in repr(settings) + str(settings)


@pytest.mark.parametrize("field", ["lease_s", "tick_s", "max_attempts", "device_slots", "threads", "kill_grace_s"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x"])
def test_a_setting_that_makes_no_sense_stops_the_start(field: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LADAPRESS_{field.upper()}", value)
    with pytest.raises(ValidationError, match=field):
        Settings()
