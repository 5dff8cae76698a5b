"""The two Celery tasks. A task *is* the run: it holds its slot until the job has ended."""

from __future__ import annotations

from jobs.queue import TASKS
from worker import app as running


@running.app.task(name=TASKS["job"][0])  # type: ignore[untyped-decorator]
def run() -> None:
    """Run the next job, if one waits."""
    running.node().run("job")


@running.app.task(name=TASKS["inspection"][0])  # type: ignore[untyped-decorator]
def inspect() -> None:
    """Make the next verdict, if one is asked for."""
    running.node().run("inspection")
