"""Holding a job: claim, heartbeat, control. The fence that `claim` returns is the holder's only right."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from jobs import quotas, usage
from jobs.clock import db_now
from jobs.moves import move
from jobs.states import HELD, State
from jobs.tables import Job

TRIES = 3  # a candidate may be taken or cancelled between the look and the move


@dataclass(frozen=True)
class Claim:
    """A held job. `spec` is what was submitted, resolved; `jobs.inputs.order` finds its files.

    `used_s`: seconds for which earlier attempts held the job; budgets and limits are sums over attempts.
    `profile_key`: of the profile that it needs. `request_id`, `traceparent`: of the request that made it.
    """

    job_id: str
    project_id: str
    fence: int
    attempt: int
    spec: dict[str, Any]
    used_s: float = 0.0
    profile_key: str | None = None
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True)
class Control:
    """What the user wants of the holder now."""

    cancel: bool
    pause: bool


def claim(
    s: Session,
    worker: str,
    lease_s: float,
    *,
    devices: Collection[str] | None = None,
    engine: str | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> Claim | None:
    """Take the first eligible job, or None.

    Order: priority; then the project with the fewest held jobs, so that nobody's thousand jobs starve another's
    one; then age. Fence and attempt rise. Jobs of a project that is at a limit wait, and nobody else's behind them.

    Args:
        worker: a name for people.
        lease_s: without a heartbeat for so long the job is lost.
        devices: values of `resources.device` that this worker serves; None = all.
        engine: digest of what the worker works by; results of another are no results of this one.
        limits: quotas of the settings by name; None = no project has any. See `jobs.quotas`.
    """
    held = (
        select(Job.project_id, func.count().label("jobs"))
        .where(Job.state.in_(HELD))
        .group_by(Job.project_id)
        .subquery()
    )
    first = (
        select(Job.id, Job.project_id)
        .outerjoin(held, held.c.project_id == Job.project_id)
        .where(Job.state == State.QUEUED, Job.claimable, *quotas.startable(s, limits, devices))
        .order_by(Job.priority.desc(), func.coalesce(held.c.jobs, 0), Job.created_at, Job.id)
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
    )
    if devices is not None:
        first = first.where(Job.device.in_(devices))
    for _ in range(TRIES):
        candidate = s.execute(first).one_or_none()
        if candidate is None:
            return None
        job_id, project_id = candidate
        if not quotas.may_start(s, project_id, limits):  # another worker took its last place
            first = first.where(Job.project_id != project_id)
            continue
        job = move(
            s,
            job_id,
            State.RUNNING,
            raise_fence=True,
            attempt=Job.attempt + 1,
            worker=worker,
            engine=engine,
            stage="fetch",
            lease_until=db_now() + lease_s,
            heartbeat_at=db_now(),
            claimed_at=db_now(),
            hardware=case((Job.device == "auto", usage.hardware(devices)), else_=Job.device),
            metered_at=db_now(),
            started_at=func.coalesce(Job.started_at, db_now()),
        )
        if job is not None:
            return Claim(
                job.id, job.project_id, job.fence, job.attempt, job.spec, job.used_s, job.profile_key,
                job.request_id, job.traceparent,
            )  # fmt: skip
    return None


def heartbeat(s: Session, job_id: str, fence: int, lease_s: float) -> Control | None:
    """Renew the lease. None: the fence is lost; kill the child's group at once and publish nothing."""
    row = s.scalars(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state.in_(HELD))
        .values(lease_until=db_now() + lease_s, heartbeat_at=db_now())
        .returning(Job.state),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return None if row is None else _control(row)


def control(s: Session, job_id: str, fence: int) -> Control | None:
    """What `heartbeat` returns, by reading only; cheap enough for every second."""
    state = s.scalars(select(Job.state).where(Job.id == job_id, Job.fence == fence, Job.state.in_(HELD))).one_or_none()
    return None if state is None else _control(state)


def _control(state: State) -> Control:
    return Control(cancel=state is State.CANCELLING, pause=state is State.PAUSING)
