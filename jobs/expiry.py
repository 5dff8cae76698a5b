"""When things go by themselves: uploads and artifacts with a time of their own, old chatter of ended jobs.

An expired upload is gone as if it had been deleted; it stays while a job needs it. An expired artifact loses its files
and keeps its figures, for they are part of the job's answer. The audit log says what went, and when.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from jobs.clock import db_now, now
from jobs.problem import Refused, refuse
from jobs.pushes import UNFINISHED
from jobs.scope import Scope, audit, get
from jobs.states import TERMINAL
from jobs.tables import Artifact, ArtifactFile, Dataset, Event, Job, JobInput, Model, Push
from jobs.uploads import delete_dataset, delete_model

JANITOR = "janitor"
CHATTER = ("progress", "metric", "log")  # of no use for long; what happened stays told
DELETE: dict[type[Any], Any] = {Model: delete_model, Dataset: delete_dataset}


def require_files(row: Artifact) -> None:
    """Raises Refused (expired) where only the figures of an artifact are left."""
    if row.expired_at is not None:
        raise refuse("expired", "the files of this artifact are gone; only its figures are left")


def keep_until(s: Session, scope: Scope, table: type[Any], id_: str, expires_at: float | None) -> Any:
    """Set when a model, dataset or artifact goes by itself; None = never. Seconds since 1970.

    Raises:
        Refused: not_found; request_invalid where the time has passed; expired where the files are gone already.
    """
    row = get(s, scope, table, id_, lock=True)
    if isinstance(row, Artifact):
        require_files(row)
    if expires_at is not None and expires_at <= now(s):
        raise refuse("request_invalid", "/expires_at: this time has passed; legal: a later one", param="/expires_at")
    row.expires_at = expires_at
    audit(s, scope, f"{table.__tablename__}.keep", id_)
    s.flush()
    return row


def drop_files(s: Session, scope: Scope, artifact_id: str) -> None:
    """Forget the files of an artifact; the job keeps its figures. A second time changes nothing.

    Raises:
        Refused: not_found; in_use while a push of it has not ended.
    """
    row = get(s, scope, Artifact, artifact_id, lock=True)
    if row.expired_at is not None:
        return
    pushes = select(Push.id).where(Push.artifact_id == artifact_id, Push.state.in_(UNFINISHED)).limit(1)
    if (push := s.scalars(pushes).first()) is not None:
        raise refuse("in_use", f"{push} has not ended; wait for it, or delete it first")
    s.execute(delete(ArtifactFile).where(ArtifactFile.artifact_id == artifact_id))
    row.expired_at = now(s)
    audit(s, scope, "artifact.expire" if scope.who == JANITOR else "artifact.delete", artifact_id)
    s.flush()


Due = tuple[type[Any], str, str]  # table, id, project


def due(s: Session, limit: int) -> list[Due]:
    """What has to go now and nobody needs, at most `limit` rows of each kind."""
    found: list[Due] = []
    needed = exists().where(JobInput.job_id == Job.id, Job.state.not_in(sorted(TERMINAL)))
    for table in (Model, Dataset, Artifact):
        query = select(table.id, table.project_id).where(table.expires_at <= db_now())
        if table is Artifact:
            pushed = exists().where(Push.artifact_id == Artifact.id, Push.state.in_(UNFINISHED))
            query = query.where(Artifact.expired_at.is_(None), ~pushed)
        else:
            query = query.where(~needed.where(JobInput.object_id == table.id))
        rows = s.execute(query.order_by(table.expires_at).limit(limit)).all()
        found += [(table, id_, project_id) for id_, project_id in rows]
    return found


def let_go(s: Session, one: Due) -> bool:
    """Let one row go, in a transaction of its own: it locks what requests lock. False: somebody needs it after all."""
    table, id_, project_id = one
    try:
        DELETE.get(table, drop_files)(s, Scope(project_id, who=JANITOR), id_)
    except Refused:
        return False
    return True


def forget_chatter(s: Session, older_s: float, limit: int = 5_000) -> int:
    """Drop progress, metrics and log lines of jobs that ended `older_s` ago; how many. Readers are told of the gap."""
    old = exists().where(Job.id == Event.job_id, Job.finished_at < db_now() - older_s)
    found = s.scalars(select(Event.id).where(Event.type.in_(CHATTER), old).limit(limit)).all()
    s.execute(delete(Event).where(Event.id.in_(found)))
    return len(found)
