"""Where measured rows lie, how they are written and read, and what code they were measured with."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

Row = dict[str, Any]

RESULTS = Path(__file__).with_name("results")


def write(path: Path, row: Row) -> None:
    """One row, one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")


def read(path: Path) -> Row:
    """A row that `write` wrote."""
    row: Row = json.loads(path.read_text(encoding="utf-8"))
    return row


def by_system(task: str) -> dict[str, list[Row]]:
    """System -> its graded rows, one a seed."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in map(read, sorted((RESULTS / task).glob("*.seed*.json"))):
        found[row["system"]].append(row)
    return found


def family(system: str) -> str:
    """A system's name without the size it was asked for."""
    return system.partition("@")[0]


def git_sha() -> str:
    return _git("rev-parse", "HEAD")


def git_dirty() -> bool:
    """Whether the sources that make numbers differ from that commit."""
    return bool(_git("status", "--porcelain", "--", "core", "bench/*.py"))


def _git(*command: str) -> str:
    root = Path(__file__).parents[1]
    return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
