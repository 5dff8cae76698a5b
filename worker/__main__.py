"""`python -m worker`: everything that one machine needs to run jobs.

Without a broker, one process that looks at the table. With one, two Celery processes, restarted when they die: one
for the device slots, one for the interactive slot, so that inspections stay quick while jobs run; and a plain one that
pushes, where registries are named. SIGTERM drains.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Literal

from jobs import logs, traces
from jobs.db import upgrade
from jobs.queue import Kind, queue_name
from jobs.registries import Registries
from jobs.settings import Settings
from worker import embedded, kernel, pushes, webhooks

logger = logging.getLogger("worker")
DRAIN_S = 40.0
_SHORTEST_LIFE_S = 5.0  # a node that died younger than this is restarted with a pause
COMMAND = (sys.executable, "-m", "worker")
NodeKind = Kind | Literal["push"]


def main(arguments: Sequence[str] | None = None, command: Sequence[str] = COMMAND) -> int:
    """Run until SIGTERM. Returns the exit status.

    Args:
        command: how to start this program again for a node; tests start one of theirs.
    """
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("push", "webhooks"), help="take no jobs, only push artifacts or deliver")
    parser.add_argument("--node", choices=("job", "inspection", "push"), help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = Settings()
    logs.configure(
        "worker",
        form=settings.log_format,
        level=settings.log_level,
        secrets=logs.passwords(settings.database_url, settings.broker_url),
    )
    if options.node is not None or settings.broker_url is None:
        traces.configure("worker")
    if options.node is not None:
        return _node(settings, options.node, options.parent)
    Registries.load(settings)  # an operator's slip is told now, by this process
    upgrade(settings)
    if options.only is not None:
        (pushes if options.only == "push" else webhooks).run(settings)
        return 0
    if settings.broker_url is None:
        embedded.run(settings)
        return 0
    return _Nodes(command, pushing=settings.registries_file is not None).run()


def _node(settings: Settings, kind: NodeKind, parent: int) -> int:
    """One Celery process, or the one that pushes. It drains when its parent dies, however that happens."""
    kernel.die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    if kind == "push":
        pushes.run(settings)
        return 0
    from worker.app import app, close

    def leave() -> None:
        close()
        os._exit(0)

    # Until Celery, which starts after our own threads, sets its handler. In a thread: an exception that is raised
    # into the middle of Celery's start may be swallowed there.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
    slots = settings.device_slots if kind == "job" else 1
    what = ("--pool=threads", f"--concurrency={slots}", f"--queues={queue_name(settings, kind)}")
    who = (f"--hostname={kind}-{os.getpid()}@%h", "--loglevel=INFO")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    try:
        app.worker_main(["worker", *what, *who, *quiet])
    finally:
        close()
    return 0


class _Nodes:
    """Keeps one process of each kind running."""

    def __init__(self, command: Sequence[str], *, pushing: bool) -> None:
        self._command = command
        self._kinds: tuple[NodeKind, ...] = ("job", "inspection", "push") if pushing else ("job", "inspection")
        self._stop = threading.Event()
        self._running: dict[NodeKind, tuple[subprocess.Popen[bytes], float]] = {}

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        for kind in self._kinds:
            self._start(kind)
        while not self._stop.wait(0.2):
            for kind, (process, since) in list(self._running.items()):
                if process.poll() is not None:
                    logger.error("the %s node ended with %d; starting it again", kind, process.returncode)
                    self._stop.wait(1.0 if time.monotonic() - since < _SHORTEST_LIFE_S else 0.0)
                    self._start(kind)
        return self._end()

    def _start(self, kind: NodeKind) -> None:
        # A session of its own: Ctrl-C reaches this process alone, which drains the nodes.
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*self._command, "--node", kind, "--parent", str(os.getpid())], start_new_session=True
        )
        self._running[kind] = (process, time.monotonic())

    def _end(self) -> int:
        for process, _ in self._running.values():
            process.terminate()
        deadline = time.monotonic() + DRAIN_S
        for process, _ in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()  # its children end with it
                process.wait()
        return 0


if __name__ == "__main__":
    sys.exit(main())
