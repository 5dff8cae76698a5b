"""Checkpoints of running jobs: rows about blobs in the store, so that the next attempt goes on where this one stood.

Only the holder of the fence writes one; only attempts with a higher fence read it. The newest two stay, and none
once the job has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs.finish import PublishedFile
from jobs.ids import new_id
from jobs.states import HELD, TERMINAL
from jobs.tables import Checkpoint, Job

KEPT = 2


def keep_checkpoint(s: Session, job_id: str, fence: int, files: Sequence[PublishedFile]) -> list[str] | None:
    """Note a checkpoint whose files are in the store.

    Returns:
        The sha256 of blobs that no checkpoint of the job needs any more, for the caller to delete after the commit;
        None where the fence is lost: nothing is written then.
    """
    held = select(Job).where(Job.id == job_id, Job.fence == fence, Job.state.in_(HELD)).with_for_update()
    job = s.scalars(held).one_or_none()
    if job is None:
        return None
    before = _newest_first(s, job_id)
    written = Checkpoint(
        id=new_id("chk"),
        project_id=job.project_id,
        job_id=job_id,
        fence=fence,
        number=before[0].number + 1 if before else 1,
        files={file.path: file.sha256 for file in files},
    )
    s.add(written)
    s.flush()
    rows = [written, *before]
    needed = {sha for row in rows[:KEPT] for sha in row.files.values()}
    gone = {sha for row in rows[KEPT:] for sha in row.files.values()} - needed
    s.execute(delete(Checkpoint).where(Checkpoint.id.in_([row.id for row in rows[KEPT:]])))
    if gone:  # a job like this one, with the same seed, stands on the same bytes
        others = s.scalars(select(Checkpoint.files).where(Checkpoint.project_id == job.project_id))
        gone -= {sha for files in others for sha in files.values()}
    return sorted(gone)


def checkpoints(s: Session, job_id: str, fence: int) -> list[dict[str, str]]:
    """What earlier attempts left: files (name -> sha256) of each checkpoint, newest first."""
    return [dict(row.files) for row in _newest_first(s, job_id) if row.fence < fence][:KEPT]


def forget_checkpoints(s: Session, limit: int) -> None:
    """Drop those of jobs that have ended; the sweep takes their blobs."""
    ended = select(Checkpoint.id).join(Job, Job.id == Checkpoint.job_id).where(Job.state.in_(TERMINAL)).limit(limit)
    if ids := s.scalars(ended).all():
        s.execute(delete(Checkpoint).where(Checkpoint.id.in_(ids)))


def _newest_first(s: Session, job_id: str) -> Sequence[Checkpoint]:
    rows = select(Checkpoint).where(Checkpoint.job_id == job_id)
    return s.scalars(rows.order_by(Checkpoint.number.desc())).all()
