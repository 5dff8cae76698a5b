"""The meter: for how long jobs held hardware, by project and month.

A job's holder is metered from claim to whatever ends the hold, in the transaction that ends it, so that no time is
counted twice and none that was paid for is lost. It counts for the month (UTC, the database's clock) in which it ends.
A holder that was lost is counted to its last heartbeat. Deleting a job takes nothing back.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select, update
from sqlalchemy.orm import Session

from jobs.clock import now
from jobs.db import insert
from jobs.states import HELD
from jobs.tables import ArtifactFile, Dataset, Job, ModelFile, Usage

HARDWARE = ("cpu", "cuda")


def hardware(devices: Collection[str] | None) -> ColumnElement[str]:
    """SQL: what a job would run on at a worker that serves `devices`."""
    return case((Job.device == "auto", "cuda" if devices and "cuda" in devices else "cpu"), else_=Job.device)


def settle(s: Session, job: Job, *, lost: bool) -> None:
    """Write down the time of a holder that has just let go. Nothing to do where nobody held the job."""
    if job.metered_at is None or job.hardware is None:
        return
    time = now(s)
    until = job.heartbeat_at if lost and job.heartbeat_at is not None else time
    row = insert(s, Usage).values(
        project_id=job.project_id, month=month_of(time), hardware=job.hardware, seconds=max(0.0, until - job.metered_at)
    )
    key = [Usage.project_id, Usage.month, Usage.hardware]
    s.execute(row.on_conflict_do_update(index_elements=key, set_={"seconds": Usage.seconds + row.excluded.seconds}))
    s.execute(update(Job).where(Job.id == job.id).values(metered_at=None))


def seconds(
    s: Session, month: str | None = None, projects: Collection[str] | None = None
) -> dict[str, dict[str, float]]:
    """Project -> hardware -> seconds of a month; of this one, with what runs now, where none is given."""
    time = now(s)
    wanted = month or month_of(time)
    ended = select(Usage.project_id, Usage.hardware, Usage.seconds).where(Usage.month == wanted)
    held = select(Job.project_id, Job.hardware, time - Job.metered_at)
    held = held.where(Job.state.in_(HELD), Job.metered_at.is_not(None))
    if projects is not None:
        ended, held = ended.where(Usage.project_id.in_(projects)), held.where(Job.project_id.in_(projects))
    found: dict[str, dict[str, float]] = {}
    queries: tuple[Select[Any, Any, Any], ...] = (ended, held) if wanted == month_of(time) else (ended,)
    for query in queries:
        for project, kind, amount in s.execute(query):
            found.setdefault(project, dict.fromkeys(HARDWARE, 0.0))[kind] += max(0.0, amount)
    return found


def stored(s: Session, project_id: str) -> dict[str, int]:
    """Bytes that lie in the store for a project, by kind. What two objects share is counted twice."""
    queries = {
        "models": select(func.sum(ModelFile.size)).where(ModelFile.project_id == project_id, ModelFile.present),
        "datasets": select(func.sum(Dataset.size)).where(Dataset.project_id == project_id),
        "artifacts": select(func.sum(ArtifactFile.size)).where(ArtifactFile.project_id == project_id),
    }
    return {kind: int(s.scalars(query).one() or 0) for kind, query in queries.items()}  # PostgreSQL gives a Decimal


def by_state(s: Session, project_id: str) -> dict[str, int]:
    """State -> number of jobs; states without jobs are left out."""
    rows = s.execute(select(Job.state, func.count()).where(Job.project_id == project_id).group_by(Job.state))
    return {state.value: count for state, count in rows}


def month_of(time: float) -> str:
    """ "2026-11" of seconds since 1970."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m")
