"""How a held job ends or goes back: publish, fail, release, finish_cancel. Each is one transaction under a fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from jobs.clock import after, db_now
from jobs.events import stored
from jobs.ids import new_id
from jobs.moves import move
from jobs.problem import Problem
from jobs.pushes import add_push
from jobs.states import HELD, State
from jobs.tables import Artifact, ArtifactFile, Job

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class PublishedFile:
    """A file of a point; its blob is in the store already. `size` in bytes, `sha256` in hex."""

    path: str
    size: int
    sha256: str
    media_type: str


@dataclass(frozen=True)
class PublishedPoint:
    """One delivered model: its files and its `core.report.Point`."""

    files: Sequence[PublishedFile]
    report: dict[str, Any]
    keep_s: float | None = None  # then the files go; None = never


def publish(
    s: Session, job_id: str, fence: int, report: dict[str, Any] | None, points: Sequence[PublishedPoint]
) -> bool:
    """Make the result visible: state, report, artifacts and event in the caller's one transaction.

    Args:
        report: None of a dry run, which has no points either.

    Returns:
        False when the fence is lost, or the job is being cancelled; nothing is written then. When the commit itself
        fails, the outcome is unknown: ask `published`.
    """
    progress = {"fraction": 1.0, "step": None, "steps": None, "eta_s": 0.0}
    job = move(
        s, job_id, State.SUCCEEDED, fence=fence, only=HELD,
        report=report and stored(report), progress=progress, stage=None, error=None,
    )  # fmt: skip
    if job is None:
        return False
    deliver(s, job, points)
    return True


def deliver(s: Session, job: Job, points: Sequence[PublishedPoint]) -> None:
    """The artifacts of a job that has just succeeded, and the push that it asked for."""
    for number, point in enumerate(points):
        artifact = Artifact(
            id=new_id("art"),
            project_id=job.project_id,
            job_id=job.id,
            point=number,
            fence=job.fence,
            report=stored(point.report),
            expires_at=after(point.keep_s),
        )
        s.add(artifact)
        s.flush()
        s.add_all(
            ArtifactFile(
                artifact_id=artifact.id,
                path=file.path,
                project_id=job.project_id,
                size=file.size,
                sha256=file.sha256,
                media_type=file.media_type,
            )
            for file in point.files
        )
        s.flush()
        if (asked := job.spec.get("push")) is not None:  # specs of before have none
            add_push(s, job.project_id, artifact.id, asked)


def published(s: Session, job_id: str, fence: int) -> bool:
    """Whether this holder's publish was committed; to be asked after a commit whose answer was lost."""
    won = select(Job.id).where(Job.id == job_id, Job.fence == fence, Job.state == State.SUCCEEDED)
    return s.scalars(won).one_or_none() is not None


def fail(s: Session, job_id: str, fence: int, problem: Problem) -> bool:
    """End the job with a problem that another attempt would meet again.

    False: the fence is lost, or the job is being cancelled.
    """
    job = _held(s, job_id, fence)
    if job is None:
        return False
    error = problem.model_copy(update={"stage": problem.stage or job.stage}).as_dict()
    return move(s, job_id, State.FAILED, fence=fence, reason=problem.code, error=error) is not None


def release(
    s: Session,
    job_id: str,
    fence: int,
    reason: Literal["lost", "drained"],
    *,
    max_attempts: int = MAX_ATTEMPTS,
    detail: str = "",
) -> State | None:
    """Give a held job back.

    Drained (the worker stops by order): queued again, and the attempt is not burnt. Lost (the child died, the lease
    ran out): queued again, or failed(worker_lost) when it was the last attempt. A job that was being paused is
    paused, one that was being cancelled is cancelled.

    Args:
        detail: for the user where the job fails, such as the tail of the child's log.

    Returns:
        The new state, or None when the fence is lost.
    """
    job = _held(s, job_id, fence)
    if job is None:
        return None
    attempt = job.attempt - 1 if reason == "drained" else job.attempt
    # Where the lease ran out, the holder was last seen at its heartbeat; the wait for the reconciler is not its own.
    until = case((Job.lease_until < db_now(), Job.heartbeat_at), else_=db_now())
    used_s = Job.used_s + until - Job.claimed_at
    if job.state is State.CANCELLING:
        moved = move(s, job_id, State.CANCELLED, fence=fence, reason=reason)
    elif job.state is State.PAUSING:
        moved = move(s, job_id, State.PAUSED, fence=fence, reason=reason, attempt=attempt, used_s=used_s)
    elif attempt < max_attempts:
        moved = move(s, job_id, State.QUEUED, fence=fence, reason=reason, attempt=attempt, stage=None, used_s=used_s)
    else:
        text = f"the worker was lost in each of {job.attempt} attempts, last in stage {job.stage}. {detail}".strip()
        problem = Problem.of("worker_lost", text, stage=job.stage, retryable=True)
        moved = move(s, job_id, State.FAILED, fence=fence, reason="worker_lost", error=problem.as_dict())
    return None if moved is None else moved.state


def finish_cancel(s: Session, job_id: str, fence: int) -> bool:
    """Say that the group of a job in state cancelling is gone. False: the fence is lost, or nobody asked for it."""
    return move(s, job_id, State.CANCELLED, fence=fence, only=(State.CANCELLING,)) is not None


def _held(s: Session, job_id: str, fence: int) -> Job | None:
    """The job, locked, if this fence holds it."""
    query = select(Job).where(Job.id == job_id, Job.fence == fence, Job.state.in_(HELD)).with_for_update()
    return s.scalars(query.execution_options(populate_existing=True)).one_or_none()
