"""`ladapress up`: the service on this machine, as two processes that are started by module name and restarted.

The api and the worker are processes of their own because they fail in different ways: a run that takes the worker down
leaves the api answering. Neither is imported here, so this process stays small and has nothing of its own to lose.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from jobs.settings import Settings

MODULES = ("api", "worker")
LOOK_S = 0.1  # pause between two looks at the processes
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
STEADY_S = 30.0  # a process that lived so long may fail again from the shortest delay
EARLY_DEATHS = 3  # so many before the service ever answered: it is not going to
STOP_GRACE_S = 45.0  # the worker hands its jobs back and ends their processes, which takes it up to 40 s
PR_SET_PDEATHSIG = 1


def command(
    host: Annotated[str | None, typer.Option(help="Address to bind. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to bind. [default: 8642]")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Home of all data. [default: ladapress-data]")] = None,
) -> None:
    """Start the service on this machine: api and worker, until Ctrl-C. LADAPRESS_* variables set the rest."""
    from sqlalchemy.exc import OperationalError

    from jobs.db import upgrade  # half a second that `ladapress --help` does not need

    if missing := [name for name in ("torch", "transformers", "onnxruntime") if find_spec(name) is None]:
        say(f"the worker needs {', '.join(missing)}: install ladapress-server with its extra `worker`")
        raise typer.Exit(2)
    given = {"host": host, "port": port, "data_dir": data_dir}
    settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
    if (refusal := taken(settings)) is not None:
        say(refusal)
        raise typer.Exit(1)
    try:
        upgrade(settings)
    except OperationalError as error:
        say(f"cannot open the database: {error.orig}")
        raise typer.Exit(1) from None
    environment = {
        **os.environ,
        "LADAPRESS_HOST": settings.host,
        "LADAPRESS_PORT": str(settings.port),
        "LADAPRESS_DATA_DIR": str(settings.data_dir),
    }
    services = [Service(module, environment) for module in MODULES]
    raise typer.Exit(keep_running(services, base_url(settings), settings.data_dir))


@dataclass
class Service:
    """One process, started anew with growing pauses whenever it ends."""

    module: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0  # in a row, none of them after STEADY_S
    due: float = 0.0  # monotonic seconds: not started before
    started: float = field(default=0.0)

    def look(self) -> None:
        """Start the process where it is due; notice where it has ended."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.due:
                self.started = now
                self.process = start(self.module, self.environment)
            return
        status = self.process.poll()
        if status is None:
            return
        end_group(self.process.pid, signal.SIGKILL)  # what the process may have left in its group
        self.process = None
        self.deaths = 1 if now - self.started > STEADY_S else self.deaths + 1
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (self.deaths - 1))
        self.due = now + delay
        say(f"{self.module} {how_it_ended(status)}; starting it again in {delay:g} s")


def keep_running(services: list[Service], url: str, data_dir: Path) -> int:
    """Run until a signal. Returns the exit code: 0 after a signal, 1 where the service never came up."""
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda received, _frame: signals.append(received))
    ready, code = False, 0
    try:
        while not signals:
            for service in services:
                service.look()
            if not ready and answers(url):
                ready = True
                print(f"ladapress is ready: {url} (data in {data_dir})", flush=True)
            if not ready and any(service.deaths >= EARLY_DEATHS for service in services):
                say("giving up: it never answered; the lines above say why")
                code = 1
                break
            time.sleep(LOOK_S)
    finally:
        stop(services, impatient=lambda: len(signals) > 1)
    return code


def start(module: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """`python -m module` in a session and process group of its own; it is killed when this process dies."""
    return subprocess.Popen(  # noqa: S603  # our own modules
        [sys.executable, "-m", module],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509  # this process has one thread
    )


def stop(services: list[Service], impatient: Callable[[], bool] = lambda: False) -> None:
    """TERM to every group, time to hand work back, KILL. Afterwards none of the groups has a process."""
    alive = [service.process for service in services if service.process is not None]
    if alive:
        say("stopping")
    for process in alive:
        end_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_GRACE_S
    while any(process.poll() is None for process in alive) and time.monotonic() < deadline and not impatient():
        time.sleep(LOOK_S / 2)
    for process in alive:
        end_group(process.pid, signal.SIGKILL)
        process.wait()


def end_group(group: int, number: int) -> None:
    """Signal a process group, which may have gone already."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def answers(url: str) -> bool:
    """Whether the service says that it is ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy to this machine
    try:
        with opener.open(f"{url}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def base_url(settings: Settings) -> str:
    """Where this machine reaches the service: an address that means "all of them" is replaced by loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # read, not bound
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def taken(settings: Settings) -> str | None:
    """Why the address cannot be bound, said once instead of by an api that dies again and again; None where it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return f"cannot listen at {settings.host}:{settings.port}: {error.strerror}; choose another --host or --port"
    return None


def how_it_ended(status: int) -> str:
    """A process' exit status in words."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def say(line: str) -> None:
    """One line for the person at the terminal, beside the logs of both processes."""
    print(f"up: {line}", file=sys.stderr, flush=True)


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the service, so that even kill -9 of this process leaves nothing behind.

    KILL, not TERM: nobody would be left to insist. The worker's own children end when their standard input closes.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()  # loaded before the fork

    def before_exec() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between the fork and the line above
            os._exit(1)

    return before_exec
