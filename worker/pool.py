"""Warm children in a fixed number of slots.

One spare child is always starting or ready, with its libraries loaded; a job takes it and the next spare starts. A
spare that dies is replaced, ever more slowly while it keeps dying: a broken installation must not burn the machine,
nor any job's attempts.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobs.settings import Settings
from worker import protocol, sandbox
from worker.engine import Kind
from worker.forge import Forge
from worker.group import Child
from worker.roster import Roster

logger = logging.getLogger(__name__)
ENGINE = (sys.executable, "-I", "-m", "worker.child")
OURS = ENGINE  # the engine that a forge has loaded; tests put another in ENGINE
WARM_WITHIN_S = 180.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


@dataclass
class Slot:
    """A reserved place with a warm child in it. Without `begin` the child stays the spare."""

    child: Child
    begun: bool = False
    wake: threading.Event = field(default_factory=threading.Event, repr=False)

    def begin(self) -> Child:
        """The child is used up from here on, and the next spare may start."""
        self.begun = True
        self.wake.set()
        return self.child


class Pool:
    """Children of one kind.

    Args:
        slots: how many may work at the same time; one spare comes on top.
        roster: where their folders lie and their groups are recorded.
        command: interpreter and program of a child; tests give another engine.
    """

    def __init__(
        self, kind: Kind, slots: int, roster: Roster, settings: Settings, command: Sequence[str] = ENGINE
    ) -> None:
        self.kind, self.slots = kind, slots
        self._roster = roster
        self._threads = settings.threads if kind == "compress" else 1
        self._forged = kind == "inspect" and tuple(command) == OURS and sys.platform == "linux"
        self._forge: Forge | None = None
        self._command = [*(() if self._forged else command), "--kind", kind]
        if kind == "inspect":
            self._command += ["--cpu-s", str(max(1, int(settings.inspect_cpu_s)))]
        memory = settings.inspect_memory_bytes if kind == "inspect" else sandbox.job_bytes(settings)
        self._command += ["--memory-bytes", str(memory)]
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._spare: Child | None = None
        self._taken: list[Slot] = []
        self._told = False
        self.files_closed = False  # known with the first warm child, as the next is
        self.devices: frozenset[str] = frozenset()
        self._spawner = threading.Thread(target=self._keep_spare, name=f"{kind}-spawner", daemon=True)

    def start(self) -> None:
        """Begin to warm the first child."""
        self._spawner.start()

    def free(self) -> bool:
        """Whether a slot is empty."""
        with self._changed:
            return len(self._taken) < self.slots

    def ready(self) -> bool:
        """Whether a warm child waits for work."""
        with self._changed:
            return self._spare is not None

    @contextmanager
    def slot(self, stop: threading.Event, *, wait: bool = True) -> Iterator[Slot | None]:
        """Reserve a slot and its warm child.

        Yields None when `stop` was set or the pool closed meanwhile, or at once if nothing is ready and not `wait`.
        A child whose slot has begun is ended and removed at the end; otherwise it goes back.
        """
        slot = self._reserve(stop, wait=wait)
        try:
            yield slot
        finally:
            if slot is not None:
                self._give_back(slot)

    def close(self) -> None:
        """End every child, those at work too."""
        self._closing.set()
        self._wake.set()
        with self._changed:
            self._changed.notify_all()
            at_work = [slot.child for slot in self._taken]
            spare, self._spare = self._spare, None
        for child in at_work:
            child.end()  # its supervisor disposes of it
        if spare is not None:
            spare.dispose()
        if self._spawner.is_alive():
            self._spawner.join(timeout=10)
        self._end_forge()

    def _reserve(self, stop: threading.Event, *, wait: bool) -> Slot | None:
        with self._changed:
            while not stop.is_set() and not self._closing.is_set():
                spare = self._spare
                if spare is not None and len(self._taken) < self.slots and spare.alive():
                    slot = Slot(spare, wake=self._wake)
                    self._spare = None
                    self._taken.append(slot)
                    return slot
                if not wait:
                    return None
                self._changed.wait(0.2)
        return None

    def _give_back(self, slot: Slot) -> None:
        with self._changed:
            self._taken.remove(slot)
            keep = not slot.begun and self._spare is None and not self._closing.is_set()
            if keep:
                self._spare = slot.child
            self._changed.notify_all()
        if not keep:
            slot.child.dispose()
        self._wake.set()

    def _keep_spare(self) -> None:
        pause_s = 0.0
        while not self._closing.wait(pause_s):
            self._wake.clear()
            with self._changed:
                undecided = any(not slot.begun for slot in self._taken)  # it may come back as the spare
                dead = self._spare if self._spare is not None and not self._spare.alive() else None
                if dead is not None:
                    self._spare = None
                missing = self._spare is None and not undecided
            if dead is not None:
                logger.warning("the spare %s child died; replacing it. Its last words: %s", self.kind, dead.log_tail())
                dead.dispose()
            if not missing:
                pause_s = 0.0
                self._wake.wait(1.0)
                continue
            child = self._spawn()
            with self._changed:
                wanted = child is not None and self._spare is None and not self._closing.is_set()
                if wanted:
                    self._spare = child
                    self._changed.notify_all()
            if child is not None and not wanted:
                child.dispose()
            pause_s = 0.0 if child is not None else min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * pause_s))

    def _spawn(self) -> Child | None:
        """Start a child and wait until it is warm. None: it never was."""
        try:
            if self._forged and self._forge is None:
                self._forge = Forge(self._roster.new_folder(), self._threads)
                self._roster.record(self._forge.pid)
            child = Child(self._command, self._roster.new_folder(), self._threads, self._forge)
        except OSError:
            logger.exception("cannot start a %s child", self.kind)
            self._end_forge()
            return None
        self._roster.record(child.pid)
        deadline = time.monotonic() + WARM_WITHIN_S
        while not self._closing.is_set() and not child.finished() and time.monotonic() < deadline:
            for event in child.read(0.2):
                if isinstance(event, protocol.Ready):
                    self._note(event)
                    return child
        if not self._closing.is_set():
            logger.error("a %s child died while it warmed up. Its last words: %s", self.kind, child.log_tail())
        child.dispose()
        return None

    def _end_forge(self) -> None:
        if self._forge is not None:
            self._forge.close()
            self._forge = None

    def _note(self, ready: protocol.Ready) -> None:
        walls = {"network": ready.network_closed, "files": ready.files_closed}
        if not self._told:
            standing = ", ".join(name for name, closed in walls.items() if closed) or "nothing"
            level = logging.INFO if all(walls.values()) else logging.WARNING
            logger.log(level, "%s children are walled off from: %s (of network, files)", self.kind, standing)
        self._told = True
        self.files_closed = ready.files_closed
        self.devices = frozenset(ready.devices)
