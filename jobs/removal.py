"""What a user may do to end things: cancel a job, delete one that has ended."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs.clock import db_now
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


def delete_job(s: Session, scope: Scope, job_id: str) -> None:
    """Forget a job that has ended, with its events and artifacts; their bytes go with the next sweep.

    Raises:
        Refused: not_found; job_not_finished.
    """
    job = get(s, scope, Job, job_id, lock=True)
    if job.state not in TERMINAL:
        raise refuse("job_not_finished", f"the job is {job.state.value}; cancel it and wait for its end")
    artifacts = select(Artifact.id).where(Artifact.job_id == job_id, Artifact.project_id == scope.project_id)
    for part in (ArtifactFile, Push):  # what a registry has got stays there
        s.execute(delete(part).where(part.artifact_id.in_(artifacts)))
    for table in (Artifact, Checkpoint, Event, JobInput, Track):
        s.execute(delete(table).where(table.job_id == job_id, table.project_id == scope.project_id))
    s.execute(delete(Job).where(Job.id == job_id, Job.project_id == scope.project_id))
    audit(s, scope, "job.delete", job_id)
