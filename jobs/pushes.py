"""Pushes: a finished artifact on its way to a registry. The row is the truth, as with a job, and outlives every crash.

A push is asked for in one transaction and made in many: claimed under a fence, made by a process of its own, tried
again while the registry does not answer, ever more slowly. Making it twice adds nothing there, so a push whose end was
not written down is simply made again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session, aliased

from jobs.clock import db_now
from jobs.ids import new_id
from jobs.problem import Problem, refuse
from jobs.requests import PushRequest
from jobs.scope import Scope, audit, get, scoped
from jobs.tables import Artifact, ArtifactFile, Push
from jobs.webhooks.kinds import Kind
from jobs.webhooks.outbox import tell

UNFINISHED = ("queued", "running")
LONGEST_WAIT_S = 900.0
QUIET = {"populate_existing": True, "synchronize_session": False}


@dataclass(frozen=True)
class PushClaim:
    """A held push. `files` are (path, size in bytes, sha256) of the artifact; `report` is the artifact's."""

    push_id: str
    project_id: str
    artifact_id: str
    fence: int
    spec: dict[str, Any]
    report: dict[str, Any]
    files: Sequence[tuple[str, int, str]]


def request_push(s: Session, scope: Scope, artifact_id: str, asked: PushRequest) -> tuple[Push, bool]:
    """Ask for a push, whose registry and name were checked; and whether this call made it.

    The same request while an earlier one has not ended gives that one. After its end it is a new push, which finds out
    what the registry holds by now.

    Raises:
        Refused: not_found, expired.
    """
    artifact = get(s, scope, Artifact, artifact_id, lock=True)  # two equal requests at once are one push
    if artifact.expired_at is not None:
        raise refuse("expired", "the files of this artifact are gone; nothing is left to push")
    spec = asked.model_dump(mode="json")
    waiting = scoped(Push, scope).where(Push.artifact_id == artifact_id, Push.state.in_(UNFINISHED))
    for row in s.scalars(waiting.order_by(Push.id)):
        if row.spec == spec:
            return row, False
    row = add_push(s, scope.project_id, artifact_id, spec)
    audit(s, scope, "artifact.push", row.id)
    return row, True


def add_push(s: Session, project_id: str, artifact_id: str, spec: dict[str, Any]) -> Push:
    """Queue a push in the caller's transaction; a job that was to be pushed does so as it is published."""
    row = Push(id=new_id("push"), project_id=project_id, artifact_id=artifact_id, spec=spec)
    s.add(row)
    s.flush()
    s.refresh(row)
    return row


def delete_push(s: Session, scope: Scope, push_id: str) -> None:
    """Forget a push. One that is being made is stopped; what has reached the registry stays there.

    Raises:
        Refused: not_found.
    """
    s.delete(get(s, scope, Push, push_id, lock=True))
    audit(s, scope, "push.delete", push_id)


def claim_push(s: Session, worker: str, lease_s: float, give_up_s: float) -> PushClaim | None:
    """Take the push that is due longest, or one whose maker was lost. None: nothing is due.

    One that was lost when it was `give_up_s` old has failed: it may be what ends its makers.

    An artifact is pushed by one process at a time: two would not see what the other has just made.
    """
    other = aliased(Push)
    held = and_(other.state == "running", other.lease_until >= db_now())
    busy = select(other.id).where(other.artifact_id == Push.artifact_id, held).exists()
    due = or_(
        and_(Push.state == "queued", Push.not_before <= db_now(), ~busy),
        and_(Push.state == "running", Push.lease_until < db_now(), ~busy),
    )
    first = select(Push).where(due).order_by(Push.not_before, Push.id).limit(1).with_for_update(skip_locked=True)
    row = s.scalars(first.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        return None
    artifact = s.scalars(select(Artifact).where(Artifact.id == row.artifact_id).with_for_update()).one()
    if s.scalars(select(other.id).where(other.artifact_id == row.artifact_id, held).limit(1)).first() is not None:
        return None  # claimed between the two statements; this one's turn comes
    if row.state == "running" and _age_s(s, row.id) >= give_up_s:
        detail = f"the process that pushes was lost in attempt {row.attempt}"
        error = Problem.of("worker_lost", detail, retryable=True).as_dict()
        _ended(s, row.id, row.fence, "failed", error=error)
        return None
    row.state, row.worker, row.fence, row.attempt = "running", worker, row.fence + 1, row.attempt + 1
    s.flush()
    s.execute(update(Push).where(Push.id == row.id).values(lease_until=db_now() + lease_s), execution_options=QUIET)
    listed = select(ArtifactFile).where(ArtifactFile.artifact_id == artifact.id).order_by(ArtifactFile.path)
    files = [(file.path, file.size, file.sha256) for file in s.scalars(listed)]
    return PushClaim(row.id, row.project_id, artifact.id, row.fence, row.spec, artifact.report, files)


def heartbeat_push(s: Session, push_id: str, fence: int, lease_s: float) -> bool:
    """Renew the lease. False: somebody else makes the push now, or it was deleted; stop."""
    return _held(s, push_id, fence, lease_until=db_now() + lease_s)


def release_push(s: Session, push_id: str, fence: int) -> bool:
    """Hand an unfinished push back (a drained worker)."""
    return _held(s, push_id, fence, state="queued", attempt=Push.attempt - 1, lease_until=None, worker=None)


def finish_push(s: Session, push_id: str, fence: int, result: dict[str, Any]) -> bool:
    """The artifact is in the registry. False: the fence is lost."""
    return _ended(s, push_id, fence, "succeeded", result=result, error=None)


def fail_push(s: Session, push_id: str, fence: int, problem: Problem, *, retry_s: float, give_up_s: float) -> bool:
    """An attempt went wrong. A retryable problem has it tried again, `retry_s` later, then twice as long, and so on,
    until the push is `give_up_s` old; the row shows the last problem meanwhile. False: the fence is lost."""
    row = s.scalars(
        select(Push).where(Push.id == push_id, Push.fence == fence, Push.state == "running").with_for_update()
    ).one_or_none()
    if row is None:
        return False
    error = problem.as_dict()
    if not problem.retryable or _age_s(s, push_id) >= give_up_s:
        return _ended(s, push_id, fence, "failed", error=error)
    wait_s = min(retry_s * 2 ** min(row.attempt - 1, 30), LONGEST_WAIT_S) * random.uniform(0.8, 1.2)  # noqa: S311
    return _held(s, push_id, fence, state="queued", error=error, lease_until=None, not_before=db_now() + wait_s)


def _age_s(s: Session, push_id: str) -> float:
    return s.scalars(select(db_now() - Push.created_at).where(Push.id == push_id)).one()


def _ended(s: Session, push_id: str, fence: int, state: Literal["succeeded", "failed"], **columns: Any) -> bool:
    """The push has ended, and whoever wants to know is told."""
    if not _held(s, push_id, fence, state=state, lease_until=None, finished_at=db_now(), **columns):
        return False
    row = s.get_one(Push, push_id)
    kind: Kind = "push.succeeded" if state == "succeeded" else "push.failed"
    tell(s, row.project_id, kind, {"object": "push", "id": push_id, "artifact_id": row.artifact_id})
    return True


def _held(s: Session, push_id: str, fence: int, **columns: Any) -> bool:
    held = (Push.id == push_id, Push.fence == fence, Push.state == "running")
    statement = update(Push).where(*held).values(**columns).returning(Push.id)
    return s.scalars(statement, execution_options=QUIET).one_or_none() is not None
