"""What an operator wants to know before the first user does: settings, database, clock, folders, broker, keys.

Each check looks and changes nothing: no migration, no key, no file that stays. A check never raises; what cannot be
found out is told as a failure with its reason. `worker.checkup` adds what only a worker's machine can tell.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError
from pydantic_settings import SettingsError
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jobs.clock import now
from jobs.db import connect, migrations, revision
from jobs.keys import any_key, is_loopback
from jobs.problem import Refused
from jobs.registries import Registries
from jobs.settings import Settings
from jobs.signing import SigningKey
from jobs.stores import open_store
from jobs.webhooks.keyring import Keyring

Level = Literal["ok", "warn", "fail"]
PREFIX = "LADAPRESS_"
# Of clients, tests and benches, which share the prefix with the settings.
OTHERS = frozenset({"URL", "API_KEY", "KEY", "COMPLETE"})
OTHER_PREFIXES = ("TEST_", "FUZZ_", "CHAOS_", "BENCH_")
LATE_S = 1.0  # more is no rounding: the clock of one of the two machines runs wrong
ROOMY = 3  # free space, as a multiple of the largest model: its upload, its work folder, its artifact
REMOTE = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "ceph", "glusterfs", "lustre")


@dataclass(frozen=True)
class Finding:
    """What one check has found. `remedy`: what to do about it, empty where all is well."""

    check: str
    level: Level
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def settings_of(environment: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, and what is wrong with them: values that are refused, variables that nobody reads."""
    given = [name for name in environment if name.startswith(PREFIX)]
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    found = [
        Finding("settings", "warn", f"{name}: no setting has this name, so it does nothing", _nearest(name, known))
        for name in sorted(given)
        if name not in known
        and name.removeprefix(PREFIX) not in OTHERS
        and not name.removeprefix(PREFIX).startswith(OTHER_PREFIXES)
    ]
    try:
        settings = Settings()
    except ValidationError as error:
        for one in error.errors(include_input=False, include_url=False):
            variable = PREFIX + str(one["loc"][0]).upper() if one["loc"] else "settings"
            found.append(Finding("settings", "fail", f"{variable}: {one['msg']}", "docs/operations.md#settings"))
        return None, found
    except SettingsError as error:  # a list that is no JSON
        return None, [*found, Finding("settings", "fail", _first_line(error), "docs/operations.md#settings")]
    read = len([name for name in given if name in known])
    return settings, [*found, Finding("settings", "ok", f"{read} set, {len(known) - read} by default")]


def checks(settings: Settings) -> Iterator[Finding]:
    """Everything about this service that can be seen from this machine."""
    for check in (_folders, _database, _broker, _store, _secrets, _registries):
        name = check.__name__.removeprefix("_")
        try:
            yield from check(settings)
        except Exception as error:  # one that ends the checkup half-way would hide the rest
            yield Finding(name, "fail", f"{type(error).__name__}: {_first_line(error)}")


def _folders(settings: Settings) -> Iterator[Finding]:
    places = {"data_dir": settings.data_dir, "upload_dir": settings.upload_dir, "work_dir": settings.work_dir}
    parts = urlsplit(settings.store_url or settings.store_dir.as_uri())
    if parts.scheme == "file":
        places["store_dir"] = Path(unquote(parts.path))
    for name, path in places.items():
        there = _existing(path)
        if (trouble := _unwritable(there)) is not None:
            yield Finding("folders", "fail", f"{name} {path}: {trouble}", f"set {PREFIX}{name.upper()} or its rights")
            continue
        free = shutil.disk_usage(there).free
        wanted = ROOMY * settings.max_model_bytes
        text = f"{name} {path}: {_gib(free)} free"
        if free < wanted:
            remedy = f"a model may have {_gib(settings.max_model_bytes)}: lower {PREFIX}MAX_MODEL_BYTES or make room"
            yield Finding("folders", "warn", text, remedy)
        else:
            yield Finding("folders", "ok", text)
    if settings.data_dir.is_dir() and settings.data_dir.stat().st_mode & 0o077:
        others = f"other users of this machine may look into {settings.data_dir}"
        yield Finding("folders", "warn", others, f"chmod 700 {settings.data_dir}")


def _database(settings: Settings) -> Iterator[Finding]:
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        kind = _file_system(_existing(file))
        if kind.startswith(REMOTE):
            told = f"{file} lies on a network file system ({kind}), where SQLite's locks do not hold"
            yield Finding("database", "fail", told, "a local disk, or PostgreSQL")
        if not file.exists():
            yield Finding("database", "ok", f"{file} is not there yet; the first start makes it")
            yield _door(settings, keyed=False)
            return
    database = connect(settings)
    try:
        with database.readers() as s:
            version = s.scalar(text("SELECT sqlite_version()" if url.database and url.get_backend_name() == "sqlite"
                                    else "SHOW server_version"))  # fmt: skip
            yield Finding("database", "ok", f"{url.get_backend_name()} {version} answers")
            yield _revision(s.connection())
            before = time.time()
            there = now(s)
            apart = max(before - there, there - time.time(), 0.0)
            yield _door(settings, keyed=_keyed(s))
    except SQLAlchemyError as error:
        yield Finding("database", "fail", f"no answer: {_first_line(getattr(error, 'orig', None) or error)}",
                      f"is it up, and is {PREFIX}DATABASE_URL right?")  # fmt: skip
        return
    finally:
        database.dispose()
    if apart > LATE_S:
        told = f"this machine's clock and the database's are {apart:.1f} s apart"
        remedy = "keep both by NTP; leases go by the database's, tokens and signatures by this one's"
        yield Finding("clock", "fail" if apart > settings.lease_s / 2 else "warn", told, remedy)
    else:
        yield Finding("clock", "ok", "as the database's")


def _keyed(s: Session) -> bool:
    """Whether there are keys; the schema may not be there yet."""
    try:
        return any_key(s)
    except SQLAlchemyError:
        return False


def _door(settings: Settings, *, keyed: bool) -> Finding:
    """Who is let in."""
    if keyed or settings.oidc_issuer is not None:
        return Finding("door", "ok", "every request needs a key" + (" or a token" if settings.oidc_issuer else ""))
    if settings.bootstrap_key_file is not None:
        return Finding("door", "ok", f"every request will need the key in {settings.bootstrap_key_file}")
    if is_loopback(settings.host):
        return Finding("door", "ok", "no keys: people at this machine only")
    told = f"{settings.host} is open to the network and there is no key: the API will not start"
    return Finding("door", "fail", told, f"ladapress keys create NAME --scope admin, or {PREFIX}BOOTSTRAP_KEY_FILE")


def _revision(connection: Connection) -> Finding:
    known, at = migrations(), revision(connection)
    head = known[0]
    if at == head:
        return Finding("migrations", "ok", f"at {head}, the newest")
    if at is None:
        return Finding("migrations", "ok", "no schema yet; the first start makes it")
    if at in known:
        return Finding("migrations", "warn", f"at {at}, the newest is {head}", "the next start of the API goes there")
    return Finding("migrations", "fail", f"at {at}, which this version does not know", "start the newer version")


def _broker(settings: Settings) -> Iterator[Finding]:
    if settings.broker_url is None:
        yield Finding("broker", "ok", "none: workers look at the table")
        return
    client = Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=5)
    try:
        begun = time.perf_counter()
        client.ping()
        took = 1e3 * (time.perf_counter() - begun)
        told = client.info()
        yield Finding("broker", "ok", f"Redis {told['redis_version']} answers in {took:.1f} ms")
        policy = str(told.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction" and int(told.get("maxmemory", 0)):
            yield Finding(
                "broker", "warn", f"Redis drops keys when it is full ({policy})", "maxmemory-policy noeviction"
            )
    except RedisError as error:
        remedy = f"jobs start all the same, within {settings.poll_s:g} s; is {PREFIX}BROKER_URL right?"
        yield Finding("broker", "warn", f"no answer: {_first_line(error)}", remedy)
    finally:
        client.close()


def _store(settings: Settings) -> Iterator[Finding]:
    if settings.store_url is None or settings.store_url.startswith("file:"):
        return  # a folder, looked at above
    try:
        open_store(settings).check()
    except Refused as error:
        yield Finding("store", "fail", f"{settings.store_url}: {error.problem.detail}", "docs/stores.md")
    else:
        yield Finding("store", "ok", f"{settings.store_url} answers to these credentials")


def _secrets(settings: Settings) -> Iterator[Finding]:
    loaders: dict[str, Callable[[Path], object]] = {
        "signing_key_file": SigningKey.load,
        "webhook_key_file": Keyring.load,
    }
    for name, load in loaders.items():
        path: Path = getattr(settings, name)
        if not path.exists():
            yield Finding("secrets", "ok", f"{name} {path}: not there yet; made when it is needed")
            continue
        try:
            load(path)
        except (OSError, ValueError) as error:
            yield Finding(
                "secrets", "fail", f"{name} {path}: {_first_line(error)}", "bring it back from where you keep it"
            )
            continue
        if path.stat().st_mode & 0o077:
            yield Finding("secrets", "warn", f"{name} {path} can be read by others", f"chmod 600 {path}")
        else:
            yield Finding("secrets", "ok", f"{name} {path}: can be read, by its owner alone")


def _registries(settings: Settings) -> Iterator[Finding]:
    if settings.registries_file is None:
        return
    try:
        Registries.load(settings)
    except (OSError, ValueError) as error:
        yield Finding("registries", "fail", _first_line(error), "docs/operations.md#registries")
    else:
        yield Finding("registries", "ok", f"{settings.registries_file} can be read")


def _unwritable(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return None


def _existing(path: Path) -> Path:
    """The path, or the nearest one above it that is there; a file where a folder is wanted stays one."""
    return next(one for one in (path, *path.parents) if one.exists())


def _file_system(path: Path) -> str:
    """Its kind, as the kernel names it; empty where that cannot be told."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    above = {str(one) for one in (path, *path.parents)}
    return max(
        ((where, kind) for where, kind in mounts if where in above), key=lambda one: len(one[0]), default=("", "")
    )[1]


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.8)
    return f"did you mean {near[0]}?" if near else "docs/operations.md#settings lists them"


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
