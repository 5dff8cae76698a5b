"""The code before the newest migration, out of git: what works on a schema that it does not know."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from jobs.db import MIGRATIONS

ROOT = Path(__file__).parents[2]


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


def before_the_newest_migration(folder: Path) -> Path | None:
    """A checkout of the commit before it came; None where there is no history."""
    newest = max((MIGRATIONS / "versions").glob("[0-9]*.py"))
    try:
        added = git("log", "--diff-filter=A", "--format=%H", "--", str(newest.relative_to(ROOT))).split()
        packed = git("archive", "--format=tar", f"{added[-1].decode()}^")
    except (subprocess.CalledProcessError, OSError, IndexError):
        return None
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def started(code: Path, what: str, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """An "api", or a "worker" with that code's own fake engine; and "upgrade", which ends by itself."""
    command = {
        "api": ["-m", "api"],
        "worker": [str(code / "tests/worker/start.py")],
        "upgrade": ["-c", "from jobs.db import upgrade; from jobs.settings import Settings; upgrade(Settings())"],
    }[what]
    where = {**os.environ, **environment, "PYTHONPATH": str(code)}
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, *command], cwd=code, env=where, stdout=out, stderr=out)
