"""Processes that are killed and started again, as a supervisor of the operator's would."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

START = Path(__file__).with_name("start.py")
GONE_S = 2.0  # after which no process of a worker that died is alive


class Crew:
    """So many workers of one service, each a process with those below it. `environment` marks all of them.

    `clocks`: by how many seconds each machine's clock is wrong, in turns.
    """

    def __init__(
        self, count: int, environment: Mapping[str, str], log: Path | None = None, clocks: Sequence[float] = (0.0,)
    ) -> None:
        self._environment = {**os.environ, **environment}
        self._log = log or Path(os.devnull)
        self._clocks = [clocks[number % len(clocks)] for number in range(count)]
        self._members = [self._start(clock) for clock in self._clocks]

    def _start(self, clock: float) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(START)], env={**self._environment, "CHAOS_CLOCK": str(clock)},
                start_new_session=True, stdout=log, stderr=log,
            )  # fmt: skip

    def tend(self) -> None:
        """Start again what has died."""
        members = zip(self._members, self._clocks, strict=True)
        self._members = [one if one.poll() is None else self._start(clock) for one, clock in members]

    def kill_one(self, rng: random.Random) -> None:
        """SIGKILL to one process that works for the service: a worker, or one of a worker's two Celery processes."""
        worker = rng.choice(self._members).pid
        victim = rng.choice([worker, *(pid for pid in children(worker) if b"--node" in command(pid))])
        self._signal(victim, signal.SIGKILL)

    def pause_one(self, rng: random.Random, seconds: float) -> None:
        """SIGSTOP to one that takes jobs, and SIGCONT after so many seconds; its child works on."""
        worker = rng.choice(self._members).pid
        nodes = [pid for pid in children(worker) if b"job" in command(pid).split(b"\0")]
        victim = nodes[0] if nodes else worker
        self._signal(victim, signal.SIGSTOP)
        threading.Timer(seconds, self._signal, (victim, signal.SIGCONT)).start()

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def leave(self) -> list[int]:
        """SIGTERM to all, also to who sleeps. Exit codes."""
        for one in self._members:
            for pid in (one.pid, *children(one.pid)):
                self._signal(pid, signal.SIGCONT)
            one.terminate()
        return [one.wait(60) for one in self._members]


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def below(pid: int) -> list[int]:
    """All that this process has started, and they have, and so on."""
    return [one for child in children(pid) for one in (child, *below(child))]


def command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def marked(word: str) -> dict[int, str]:
    """Living processes in whose environment the word stands, this one left out: what each of them is, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if word.encode() in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                state, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z":
                    said = command(int(entry.name)).replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry.name)] = (
                        f"{entry.name} of group {group} is alive ({state}), parent {parent}: {said}"
                    )
    return found


def left(word: str, within_s: float = GONE_S) -> list[str]:
    """Who of these lives on past the time in which all are promised to end."""
    ends = time.monotonic() + within_s
    while (found := marked(word)) and time.monotonic() < ends:
        time.sleep(0.05)
    return list(found.values())
