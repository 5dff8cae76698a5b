"""A backup brought back is the service as it was: every row, every byte, and nothing is overwritten on the way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer import Typer
from typer.testing import CliRunner

from demo import ephemeral
from jobs import backup, service
from jobs.backup import BackupError, back_up, restore
from jobs.cli import backup as cli
from jobs.db import Database, connect
from jobs.local_store import LocalStore
from jobs.settings import Settings
from jobs.store import Blob
from jobs.tables import Base
from tests.api.results import finished
from tests.jobs.world import World

pytestmark = pytest.mark.usefixtures("postgresql_programs")


class Kept(World):
    """Whose uploads lie in the store."""

    def blob(self) -> Blob:
        text = f"upload {next(self.counter)}".encode()
        return LocalStore(self.settings.store_dir).put_stream(self.scope.project_id, [text], max_bytes=99)


@pytest.fixture
def world(db: Database, tmp_path: Path) -> World:
    """One project that uploads and submits, and its files."""
    url = db.engine.url.render_as_string(hide_password=False)
    return Kept(db, Settings(data_dir=tmp_path / "old", database_url=url), itertools.count())


@pytest.fixture
def empty(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings of a service that was never started, on the same kind of database."""
    home = tmp_path / "new"
    if world.db.engine.dialect.name == "sqlite":
        yield Settings(data_dir=home)
        return
    with ephemeral.database(request.getfixturevalue("postgresql_server")) as url:
        yield Settings(data_dir=home, database_url=url)


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with database.readers() as s:
        return {
            table.name: sorted((tuple(row) for row in s.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


def blobs(settings: Settings) -> dict[tuple[str, str], bytes]:
    store = LocalStore(settings.store_dir)
    return {(project, sha256): store.open(project, sha256).read() for project, sha256 in store.blobs()}


def test_what_comes_back_is_what_was(world: World, empty: Settings, tmp_path: Path) -> None:
    """Rows and bytes. A second backup into the folder copies nothing that is there."""
    finished(world)
    finished(world)
    first = back_up(world.settings, tmp_path / "kept")
    assert first.whole
    assert first.files > 0
    again = back_up(world.settings, tmp_path / "kept")
    assert (again.files, again.there) == (0, first.files)
    brought = restore(empty, tmp_path / "kept")
    assert brought.whole
    assert brought.bytes == first.bytes
    database = connect(empty)
    assert rows(database) == rows(world.db)
    assert blobs(empty) == blobs(world.settings)
    database.dispose()
    secret = empty.data_dir / "ladapress.db" if world.db.engine.dialect.name == "sqlite" else tmp_path / "kept"
    assert secret.stat().st_mode & 0o077 == 0


def test_a_service_that_runs_is_copied_as_it_was_at_one_moment(world: World, empty: Settings, tmp_path: Path) -> None:
    """While events are written all the time: what comes back has no gap and ends where its job says."""
    held = world.claimed()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with world.db.sessions.begin() as s:
                service.record(s, held.job_id, held.fence, [("log", {"message": "a line"})])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(world.events(held.job_id)) < 20:
            pass
        back_up(world.settings, tmp_path / "kept")
    finally:
        stop.set()
        writer.join()
    restore(empty, tmp_path / "kept")
    database = connect(empty)
    there = World(database, empty, iter(()))  # type: ignore[arg-type]
    numbers = [event.seq for event in there.events(held.job_id)]
    assert numbers == list(range(1, there.job(held.job_id).event_seq + 1))
    assert 20 <= len(numbers) <= len(world.events(held.job_id))
    database.dispose()


def test_a_service_that_is_not_empty_is_left_alone(world: World, empty: Settings, tmp_path: Path) -> None:
    """Neither its rows nor its files: each of the two is enough to be refused."""
    finished(world)
    back_up(world.settings, tmp_path / "kept")
    before = rows(world.db), blobs(world.settings)
    with pytest.raises(BackupError, match="database is not empty"):
        restore(world.settings, tmp_path / "kept")
    assert (rows(world.db), blobs(world.settings)) == before
    LocalStore(empty.store_dir).put_stream(world.scope.project_id, [b"somebody's"], max_bytes=99)
    with pytest.raises(BackupError, match="store is not empty"):
        restore(empty, tmp_path / "kept")
    with pytest.raises(BackupError, match="own store"):
        back_up(world.settings, world.settings.data_dir)


def test_what_an_old_database_has_left_is_not_read_into_the_new_one(tmp_path: Path, sqlite_url: str) -> None:
    """SQLite would replay a log that lies beside its file, whoever wrote it."""
    back_up(Settings(data_dir=tmp_path / "old", database_url=sqlite_url), tmp_path / "kept")
    new = Settings(data_dir=tmp_path / "new")
    new.data_dir.mkdir()
    (new.data_dir / "ladapress.db-wal").write_bytes(b"what was not yet written")
    with pytest.raises(BackupError, match="-wal is there"):
        restore(new, tmp_path / "kept")


def test_what_is_interrupted_spoils_nothing_and_can_be_run_again(
    world: World, empty: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup leaves the earlier one as it was; a restore leaves no database."""

    def broken(*_: object, **_named: object) -> None:
        raise OSError("the cable was pulled")

    kept = tmp_path / "kept"
    kept.mkdir(mode=0o755)
    finished(world)
    back_up(world.settings, kept)
    files = {path: path.read_bytes() for path in kept.iterdir() if path.is_file()}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    before = rows(world.db)
    finished(world)
    with monkeypatch.context() as patch:
        patch.setattr(backup.json, "dumps", broken)
        with pytest.raises(OSError, match="cable"):
            back_up(world.settings, kept)
    assert (kept / "backup.json").read_bytes() == files[kept / "backup.json"]
    assert not list(kept.glob("*.part"))
    back_up(world.settings, kept)
    with monkeypatch.context() as patch:
        patch.setattr(backup, "_postgresql", broken)
        patch.setattr(backup, "upgrade", broken)
        with pytest.raises(OSError, match="cable"):
            restore(empty, kept)
    assert restore(empty, kept).whole
    database = connect(empty)
    assert rows(database) == rows(world.db) != before
    database.dispose()


def test_rot_is_found_where_it_lies(world: World, tmp_path: Path) -> None:
    """In the backup it is mended from the store; what the store has lost is told at once, not at the restore."""
    finished(world)
    back_up(world.settings, tmp_path / "kept")
    kept = LocalStore(tmp_path / "kept" / "store")
    project, sha256 = next(iter(kept.blobs()))
    kept.path(project, sha256).chmod(0o640)
    kept.path(project, sha256).write_bytes(b"rot")
    assert back_up(world.settings, tmp_path / "kept").files == 1
    assert kept.open(project, sha256).read() == blobs(world.settings)[project, sha256]
    LocalStore(world.settings.store_dir).delete(project, sha256)
    assert back_up(world.settings, tmp_path / "kept").whole  # the backup still has it
    assert back_up(world.settings, tmp_path / "fresh").missing == [sha256]


def test_damage_is_named_on_both_ways(world: World, empty: Settings, tmp_path: Path) -> None:
    """A blob whose bytes are not its name's is left out of the backup; one that rows miss is told after the restore."""
    finished(world)
    (project, sha256), *_ = [one for one, data in blobs(world.settings).items() if len(data) > 1000]
    path = LocalStore(world.settings.store_dir).path(project, sha256)
    path.chmod(0o640)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    copied = back_up(world.settings, tmp_path / "kept")
    assert copied.damaged == [sha256]
    assert restore(empty, tmp_path / "kept").missing == [sha256]


def test_what_is_no_backup_is_refused(world: World, empty: Settings, tmp_path: Path) -> None:
    """No folder, one that was not finished, and one of the other kind of database."""
    with pytest.raises(BackupError, match="no whole backup"):
        restore(empty, tmp_path / "nothing")
    back_up(world.settings, tmp_path / "kept")
    about = tmp_path / "kept" / "backup.json"
    text = about.read_text()
    about.unlink()
    with pytest.raises(BackupError, match="no whole backup"):
        restore(empty, tmp_path / "kept")
    about.write_text(text.replace('"revision": "', '"revision": "9'))
    with pytest.raises(BackupError, match="newer version"):
        restore(empty, tmp_path / "kept")
    kind = world.db.engine.dialect.name
    about.write_text(text.replace(kind, "other"))
    with pytest.raises(BackupError, match="the backup is of other"):
        restore(empty, tmp_path / "kept")


def test_commands_say_what_was_copied_and_what_was_not(
    world: World, empty: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are never in it; a refusal is one line and exit code 1."""
    finished(world)
    app = Typer()
    app.command()(cli.backup)
    app.command()(cli.restore)

    def run(settings: Settings, *arguments: str) -> tuple[int, str]:
        for name, value in settings.environment().items():
            monkeypatch.setenv(name, value)
        ended = CliRunner().invoke(app, list(arguments))
        return ended.exit_code, ended.output

    code, text = run(world.settings, "backup", str(tmp_path / "kept"))
    assert code == 0
    assert "files copied" in text
    assert "signing-key.pem" in text
    code, text = run(world.settings, "restore", str(tmp_path / "kept"))
    assert (code, text.count("\n")) == (1, 1)
    code, text = run(empty, "restore", str(tmp_path / "kept"))
    assert code == 0, text
    assert "webhook-key is not there" in text
