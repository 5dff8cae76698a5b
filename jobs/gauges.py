"""How things stand now, of every project together: what waits, what runs, what is stuck, who works."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobs.clock import db_now
from jobs.states import HELD, State
from jobs.tables import Inspection, Job, Push, Worker
from jobs.workers import UNSEEN_S

ASKED, DEVICES = ("auto", "cpu", "cuda"), ("cpu", "cuda")
WAITING = ("queued", "running")


@dataclass(frozen=True)
class Gauge:
    """A family of levels. `label` is None where it is one figure."""

    name: str
    help: str
    label: str | None = None


GAUGES = (
    Gauge("jobs", "Jobs by state; deleted ones are gone.", "state"),
    Gauge("jobs_stalled", "Jobs whose worker was silent for more than half a lease."),
    Gauge("queue_jobs", "Jobs that may be claimed, by the device that they ask for.", "device"),
    Gauge("queue_age_seconds", "Age of the oldest job that may be claimed.", "device"),
    Gauge("inspections", "Inspections that have no verdict yet.", "state"),
    Gauge("inspection_age_seconds", "Age of the oldest inspection without a verdict."),
    Gauge("pushes", "Pushes to registries that have not ended.", "state"),
    Gauge("workers", "Workers that were seen in the last minute, by the device that they serve.", "device"),
)


def read(s: Session, lease_s: float) -> dict[str, dict[str, float]]:
    """Every gauge by name: label -> level. One without a label has the label "".

    Args:
        lease_s: a worker that is silent for so long has lost its job.
    """
    ready = (Job.state == State.QUEUED, Job.claimable)
    age = func.max(db_now() - Job.queued_at)
    queues = {
        device: (jobs, oldest)
        for device, jobs, oldest in s.execute(select(Job.device, func.count(), age).where(*ready).group_by(Job.device))
    }
    silent = select(func.count()).where(Job.state.in_(HELD), Job.heartbeat_at < db_now() - lease_s / 2)
    oldest = select(func.max(db_now() - Inspection.created_at)).where(Inspection.state.in_(WAITING))
    alive = s.scalars(select(Worker.devices).where(Worker.seen_at > db_now() - UNSEEN_S)).all()
    states = {state: jobs for state, jobs in s.execute(select(Job.state, func.count()).group_by(Job.state))}  # noqa: C416
    return {
        "jobs": {state.value: states.get(state, 0) for state in State},
        "jobs_stalled": {"": s.scalars(silent).one()},
        "queue_jobs": {device: queues.get(device, (0, 0))[0] for device in ASKED},
        "queue_age_seconds": {device: max(0.0, queues.get(device, (0, 0.0))[1]) for device in ASKED},
        "inspections": _waiting(s, Inspection),
        "inspection_age_seconds": {"": max(0.0, s.scalars(oldest).one() or 0.0)},
        "pushes": _waiting(s, Push),
        "workers": {device: sum(device in devices for devices in alive) for device in DEVICES},
    }


def _waiting(s: Session, table: type[Inspection] | type[Push]) -> dict[str, float]:
    counted = select(table.state, func.count()).where(table.state.in_(WAITING)).group_by(table.state)
    return {**dict.fromkeys(WAITING, 0), **{state: rows for state, rows in s.execute(counted)}}  # noqa: C416
