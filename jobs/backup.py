"""A backup: every file of the store, the database, and the files that came meanwhile; and the way back.

Files before, for what a row names now may be let go in the next minute; files after, for the rows that came meanwhile;
and what rows name and the copy lacks all the same is told. SQLite is copied by its own online backup, PostgreSQL by
pg_dump. Files are named by their sha256, which is checked on both ways and where they lie, so that a backup into the
same folder copies what is new or was damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, inspect, make_url, select

from jobs.db import Database, connect, migrations, revision, upgrade
from jobs.garbage import referenced
from jobs.local_store import LocalStore
from jobs.problem import Refused
from jobs.settings import Settings
from jobs.store import Store, pieces
from jobs.stores import open_store
from jobs.tables import Project

ABOUT = "backup.json"
FILES = {"sqlite": "database.sqlite", "postgresql": "database.dump"}
STORE = "store"


class BackupError(RuntimeError):
    """It cannot be made, or brought back, as it was asked for; the message says why, and nothing was changed."""


@dataclass
class Copied:
    """Files of one run. `damaged`: those whose bytes are not what their names say; `missing`: wanted, not there."""

    files: int = 0
    bytes: int = 0
    there: int = 0
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, other: Copied) -> None:
        """Count another run in."""
        self.files, self.bytes, self.there = (
            self.files + other.files,
            self.bytes + other.bytes,
            self.there + other.there,
        )
        self.damaged += [one for one in other.damaged if one not in self.damaged]

    @property
    def whole(self) -> bool:
        return not self.damaged and not self.missing


def back_up(settings: Settings, folder: Path) -> Copied:
    """Copy everything into a folder, which may hold an earlier backup of the same service. The service may run.

    The earlier one is replaced when the new one is whole on disk, not before.

    Raises:
        BackupError: no database; the folder is the service's own; pg_dump is absent or failed.
        OSError: the folder cannot be written.
    """
    store, kept = open_store(settings), LocalStore(folder / STORE)
    if store.root.resolve() == kept.root.resolve():
        raise BackupError(f"{kept.root} is the service's own store; name another folder")
    url = make_url(settings.database_url)
    kind = url.get_backend_name()
    if kind == "sqlite" and not Path(url.database or "").exists():
        raise BackupError(f"there is no database at {url.database}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    first = _copy(store, kept)  # before the dump: what rows name then may be let go in the next minute
    database = connect(settings)
    try:
        wanted = _wanted(database)
        with database.engine.connect() as connection:
            at = revision(connection)
    finally:
        database.dispose()
    with _draft(folder / FILES[kind]) as part:
        if kind == "sqlite":
            with closing(sqlite3.connect(str(url.database))) as live, closing(sqlite3.connect(part)) as copy:
                live.backup(copy)
        else:
            _postgresql("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={part}")
        copied = _copy(store, kept, check=False)  # what came since
        copied.add(first)
        copied.missing = sorted(sha256 for _, sha256 in wanted - set(kept.blobs()))
    about = {"format": 1, "database": kind, "revision": at, "made_at": time.time(), **asdict(copied)}
    with _draft(folder / ABOUT) as part:
        part.write_text(json.dumps(about, indent=1))
    return copied


def restore(settings: Settings, folder: Path) -> Copied:
    """Bring a backup back into a service that is empty and does not run. The schema goes to this version's newest.

    Files come first, the database last, so that one that was interrupted can be run again.

    Raises:
        BackupError: no backup, one of the other kind of database or of a newer version, a service that is not empty,
            or pg_restore failed.
    """
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
    except (OSError, ValueError):
        raise BackupError(f"{folder} holds no whole backup ({ABOUT} is missing or unreadable)") from None
    url = make_url(settings.database_url)
    kind = url.get_backend_name()
    if about["database"] != kind:
        raise BackupError(f"the backup is of {about['database']}, LADAPRESS_DATABASE_URL names {kind}")
    if about["revision"] not in migrations():
        raise BackupError("the backup was made by a newer version of ladapress; restore it with that one")
    store, kept = open_store(settings), LocalStore(folder / STORE)
    _need_empty(settings, store, kept)
    copied = _copy(kept, store)
    if kind == "sqlite":
        target = Path(url.database or "")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _draft(target) as part:
            shutil.copyfile(folder / FILES[kind], part)
            upgrade(settings.model_copy(update={"database_url": f"sqlite:///{part}"}))
    else:
        _postgresql("pg_restore", url, "--single-transaction", "--no-owner", "--no-privileges", "--exit-on-error",
                    str(folder / FILES[kind]))  # fmt: skip
        upgrade(settings)
    database = connect(settings)
    try:
        copied.missing = sorted(sha256 for _, sha256 in _wanted(database) - set(store.blobs()))
    finally:
        database.dispose()
    return copied


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file beside, which nobody else can read and which takes the place of `path` when the block ends well."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _copy(source: Store, target: Store, *, check: bool = True) -> Copied:
    """Every blob that the target does not have whole. One that is damaged in the source is left out and named.

    Without `check` what is there is neither read nor counted: that was done a moment ago.
    """
    copied = Copied()
    have = set(target.blobs())
    for project, sha256 in source.blobs():
        if (project, sha256) in have:
            if not check:
                continue
            if _whole(target, project, sha256):
                copied.there += 1
                continue
            target.delete(project, sha256)
        try:
            with source.open(project, sha256) as file:
                blob = target.put_stream(project, pieces(file), max_bytes=1 << 62, expected_sha256=sha256)
        except FileNotFoundError:
            continue  # let go meanwhile; where a row names it, it is told as missing
        except Refused as error:
            if error.problem.code != "sha256_mismatch":
                raise
            copied.damaged.append(sha256)
            continue
        copied.files += 1
        copied.bytes += blob.size
    return copied


def _whole(store: Store, project: str, sha256: str) -> bool:
    with store.open(project, sha256) as file:
        digest = hashlib.sha256()
        for piece in pieces(file):
            digest.update(piece)
    return digest.hexdigest() == sha256


def _wanted(database: Database) -> set[tuple[str, str]]:
    """(project, sha256) of what rows name."""
    with database.readers() as s:
        projects = s.scalars(select(Project.id)).all()
        return {(project, sha256) for project in projects for sha256 in referenced(s, project)}


def _need_empty(settings: Settings, store: Store, kept: Store) -> None:
    """Files of this backup may be there: they are of a restore that was interrupted."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        left = [Path(f"{url.database}{end}") for end in ("", "-wal", "-shm", "-journal")]
        if found := [path for path in left if path.exists()]:
            raise BackupError(f"the database is not empty ({found[0]} is there); a backup goes into a new one")
    else:
        database = connect(settings)
        try:
            if inspect(database.engine).get_table_names():
                raise BackupError("the database is not empty; a backup goes into a new one")
        finally:
            database.dispose()
    if set(store.blobs()) - set(kept.blobs()):
        raise BackupError("the store is not empty; a backup goes into a new one")


def _postgresql(program: str, url: URL, *options: str) -> None:
    """Run one of PostgreSQL's own programs on a database; the password goes by environment, seen by nobody."""
    if shutil.which(program) is None:
        raise BackupError(f"{program} is not on PATH; it comes with PostgreSQL's client (postgresql-client)")
    at = url.set(drivername="postgresql+psycopg")
    _, named = at.get_dialect()().create_connect_args(at)
    password = named.pop("password", None)
    secret = {} if password is None else {"PGPASSWORD": str(password)}
    done = subprocess.run(  # noqa: S603 - one of PostgreSQL's own, named above
        [program, f"--dbname={make_conninfo(**named)}", *options],
        env={**os.environ, **secret}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BackupError(f"{program}: {done.stderr.strip()[:500]}")
