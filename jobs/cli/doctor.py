"""`ladapress doctor`: what is right and wrong with a service's settings and its machine. Changes nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.database import DataDir

if TYPE_CHECKING:
    from jobs.checkup import Finding

WORKER_S = 120  # importing torch on a cold disk
MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def command(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per finding.")] = False,
) -> None:
    """Look at settings, database, clock, disk, broker, keys and, where a worker is installed, device and walls.

    Exits with 1 where something fails, with 0 where all is well or only a warning was found.
    """
    if data_dir is not None:
        os.environ["LADAPRESS_DATA_DIR"] = str(data_dir)
    failed = False
    for finding in findings():
        failed |= finding.level == "fail"
        if as_json:
            print(json.dumps(finding.as_json()), flush=True)
            continue
        print(f"{MARKS[finding.level]}  {finding.check:<11} {finding.text}", flush=True)
        if finding.remedy:
            print(f"{'':18}-> {finding.remedy}", flush=True)
    if failed:
        raise typer.Exit(1)


def findings() -> Iterator[Finding]:
    """Those of the settings first; without good settings nothing else is looked at."""
    from jobs.checkup import checks, settings_of

    settings, found = settings_of(os.environ)
    yield from found
    if settings is None:
        return
    yield from checks(settings)
    yield from _of_the_worker()


def _of_the_worker() -> Iterator[Finding]:
    """What `worker.checkup` tells, in a process of its own: it raises walls that nothing takes down again."""
    from jobs.checkup import Finding

    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("worker") is None:
        yield Finding(
            "worker", "ok", "not installed here; pip install 'ladapress[worker]' for a machine that runs jobs"
        )
        return
    try:
        with TemporaryDirectory(prefix="ladapress-doctor-") as folder:
            done = subprocess.run(
                [sys.executable, "-m", "worker.checkup"],
                cwd=folder, capture_output=True, text=True, timeout=WORKER_S, check=False,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield Finding("worker", "fail", f"its libraries did not load in {WORKER_S} s")
        return
    for line in done.stdout.splitlines():
        yield Finding(**json.loads(line))
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        yield Finding("worker", "fail", f"its checkup ended with {done.returncode}: {last[:300]}")
