"""Without a broker: one process that looks at the table several times a second."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence

from jobs.settings import Settings
from worker import kernel
from worker.node import Node
from worker.pool import ENGINE
from worker.pushes import Pusher
from worker.tracks import Tracker

POLL_S = 0.25


def run(settings: Settings, engine: Sequence[str] = ENGINE) -> None:
    """Work until SIGTERM or SIGINT, then drain. For the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    kernel.become_a_worker()
    node = Node(settings, ("job", "inspection"), engine)
    node.start()
    node.poll(min(POLL_S, settings.poll_s), wait=True)
    if settings.registries_file is not None:
        Tracker(settings).start(stop)
        Pusher(settings).run(stop)
    stop.wait()
    node.close()
