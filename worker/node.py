"""One worker process: its database, store, pools of children, and the threads that keep it going without a broker."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from jobs import expiry, service, traces
from jobs.db import connect
from jobs.garbage import EVERY_S, sweep
from jobs.queue import Kind, announce
from jobs.settings import Settings
from jobs.signing import SigningKey
from jobs.stores import open_store
from worker import pool, roster
from worker.engine_id import engine_id
from worker.inspections import inspect_one
from worker.supervisor import run_one
from worker.webhooks import Deliverer

logger = logging.getLogger(__name__)
OUTAGE_PAUSE_S = 1.0
SAY_EVERY_S = 20.0  # that this worker lives, and for which devices
EXPIRED_PER_TICK = 40  # of each kind; the rest goes with the next tick
JOIN_S = 25.0  # a drain ends within half a minute


class Node:
    """Everything that a run needs, and `close` for all of it.

    Args:
        kinds: the work that this process takes: "job" on the device slots, "inspection" on the interactive one.
        engine: command of a child; tests give another engine.
    """

    def __init__(self, settings: Settings, kinds: Sequence[Kind], engine: Sequence[str] = pool.ENGINE) -> None:
        self.settings = settings
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.db = connect(settings)
        self.store = open_store(settings)
        self.draining = threading.Event()
        self.engine_id = engine_id(settings.threads) if "job" in kinds else None  # reads all of core
        roster.sweep(settings.work_dir)
        self._roster = roster.Roster(settings.work_dir)
        self._threads: list[threading.Thread] = []
        self._pools: dict[Kind, pool.Pool] = {}
        if "job" in kinds:
            # Now, not after the first hour of work.
            self._signing_key = SigningKey.load_or_create(settings.signing_key_file)
            self._pools["job"] = pool.Pool("compress", settings.device_slots, self._roster, settings, engine)
        if "inspection" in kinds:
            self._pools["inspection"] = pool.Pool("inspect", 1, self._roster, settings, engine)
        self._deliverer = Deliverer(settings, self.db) if settings.webhooks and "inspection" in kinds else None

    def start(self) -> None:
        """Warm the first children, start the reconciler, the sweep of the store and what delivers webhooks."""
        for each in self._pools.values():
            each.start()
        self._thread("reconciler", self._reconcile)
        self._thread("sweeper", self._sweep)
        if self._deliverer is not None:
            self._thread("webhooks", partial(self._deliverer.run, self.draining))

    def run(self, kind: Kind, *, wait: bool = True) -> bool:
        """Run one piece of work, if there is any; whether there was. Outages are logged, never raised."""
        try:
            if kind == "job":
                return run_one(self, self._pools[kind], wait=wait)
            return inspect_one(self, self._pools[kind], wait=wait)
        except SQLAlchemyError as error:
            logger.warning("no %s could be claimed, the database does not answer: %s", kind, type(error).__name__)
        except Exception:
            logger.exception("no %s could be claimed", kind)
        self.draining.wait(OUTAGE_PAUSE_S)
        return False

    def poll(self, pause_s: float, *, wait: bool) -> None:
        """Look at the table by itself from now on, a thread for each slot.

        Args:
            pause_s: between two looks that found nothing; a fifth more or less, so that nodes do not march in step.
            wait: hold out for a slot (this is the only taker), or leave it to whoever has the slots.
        """
        for kind, each in self._pools.items():
            for number in range(each.slots):
                self._thread(f"{kind}-{number}", self._poller(kind, pause_s, wait=wait))

    def signing_key(self) -> SigningKey:
        """The key in the file at this moment, so that a rotation needs no restart; where it cannot be read, the last
        one that could."""
        try:
            self._signing_key = SigningKey.load(self.settings.signing_key_file)
        except (OSError, ValueError) as error:
            logger.error("the signing key cannot be read, the one read before is used: %s", error)  # noqa: TRY400
        return self._signing_key

    def drain(self) -> None:
        """Take nothing more; running jobs go back to the queue without burning an attempt. Returns at once."""
        self.draining.set()

    def close(self) -> None:
        """Drain, wait for the runs to be written down, end every child."""
        self.drain()
        for thread in self._threads:
            thread.join(JOIN_S)
        for each in self._pools.values():
            each.close()
        self._roster.close()
        self.db.dispose()
        traces.flush()  # a node's process does not come back from here

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _poller(self, kind: Kind, pause_s: float, *, wait: bool) -> Callable[[], None]:
        def loop() -> None:
            while not self.draining.is_set():
                if not self.run(kind, wait=wait):
                    self.draining.wait(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

        return loop

    def _reconcile(self) -> None:
        told = -SAY_EVERY_S
        while not self.draining.wait(self.settings.tick_s):
            try:
                with self.db.sessions.begin() as s:
                    hints = service.reconcile(s, self.settings)
                    if (devices := self._devices()) and time.monotonic() - told >= SAY_EVERY_S:
                        service.seen(s, self.name, devices, self.engine_id)
                        told = time.monotonic()
                for hint in hints:
                    announce(self.settings, hint.kind)
                self._expire()
            except SQLAlchemyError as error:
                logger.warning("the reconciler skips a tick, the database does not answer: %s", type(error).__name__)
            except Exception:
                logger.exception("the reconciler skips a tick")

    def _expire(self) -> None:
        with self.db.readers() as s:
            due = expiry.due(s, EXPIRED_PER_TICK)
        for one in due:
            with self.db.sessions.begin() as s:
                expiry.let_go(s, one)

    def _devices(self) -> frozenset[str]:
        """What this worker serves; empty until its first child is warm, and where it takes no jobs."""
        jobs = self._pools.get("job")
        return jobs.devices if jobs is not None else frozenset()

    def _forgotten(self) -> int:
        with self.db.sessions.begin() as s:
            return expiry.forget_chatter(s, self.settings.keep_chatter_s)

    def _sweep(self) -> None:
        while True:
            try:
                with self.db.readers() as s:
                    sweep(s, self.store)
                while self._forgotten():
                    pass
            except SQLAlchemyError as error:
                logger.warning("the store is not swept, the database does not answer: %s", type(error).__name__)
            except Exception:
                logger.exception("the store is not swept this time")
            if self.draining.wait(EVERY_S):
                return
