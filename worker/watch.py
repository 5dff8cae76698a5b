"""Waiting for a child's last line, and for every reason not to wait any longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum, auto

from worker import protocol
from worker.group import Child
from worker.link import Link

READ_S = 0.2


class End(Enum):
    """Why a child's work ended without a last line."""

    DIED = auto()  # the child is gone, or closed its pipe
    STALE = auto()  # somebody else holds the work, or the database was silent for a whole lease
    CANCELLED = auto()
    PAUSED = auto()
    DRAINED = auto()  # this worker stops by order
    TIMEOUT = auto()


def watch(
    child: Child,
    link: Link,
    draining: threading.Event,
    *,
    lease_s: float,
    runtime_s: float | None,
    keep: Callable[[protocol.Kept], None] | None = None,
) -> protocol.Last | End:
    """Read the child until its last line comes or a reason to stop does. Ends nothing itself.

    Args:
        lease_s: without an answer of the database for so long, somebody else may hold the work.
        runtime_s: wall-clock limit, or None.
        keep: called with each checkpoint that the child has written, and with what it has measured.
    """
    deadline = time.monotonic() + runtime_s if runtime_s is not None else None
    while True:
        alive = child.alive()  # before the read: what a dead child had said is still in the pipe
        events = child.read(READ_S)
        for event in events:
            if isinstance(event, protocol.Last):
                return event
            if not isinstance(event, protocol.Kept):
                link.add(event)
            elif keep is not None:
                keep(event)
        if (end := _reason(link, draining, lease_s, deadline)) is not None:
            return end
        if child.finished() or (not alive and not events):
            return End.DIED
        child.trim_log()


def _reason(link: Link, draining: threading.Event, lease_s: float, deadline: float | None) -> End | None:
    if link.lost or link.silent_s() > lease_s:
        return End.STALE
    if link.control.cancel:
        return End.CANCELLED
    if link.control.pause:
        return End.PAUSED
    if deadline is not None and time.monotonic() > deadline:
        return End.TIMEOUT
    if draining.is_set():
        return End.DRAINED
    return None
