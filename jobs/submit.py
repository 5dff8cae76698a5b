"""Submitting a job: validated, planned where the verdict is known, written once per idempotency key."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from core.errors import CompressionError
from core.plan import check_ladder
from core.recipe import Ladder, Recipe, Target
from jobs.clock import db_now
from jobs.db import insert_once
from jobs.events import append
from jobs.ids import new_id
from jobs.inspections import refuse_bad, request_inspection, warn
from jobs.problem import Problem, Refused, refuse
from jobs.profiles import key_of
from jobs.requests import JobRequest, digest
from jobs.scope import Scope, get, scoped
from jobs.states import State
from jobs.tables import Inspection, Job, JobInput
from jobs.workers import unserved

UNSEEN_S = 60.0  # a worker says three times as often that it lives


def submit(s: Session, scope: Scope, request: JobRequest, idempotency_key: str | None = None) -> Job:
    """Write the job, or find the one that the same key wrote before.

    With a good verdict in store the job may be claimed at once. With none, it waits in stage "inspecting" for the
    inspection, which is started where nobody has asked for it.

    Raises:
        Refused: not_found, model_not_ready, idempotency_key_reused; recipe_invalid, target_impossible or what the
            inspection found wrong with model and data.
    """
    body = digest(request.model_dump(mode="json"))
    if (before := _replayed(s, scope, idempotency_key, body)) is not None:
        return before
    preset, recipe, target = request.resolved()
    ladder = request.ladder or Ladder()
    refuse_unplannable(recipe, target, ladder)
    inspection = request_inspection(s, scope, request.inspection())
    refuse_bad(inspection, recipe, target, ladder)
    ready = inspection.state == "done"
    spec: dict[str, Any] = {
        **request.model_dump(mode="json"),
        "preset": preset,
        "recipe": recipe.model_dump(mode="json"),
        "target": target.given(),
    }
    job_id = new_id("job")
    inserted = insert_once(
        s,
        Job,
        id=job_id,
        project_id=scope.project_id,
        name=request.name,
        meta=request.metadata,
        spec=spec,
        device=request.resources.device,
        state=State.QUEUED,
        stage=None if ready else "inspecting",
        claimable=ready,
        priority=0,
        fence=0,
        attempt=0,
        max_pending_s=request.limits.max_pending_s,
        inspection_id=inspection.id,
        dry_run=request.dry_run,
        profile_key=key_of(s, scope, request, recipe, target),
        event_seq=0,
        idempotency_key=idempotency_key,
        idempotency_hash=body if idempotency_key is not None else None,
        created_at=db_now(),
        queued_at=db_now(),
    )
    if not inserted:  # the same key committed while we were at it
        return _found(_replayed(s, scope, idempotency_key, body))
    job = get(s, scope, Job, job_id)
    inputs = {"model": request.model, **request.data.ids()}
    s.add_all(
        JobInput(job_id=job_id, role=role, project_id=scope.project_id, object_id=object_id)
        for role, object_id in inputs.items()
    )
    append(s, job, [("state", {"state": State.QUEUED.value, "attempt": 0, "reason": None})])
    if ready:
        warn(s, job, inspection)
    if (why := unserved(s, request.resources.device, UNSEEN_S)) is not None:
        append(s, job, [("warning", {"code": "device_unserved", "detail": why})])
    return job


def prepare(s: Session, scope: Scope, request: JobRequest, idempotency_key: str | None = None) -> Job | Inspection:
    """The first half of a submit that waits: the job of this key where there is one, else the inspection to wait for.

    Raises:
        Refused: as `submit`, except for what only a verdict can tell.
    """
    body = digest(request.model_dump(mode="json"))
    if (before := _replayed(s, scope, idempotency_key, body)) is not None:
        return before
    _, recipe, target = request.resolved()
    refuse_unplannable(recipe, target, request.ladder or Ladder())
    return request_inspection(s, scope, request.inspection())


def _replayed(s: Session, scope: Scope, key: str | None, body: str) -> Job | None:
    if key is None:
        return None
    job = s.scalars(
        scoped(Job, scope).where(Job.idempotency_key == key).execution_options(populate_existing=True)
    ).one_or_none()
    if job is not None and job.idempotency_hash != body:
        raise refuse("idempotency_key_reused", f"this Idempotency-Key made {job.id} from another body; use a new key")
    return job


def _found(job: Job | None) -> Job:
    if job is None:  # the job of this key was deleted between the two statements
        raise refuse("unavailable", "the job of this Idempotency-Key was just deleted; try again", retryable=True)
    return job


def refuse_unplannable(recipe: Recipe, target: Target, ladder: Ladder) -> None:
    """What needs no model to be seen: an "auto" field and no target to fill it from, a ladder that changes nothing."""
    try:
        check_ladder(recipe, ladder)
    except CompressionError as error:
        raise Refused(Problem.from_error(error)) from None
    if (auto := recipe.open_fields()) and not any(name in recipe.dials() for name in ladder.targets(target)[0].given()):
        raise refuse(
            "recipe_invalid",
            f'{", ".join(auto)} is "auto": give one of the targets {", ".join(recipe.dials())}',
            param="/target",
        )
