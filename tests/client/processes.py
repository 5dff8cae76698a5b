"""Looking at processes: who descends from whom, and who is still there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

Process = tuple[int, int]
"""Pid and start time: together they name one process, a pid alone may be given again."""


def table() -> dict[Process, int]:
    """Every process that is no zombie -> its parent's pid."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text().split(" (", 1)
        except OSError:
            continue  # it ended between the two looks
        fields = rest.rpartition(") ")[2].split()
        if fields[0] not in "ZX":
            found[int(pid), int(fields[19])] = int(fields[1])
    return found


def descendants(pid: int) -> set[Process]:
    """All processes below `pid`."""
    everyone, found, parents = table(), set(), {pid}
    while parents:
        children = {one for one, parent in everyone.items() if parent in parents} - found
        found |= children
        parents = {child for child, _ in children}
    return found


def command_of(process: Process) -> str:
    return Path(f"/proc/{process[0]}/cmdline").read_text().replace("\0", " ")


def wait_for(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Look until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.15)
