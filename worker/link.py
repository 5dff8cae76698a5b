"""The thread between a run and the database: heartbeats, the user's wishes, and what the child says.

The supervisor itself never waits for the database while a child runs, so it can always end the child, also when the
database hangs. Nothing here raises: an outage shows as a growing `silent_s`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jobs.db import Database
from jobs.service import Control
from worker import protocol

logger = logging.getLogger(__name__)
TICK_S = 0.5
LOOK_EVERY_S = 1.0
MAX_WAITING = 100  # events of one write; a child that talks without end loses the surplus
Events = list[tuple[str, dict[str, Any]]]


class Link:
    """Runs from the claim to the last transaction of one piece of work.

    Args:
        renew: extends the lease in a write transaction; None = the fence is lost.
        look: the same by reading only, or None where there is nothing to look at between two heartbeats.
        record: stores events; False = the fence is lost.
        staged: hears of each stage at once, in the caller's thread.
        lease_s: heartbeats come four times in it.
    """

    def __init__(
        self,
        db: Database,
        lease_s: float,
        *,
        renew: Callable[[Session], Control | None],
        look: Callable[[Session], Control | None] | None = None,
        record: Callable[[Session, Events], bool] | None = None,
        staged: Callable[[str], None] | None = None,
    ) -> None:
        self._db, self._lease_s = db, lease_s
        self._renew, self._look, self._record, self._staged = renew, look, record, staged
        self._started = self._last_contact = self._last_renewal = self._last_look = time.monotonic()
        self._last_progress = 0.0
        self._waiting: Events = []
        self._fraction = 0.0
        self._adding = threading.Lock()
        self._stop = threading.Event()
        # The context is that of whoever works: log lines of this thread name the job.
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="link", daemon=True)
        self.lost = False  # somebody else holds the work, or it is gone
        self.control = Control(cancel=False, pause=False)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what waits and end the thread. Gives up after a lease: the database does not answer."""
        self._stop.set()
        self._thread.join(self._lease_s)

    def silent_s(self) -> float:
        """Seconds since the database last answered. A stopped process that wakes up sees how long it slept."""
        return time.monotonic() - self._last_contact

    def add(self, event: protocol.Event) -> None:
        """Pass on what the child says. Of progress and of each metric only the newest is kept until the next write."""
        kind = str(event.type)
        data = event.model_dump(exclude={"type"})
        if isinstance(event, protocol.Stage) and self._staged is not None:
            self._staged(event.stage)
        with self._adding:
            if isinstance(event, protocol.Progress):
                self._fraction = data["fraction"] = max(self._fraction, event.fraction)
                self._drop(lambda k, d: k == kind and d["stage"] == data["stage"])
            elif isinstance(event, protocol.Metric):
                self._drop(lambda k, d: k == kind and d["name"] == data["name"])
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append((kind, data))

    def _drop(self, surplus: Callable[[str, dict[str, Any]], bool]) -> None:
        self._waiting = [(kind, data) for kind, data in self._waiting if not surplus(kind, data)]

    def _run(self) -> None:
        while not self._stop.wait(TICK_S) and not self.lost:
            self._tick(last=False)
        if not self.lost:
            self._tick(last=True)

    def _tick(self, *, last: bool) -> None:
        now = time.monotonic()
        events = self._due(now, last=last)
        try:
            if events and self._record is not None:
                with self._db.sessions.begin() as s:
                    self._met(self._record(s, events))
                events = []
            if now - self._last_renewal >= self._lease_s / 4:
                with self._db.sessions.begin() as s:
                    self._obey(self._renew(s))
                self._last_renewal = now
            elif self._look is not None and now - self._last_look >= LOOK_EVERY_S:
                with self._db.readers() as s:
                    self._obey(self._look(s))
                self._last_look = now
        except SQLAlchemyError as error:
            logger.warning("the database does not answer: %s", type(error).__name__)
            with self._adding:
                self._waiting = [*events, *self._waiting][:MAX_WAITING]

    def _due(self, now: float, *, last: bool) -> Events:
        """What to write now. Progress alone is written ever more slowly: a day's run must not leave 10^5 rows."""
        pause_s = min(10.0, max(TICK_S, (now - self._started) / 200))
        with self._adding:
            only_progress = all(kind in ("progress", "metric") for kind, _ in self._waiting)
            if not last and only_progress and now - self._last_progress < pause_s:
                return []
            self._last_progress = now
            events, self._waiting = self._waiting, []
            return events

    def _obey(self, control: Control | None) -> None:
        self._met(control is not None)
        if control is not None:
            self.control = control

    def _met(self, held: bool) -> None:
        self._last_contact = time.monotonic()
        self.lost = self.lost or not held
