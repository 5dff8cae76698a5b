"""A backup: the database first, then every file of the store; and the way back into an empty service.

In that order, since a row never names a file that the store did not have before, and the store keeps bytes for hours
after the last row let them go (`jobs.garbage`). SQLite is copied by its own online backup, PostgreSQL by pg_dump. Files
are named by their sha256, which is checked on both ways, so a backup into the same folder copies what is new.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL, inspect, make_url, select

from jobs.db import Database, connect, upgrade
from jobs.garbage import referenced
from jobs.local_store import LocalStore
from jobs.problem import Refused
from jobs.settings import Settings
from jobs.store import CHUNK, Store
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

    @property
    def whole(self) -> bool:
        return not self.damaged and not self.missing


def back_up(settings: Settings, folder: Path) -> Copied:
    """Copy everything into a folder, which may hold an earlier backup of the same service. The service may run.

    Raises:
        BackupError: no database; pg_dump is absent or failed.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    url = make_url(settings.database_url)
    kind = url.get_backend_name()
    file = folder / FILES[kind]
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    if kind == "sqlite":
        _dump_sqlite(Path(url.database or ""), part)
    else:
        _postgresql("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={part}")
    part.chmod(0o600)
    part.replace(file)
    copied = _copy(open_store(settings), LocalStore(folder / STORE))
    about = {"format": 1, "database": kind, "made_at": time.time(), **asdict(copied)}
    (folder / ABOUT).write_text(json.dumps(about, indent=1))
    return copied


def restore(settings: Settings, folder: Path) -> Copied:
    """Bring a backup back into a service that is empty and does not run. The schema goes to this version's newest.

    Raises:
        BackupError: no backup, one of the other kind of database, a service that is not empty, or pg_restore failed.
    """
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
    except (OSError, ValueError):
        raise BackupError(f"{folder} holds no whole backup ({ABOUT} is missing or unreadable)") from None
    url = make_url(settings.database_url)
    kind = url.get_backend_name()
    if about["database"] != kind:
        raise BackupError(f"the backup is of {about['database']}, LADAPRESS_DATABASE_URL names {kind}")
    store = open_store(settings)
    _need_empty(settings, store)
    if kind == "sqlite":
        target = Path(url.database or "")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(folder / FILES[kind], target)
        target.chmod(0o600)
    else:
        _postgresql("pg_restore", url, "--single-transaction", "--no-owner", "--no-privileges",
                    "--exit-on-error", f"--dbname={url.database}", str(folder / FILES[kind]))  # fmt: skip
    upgrade(settings)
    copied = _copy(LocalStore(folder / STORE), store)
    database = connect(settings)
    try:
        copied.missing = _missing(database, store)
    finally:
        database.dispose()
    return copied


def _copy(source: Store, target: Store) -> Copied:
    """Every blob that the target does not have. One that is damaged is left out and named."""
    copied = Copied()
    have = set(target.blobs())
    for project, sha256 in source.blobs():
        if (project, sha256) in have:
            copied.there += 1
            continue
        try:
            with source.open(project, sha256) as file:
                chunks = iter(lambda file=file: file.read(CHUNK), b"")  # type: ignore[misc]
                blob = target.put_stream(project, chunks, max_bytes=1 << 62, expected_sha256=sha256)
        except FileNotFoundError:
            continue  # swept meanwhile: no row has named it for hours
        except Refused as error:
            if error.problem.code != "sha256_mismatch":
                raise
            copied.damaged.append(sha256)
            continue
        copied.files += 1
        copied.bytes += blob.size
    return copied


def _missing(database: Database, store: Store) -> list[str]:
    """What rows name and the store does not have."""
    have = set(store.blobs())
    with database.readers() as s:
        projects = s.scalars(select(Project.id)).all()
        wanted = {(project, sha256) for project in projects for sha256 in referenced(s, project)}
    return sorted(sha256 for project, sha256 in wanted - have)


def _need_empty(settings: Settings, store: Store) -> None:
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        filled = Path(url.database or "").exists()
    else:
        database = connect(settings)
        try:
            filled = bool(inspect(database.engine).get_table_names())
        finally:
            database.dispose()
    if filled:
        raise BackupError("the database is not empty; a backup goes into a new one")
    if next(iter(store.blobs()), None) is not None:
        raise BackupError("the store is not empty; a backup goes into a new one")


def _dump_sqlite(source: Path, target: Path) -> None:
    if not source.exists():
        raise BackupError(f"there is no database at {source}")
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def _postgresql(program: str, url: URL, *options: str) -> None:
    """Run one of PostgreSQL's own programs against a database; the password goes by environment, seen by nobody."""
    if shutil.which(program) is None:
        raise BackupError(f"{program} is not on PATH; it comes with PostgreSQL's client (postgresql-client)")
    named = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password}
    given = {name: str(value) for name, value in (*named.items(), ("PGDATABASE", url.database)) if value is not None}
    query = {
        f"PG{name.upper()}": str(value) for name, value in url.query.items() if name in ("sslmode", "host", "port")
    }
    done = subprocess.run(  # noqa: S603 - one of PostgreSQL's own, named above
        [program, *options], env={**os.environ, **given, **query}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BackupError(f"{program}: {done.stderr.strip()[:500]}")
