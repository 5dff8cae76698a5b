"""Who runs on this machine: each worker process has a folder below `work_dir`, locked while it lives.

The folder holds the worker's children (one folder each) and the list of their process groups. A worker that was
killed leaves it behind, unlocked; the next one to start ends what still runs and removes it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import threading
from pathlib import Path

from worker import kernel

logger = logging.getLogger(__name__)
_LOCK, _GROUPS = "lock", "groups.jsonl"


class Roster:
    """This worker process's folder.

    The lock is released by the kernel when the process ends, however it ends; children do not inherit it.
    """

    def __init__(self, work_dir: Path) -> None:
        work_dir.mkdir(parents=True, exist_ok=True)
        self.folder = work_dir / f"{os.getpid()}-{secrets.token_hex(4)}"
        hidden = work_dir / f".{self.folder.name}"  # nobody sweeps a folder between its making and its lock
        hidden.mkdir(mode=0o700)
        self._lock = os.open(hidden / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        hidden.rename(self.folder)
        self._writing = threading.Lock()

    def new_folder(self) -> Path:
        """A name for a child's folder; the child makes it."""
        return self.folder / secrets.token_hex(6)

    def record(self, pid: int) -> None:
        """Remember a process group by its leader's id and start time."""
        line = json.dumps({"pid": pid, "start": kernel.process_start(pid)})
        with self._writing, (self.folder / _GROUPS).open("a") as file:
            file.write(line + "\n")

    def close(self) -> None:
        """Remove the folder; the children have been ended."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def sweep(work_dir: Path) -> int:
    """End the groups that dead workers left behind and remove their folders. Returns how many groups were ended."""
    ended = 0
    if not work_dir.is_dir():
        return 0
    for folder in sorted(work_dir.iterdir()):
        if folder.name.startswith(".") or not (folder / _LOCK).is_file():
            continue
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its worker lives
        else:
            ended += _end_recorded(folder / _GROUPS)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
    return ended


def _end_recorded(groups: Path) -> int:
    """KILL each recorded group whose leader is still the very process that was recorded."""
    ended = 0
    for line in groups.read_text().splitlines() if groups.exists() else ():
        try:
            recorded = json.loads(line)
            pid, start = int(recorded["pid"]), int(recorded["start"])
        except (ValueError, TypeError, KeyError):
            continue  # the last line of a worker that died while it wrote, or a child that was dead already
        if kernel.process_start(pid) == start:
            logger.warning("ending process group %d, left by a worker that died", pid)
            try:
                os.killpg(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
            ended += 1
    return ended
