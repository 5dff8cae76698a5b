"""The reconciler: puts right what crashes leave behind. Any process may run it, several at once; each tick is short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from jobs import replays
from jobs.checkpoints import forget_checkpoints
from jobs.clock import db_now
from jobs.finish import release
from jobs.inspections import apply_verdict, finish_inspection
from jobs.moves import move
from jobs.problem import Problem
from jobs.queue import Kind
from jobs.settings import Settings
from jobs.states import HELD, State
from jobs.tables import Inspection, Job

PER_TICK = 40  # rows of each sort; the rest comes with the next tick


@dataclass(frozen=True)
class Hint:
    """Work that waits, to be announced after the commit: `for h in reconcile(...): announce(settings, h.kind)`."""

    kind: Kind
    id: str


def reconcile(s: Session, settings: Settings) -> list[Hint]:
    """One tick. Rows that another reconciler holds are left to it.

    Lost leases: the job is queued again, or failed(worker_lost) at the last attempt; paused or cancelled where that
    was under way. Jobs that waited too long fail. Waiting work whose last hint is old is hinted at again.
    """
    _lost_jobs(s, settings)
    _waited_too_long(s)
    _lost_inspections(s, settings)
    _missed_verdicts(s)
    forget_checkpoints(s, PER_TICK)
    replays.forget(s)
    return [*_hints(s, Job, "job", settings), *_hints(s, Inspection, "inspection", settings)]


def _lost_jobs(s: Session, settings: Settings) -> None:
    gone = or_(Job.lease_until.is_(None), Job.lease_until < db_now())
    query = select(Job.id, Job.fence).where(Job.state.in_(HELD), gone).order_by(Job.id).limit(PER_TICK)
    for job_id, fence in s.execute(query.with_for_update(skip_locked=True)).all():
        release(s, job_id, fence, "lost", max_attempts=settings.max_attempts)


def _waited_too_long(s: Session) -> None:
    query = select(Job.id, Job.max_pending_s, Job.stage).where(
        Job.state == State.QUEUED, Job.max_pending_s.is_not(None), Job.queued_at + Job.max_pending_s < db_now()
    )
    rows = s.execute(query.order_by(Job.id).limit(PER_TICK).with_for_update(skip_locked=True)).all()
    for job_id, limit_s, stage in rows:
        text = f"the job waited longer than limits.max_pending_s = {limit_s:g} seconds"
        problem = Problem.of("pending_timeout", text, param="/limits/max_pending_s", retryable=True, stage=stage)
        move(s, job_id, State.FAILED, only=(State.QUEUED,), reason="pending_timeout", error=problem.as_dict())


def _lost_inspections(s: Session, settings: Settings) -> None:
    query = select(Inspection).where(Inspection.state == "running", Inspection.lease_until < db_now())
    rows = s.scalars(query.order_by(Inspection.id).limit(PER_TICK).with_for_update(skip_locked=True)).all()
    for row in rows:
        if row.attempt < settings.max_attempts:
            row.state, row.lease_until, row.worker, row.hinted_at = "queued", None, None, None
            s.flush()
            continue
        detail = f"the inspection was lost in each of {row.attempt} attempts"
        error: dict[str, Any] = {
            "code": "worker_lost",
            "detail": detail,
            "param": None,
            "errors": [],
            "retryable": True,
        }
        lost = {"ok": False, "error": error, "shape": None, "rows": {}}
        finish_inspection(s, row.id, row.fence, lost)


def _missed_verdicts(s: Session) -> None:
    """No order of commits leaves any; an operator who edits rows, or restores a backup, may."""
    query = (
        select(Inspection.id)
        .join(Job, Job.inspection_id == Inspection.id)
        .where(Inspection.state == "done", Job.state == State.QUEUED, Job.claimable.is_(False))
    )
    for inspection_id in s.scalars(query.distinct().limit(PER_TICK)).all():
        apply_verdict(s, inspection_id, skip_locked=True)


def _hints(s: Session, table: type[Job] | type[Inspection], kind: Kind, settings: Settings) -> list[Hint]:
    old = or_(table.hinted_at.is_(None), table.hinted_at < db_now() - settings.hint_after_s)
    query = select(table.id).where(table.state == "queued", old).order_by(table.id).limit(PER_TICK)
    if table is Job:
        query = query.where(Job.claimable)
    ids = s.scalars(query.with_for_update(skip_locked=True)).all()
    s.execute(
        update(table).where(table.id.in_(ids)).values(hinted_at=db_now()),
        execution_options={"synchronize_session": False},
    )
    return [Hint(kind, id_) for id_ in ids]
