"""What a user may do to a job: cancel it, pause it, let it go on, delete it when it has ended."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs.clock import db_now
from jobs.inspections import apply_verdict
from jobs.moves import move
from jobs.problem import refuse
from jobs.scope import Scope, audit, get
from jobs.states import TERMINAL, State
from jobs.tables import Artifact, ArtifactFile, Checkpoint, Event, Job, JobInput, Push, Track


def cancel(s: Session, scope: Scope, job_id: str) -> Job:
    """Ask for the end of a job. One that nobody holds is cancelled at once, a held one is cancelling until its child
    is gone. Asking again changes nothing.

    Raises:
        Refused: not_found; job_finished when it has succeeded or failed.
    """
    job = get(s, scope, Job, job_id, lock=True)
    if job.state in (State.CANCELLING, State.CANCELLED):
        return job
    if job.state in TERMINAL:
        raise refuse("job_finished", f"the job is {job.state.value}; there is nothing to cancel")
    audit(s, scope, "job.cancel", job_id)
    to = State.CANCELLED if job.state in (State.QUEUED, State.PAUSED) else State.CANCELLING
    moved = move(s, job_id, to, reason="requested", cancel_requested_at=db_now())
    return moved or get(s, scope, Job, job_id)


def pause(s: Session, scope: Scope, job_id: str) -> Job:
    """Ask a job to stop for a while. One that nobody holds is paused at once; a held one is pausing until its child
    is gone, and goes on from its last checkpoint later. Asking again changes nothing.

    Raises:
        Refused: not_found; job_finished, or the job is being cancelled.
    """
    job = get(s, scope, Job, job_id, lock=True)
    if job.state in (State.PAUSING, State.PAUSED):
        return job
    if job.state in TERMINAL or job.state is State.CANCELLING:
        raise refuse("job_finished", f"the job is {job.state.value}; there is nothing to pause")
    audit(s, scope, "job.pause", job_id)
    to = State.PAUSED if job.state is State.QUEUED else State.PAUSING
    return move(s, job_id, to, reason="requested") or get(s, scope, Job, job_id)


def resume(s: Session, scope: Scope, job_id: str) -> Job:
    """Queue a paused job again. Asking it of one that is queued or running changes nothing.

    One that is still pausing is queued when its child has gone: it is taken up again as if its worker had been stopped.

    Raises:
        Refused: not_found; job_finished; job_not_paused while it is pausing.
    """
    job = get(s, scope, Job, job_id, lock=True)
    if job.state in (State.QUEUED, State.RUNNING):
        return job
    if job.state in TERMINAL or job.state is State.CANCELLING:
        raise refuse("job_finished", f"the job is {job.state.value}; it cannot go on (POST .../retry does it again)")
    if job.state is State.PAUSING:
        detail = "the job is still pausing; ask again when it is paused"
        raise refuse("job_not_paused", detail, retryable=True)
    audit(s, scope, "job.resume", job_id)
    moved = move(s, job_id, State.QUEUED, reason="requested")
    if moved is not None and not moved.claimable and moved.inspection_id is not None:
        apply_verdict(s, moved.inspection_id)  # it may have come while the job was paused
    return get(s, scope, Job, job_id)


def delete_job(s: Session, scope: Scope, job_id: str) -> None:
    """Forget a job that has ended, with its events and artifacts; their bytes go with the next sweep.

    Raises:
        Refused: not_found; job_not_finished.
    """
    job = get(s, scope, Job, job_id, lock=True)
    if job.state not in TERMINAL:
        raise refuse("job_not_finished", f"the job is {job.state.value}; cancel it and wait for its end")
    artifacts = select(Artifact.id).where(Artifact.job_id == job_id, Artifact.project_id == scope.project_id)
    # Pushes first, as their claimers do; then nobody adds one, and what was added meanwhile goes too.
    pushes = delete(Push).where(Push.artifact_id.in_(artifacts))  # what a registry has got stays there
    s.execute(pushes)
    s.execute(artifacts.order_by(Artifact.id).with_for_update())
    s.execute(pushes)
    s.execute(delete(ArtifactFile).where(ArtifactFile.artifact_id.in_(artifacts)))
    for table in (Artifact, Checkpoint, Event, JobInput, Track):
        s.execute(delete(table).where(table.job_id == job_id, table.project_id == scope.project_id))
    s.execute(delete(Job).where(Job.id == job_id, Job.project_id == scope.project_id))
    audit(s, scope, "job.delete", job_id)
