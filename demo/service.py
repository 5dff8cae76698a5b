"""The service as a user would start it, for the length of a `with` block; nothing of it is left behind.

Every process runs under `guard.py`, in a folder that goes with it, so that even `kill -9` of the demo ends them.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from demo import ephemeral

START_S = 120.0  # imports alone take a minute on a machine whose disk is cold
PYTHON = sys.executable


class ServiceError(RuntimeError):
    """The service did not start; the message holds what it said."""


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without the settings of another service that may be in it, plus `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LADAPRESS_")}
    return {**kept, "HF_HUB_OFFLINE": "1", **(settings or {})}


@contextmanager
def embedded(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[str]:
    """`ladapress up`: SQLite, local files, one worker, with `more` settings. Gives the URL."""
    port = str(ephemeral.free_port())
    up = ("-m", "ladapress", "up", "--port", port, "--data-dir", str(folder / "data"))
    with _running(folder, {"up": up}, more or {}, port) as url:
        yield url


@contextmanager
def celery(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[str]:
    """PostgreSQL, Redis, the api and two Celery workers, each a process of its own. Gives the URL."""
    with ExitStack() as stack:
        database = stack.enter_context(ephemeral.database(stack.enter_context(ephemeral.postgresql())))
        broker = stack.enter_context(ephemeral.redis())
        prefix = stack.enter_context(_own_keys(broker))
        port = str(ephemeral.free_port())
        settings = {
            **(more or {}),
            "LADAPRESS_DATA_DIR": str(folder / "data"),
            "LADAPRESS_DATABASE_URL": database,
            "LADAPRESS_BROKER_URL": broker,
            "LADAPRESS_CELERY_PREFIX": prefix,
            "LADAPRESS_PORT": port,
        }
        commands = {"api": ("-m", "api"), "worker-1": ("-m", "worker"), "worker-2": ("-m", "worker")}
        yield stack.enter_context(_running(folder, commands, settings, port))


@contextmanager
def _running(
    folder: Path, commands: Mapping[str, Sequence[str]], settings: Mapping[str, str], port: str
) -> Iterator[str]:
    """Run each command until the block ends; gives the URL as soon as it is ready. Their logs are told on failure."""
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        guards = {
            name: stack.enter_context(_guarded(folder / name, arguments, settings))
            for name, arguments in commands.items()
        }
        try:
            _wait_until_ready(url, guards)
            yield url
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                for name in commands:
                    log = folder / name / "log"
                    last = log.read_text(errors="replace")[-4000:] if log.exists() else "(its log is gone)"
                    print(f"--- {name} said last:\n{last}", file=sys.stderr)
            raise


@contextmanager
def _guarded(folder: Path, arguments: Sequence[str], settings: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(parents=True)
    guard = subprocess.Popen(
        [PYTHON, "-I", Path(__file__).with_name("guard.py"), folder, "-", "-", PYTHON, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment(settings),
        start_new_session=True,
    )
    try:
        yield guard
    finally:
        guard.communicate()  # closes the pipe, which is the sign to stop, and waits


def _wait_until_ready(url: str, guards: Mapping[str, subprocess.Popen[bytes]]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy to this machine
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for name, guard in guards.items():
            if guard.poll() is not None:
                raise ServiceError(f"{name} ended with status {guard.returncode} before the service was ready")
        try:
            opener.open(f"{url}/readyz", timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise ServiceError(f"{url}/readyz was not ready within {START_S:g} s")


@contextmanager
def _own_keys(broker: str) -> Iterator[str]:
    """A random prefix for queues and keys; what holds it is removed at the end, in a Redis that may be shared."""
    from redis import Redis

    prefix = f"ladapress-demo-{secrets.token_hex(6)}-"
    try:
        yield prefix
    finally:
        with Redis.from_url(broker) as client:
            for key in client.scan_iter(match=f"*{prefix}*", count=1000):
                client.delete(key)
