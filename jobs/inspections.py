"""Inspections: one verdict for one (model, data, columns, task, metric), made once by a worker and reused.

A good verdict brings the model's shape, and the plan of each waiting job is checked on it at once. A bad verdict
fails the waiting jobs with the problem that a later submit of the same inputs gets as its 422.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.errors import CompressionError, DataInvalid
from core.findings import Finding, of_error
from core.plan import ModelShape, fill
from core.recipe import Ladder, Recipe, Target
from jobs.clock import db_now
from jobs.db import insert_once
from jobs.events import append, stored
from jobs.ids import new_id
from jobs.inputs import require
from jobs.moves import move
from jobs.problem import Problem, Refused
from jobs.requests import InspectionRequest
from jobs.scope import Scope, get
from jobs.states import State
from jobs.tables import Inspection, Job

QUIET = {"populate_existing": True, "synchronize_session": False}


@dataclass(frozen=True)
class InspectionClaim:
    """A held inspection. `spec` is the InspectionRequest as JSON; `jobs.inputs.order` resolves its ids."""

    inspection_id: str
    project_id: str
    fence: int
    attempt: int
    spec: dict[str, Any]
    request_id: str | None = None
    traceparent: str | None = None


def request_inspection(s: Session, scope: Scope, request: InspectionRequest, *, sample: bool = False) -> Inspection:
    """The inspection of these inputs: the stored one, or a new one in state queued.

    `sample`: a new one runs the teacher on some rows after its verdict. A job does that itself.

    A verdict that says "may succeed later" (a lost worker) is asked for again.

    Raises:
        Refused: not_found, model_not_ready.
    """
    require(s, scope, request)
    key = request.key()
    insert_once(
        s,
        Inspection,
        id=new_id("insp"),
        project_id=scope.project_id,
        key=key,
        spec={**request.model_dump(mode="json"), "sample": sample},
        state="queued",
        fence=0,
        attempt=0,
        created_at=db_now(),
    )
    # Locked: a verdict that arrives now waits until the job that is being submitted can be seen.
    row = s.scalars(
        select(Inspection)
        .where(Inspection.project_id == scope.project_id, Inspection.key == key)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if row.state == "done" and not row.verdict_ok and _error(row).get("retryable"):
        row.state, row.verdict, row.attempt, row.hinted_at, row.finished_at = "queued", None, 0, None, None
        s.flush()
    return row


def get_inspection(s: Session, scope: Scope, inspection_id: str) -> Inspection:
    """Raises Refused (not_found)."""
    return get(s, scope, Inspection, inspection_id)


def claim_inspection(s: Session, worker: str, lease_s: float) -> InspectionClaim | None:
    """Take the oldest queued inspection, or None. The fence rises."""
    queued = select(Inspection.id).where(Inspection.state == "queued")
    first = queued.order_by(Inspection.created_at, Inspection.id).limit(1)
    # A submit may hold the only row for a moment; then wait for it rather than go home.
    found = (
        s.scalars(first.with_for_update(skip_locked=True)).one_or_none()
        or s.scalars(first.with_for_update()).one_or_none()
    )
    if found is None:
        return None
    row = s.scalars(
        update(Inspection)
        .where(Inspection.id == found, Inspection.state == "queued")
        .values(
            state="running",
            fence=Inspection.fence + 1,
            attempt=Inspection.attempt + 1,
            worker=worker,
            lease_until=db_now() + lease_s,
        )
        .returning(Inspection),
        execution_options=QUIET,
    ).one()
    return InspectionClaim(row.id, row.project_id, row.fence, row.attempt, row.spec, row.request_id, row.traceparent)


def heartbeat_inspection(s: Session, inspection_id: str, fence: int, lease_s: float) -> bool:
    """Renew the lease. False: the inspection belongs to somebody else now; end the child."""
    return _held(s, inspection_id, fence, lease_until=db_now() + lease_s)


def release_inspection(s: Session, inspection_id: str, fence: int) -> bool:
    """Hand an unfinished inspection back (a drained worker); no attempt is burnt."""
    return _held(
        s, inspection_id, fence, state="queued", attempt=Inspection.attempt - 1, lease_until=None, hinted_at=None
    )


def finish_inspection(s: Session, inspection_id: str, fence: int, verdict: dict[str, Any]) -> bool:
    """Store a verdict (`core.inspect.Verdict` as JSON: an `error` or a `shape`) and pass it on to the waiting jobs.

    Returns:
        False when the fence is lost; nothing is written then.
    """
    kept = _legible(verdict)
    done = _held(
        s, inspection_id, fence, state="done", verdict=kept, lease_until=None, worker=None, finished_at=db_now()
    )
    if done:
        apply_verdict(s, inspection_id)
    return done


def inspection_waits(s: Session) -> bool:
    """Whether somebody waits for a slot to be inspected in."""
    return s.scalars(select(Inspection.id).where(Inspection.state == "queued").limit(1)).first() is not None


def add_findings(s: Session, inspection_id: str, fence: int, findings: Sequence[Finding]) -> bool:
    """Add what the teacher's answers say to a good verdict; an error among them takes it back for later submits.

    Returns:
        False when the inspection was made anew meanwhile; nothing is written then.
    """
    row = s.get(Inspection, inspection_id, with_for_update=True, populate_existing=True)
    if row is None or row.state != "done" or row.fence != fence or not row.verdict_ok:
        return False
    verdict = dict(row.verdict or {})
    before = [one for one in verdict.get("findings", ()) if one["code"] != "teacher_not_sampled"]
    verdict["findings"] = [*before, *(one.model_dump(mode="json") for one in findings)]
    if (wrong := next((one for one in findings if one.severity == "error"), None)) is not None:
        error = DataInvalid(wrong.detail, param=wrong.param, finding=wrong.code)
        verdict |= {"ok": False, "error": error.as_dict(), "shape": None}
    row.verdict = stored(verdict)
    return True


def warn(s: Session, job: Job, row: Inspection) -> None:
    """Give a job the warnings of its inspection, as events."""
    told = [one for one in (row.verdict or {}).get("findings", ()) if one["severity"] == "warning"]
    append(s, job, [("warning", {"code": one["code"], "detail": one["detail"]}) for one in told])


def apply_verdict(s: Session, inspection_id: str, *, skip_locked: bool = False) -> list[str]:
    """Let every job that waits for this verdict go on or fail. Returns the ids of those that may be claimed now.

    `skip_locked` leaves jobs that another transaction holds to the next tick, for callers who hold rows themselves.
    """
    row = s.get(Inspection, inspection_id, populate_existing=True)
    if row is None or row.state != "done":
        return []
    waiting = select(Job).where(Job.inspection_id == inspection_id, Job.state == State.QUEUED, Job.claimable.is_(False))
    going = []
    for job in s.scalars(waiting.order_by(Job.id).with_for_update(skip_locked=skip_locked)).all():
        problem = judge(row, *planned(job.spec))
        if problem is not None:
            error = problem.model_copy(update={"stage": "inspecting"}).as_dict()
            move(s, job.id, State.FAILED, only=(State.QUEUED,), reason="inspection_failed", error=error)
        elif (moved := make_claimable(s, job.id)) is not None:
            warn(s, moved, row)
            going.append(moved.id)
    return going


def planned(spec: Mapping[str, Any]) -> tuple[Recipe, Target, Ladder]:
    """Recipe, target and ladder of a job's spec."""
    ladder = Ladder.model_validate(spec["ladder"] or {})
    return Recipe.model_validate(spec["recipe"]), Target.model_validate(spec["target"]), ladder


def judge(row: Inspection, recipe: Recipe, target: Target, ladder: Ladder) -> Problem | None:
    """What a done inspection means for a recipe and its targets: None, or the problem.

    On a good verdict every point is planned on the model's shape, which is pure arithmetic.
    """
    if not row.verdict_ok:
        return Problem.from_error(_error(row))
    shape = ModelShape.model_validate((row.verdict or {})["shape"])
    try:
        for each in ladder.targets(target):
            fill(recipe, each, shape)
    except CompressionError as error:
        if ladder.given() and error.param is not None:
            error.param = error.param.replace("/target/", "/ladder/")
        return Problem.from_error(error)
    return None


def refuse_bad(row: Inspection, recipe: Recipe, target: Target, ladder: Ladder) -> None:
    """Raises Refused with the problem of a done inspection, if it has one."""
    if row.state == "done" and (problem := judge(row, recipe, target, ladder)) is not None:
        raise Refused(problem)


def make_claimable(s: Session, job_id: str) -> Job | None:
    """Let workers take a queued job."""
    job = s.scalars(
        update(Job)
        .where(Job.id == job_id, Job.state == State.QUEUED, Job.claimable.is_(False))
        .values(claimable=True, stage=None, hinted_at=None)
        .returning(Job),
        execution_options=QUIET,
    ).one_or_none()
    if job is not None:
        append(s, job, [("inspected", {"ok": True})])
    return job


def _held(s: Session, inspection_id: str, fence: int, **columns: Any) -> bool:
    held = (Inspection.id == inspection_id, Inspection.fence == fence, Inspection.state == "running")
    statement = update(Inspection).where(*held).values(**columns).returning(Inspection.id)
    return s.scalars(statement, execution_options={"synchronize_session": False}).one_or_none() is not None


def _legible(verdict: dict[str, Any]) -> dict[str, Any]:
    """The verdict, or one that says that a child wrote nonsense: it has read hostile files."""
    kept = stored(verdict)
    try:
        if kept.get("ok"):
            ModelShape.model_validate(kept["shape"])
        else:
            Problem.from_error(kept["error"])
    except (KeyError, TypeError, AttributeError, ValidationError):
        detail = "the inspection ended without a legible verdict"
        kept = {"ok": False, "error": {"code": "internal", "detail": detail, "retryable": True}, "shape": None}
    if not kept["ok"] and not kept.get("findings"):  # whoever ended it for the child knows of an error only
        kept["findings"] = [one.model_dump(mode="json") for one in of_error(kept["error"])]
    return kept


def _error(row: Inspection) -> dict[str, Any]:
    error: dict[str, Any] = (row.verdict or {})["error"]
    return error
