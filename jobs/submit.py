"""Submitting a job: validated, planned where the verdict is known, written once per idempotency key."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from core.errors import CompressionError
from core.plan import check_ladder
from core.recipe import Ladder, Recipe, Target
from jobs import cache, quotas, traces
from jobs.clock import db_now
from jobs.db import insert_once
from jobs.events import append
from jobs.ids import new_id
from jobs.inputs import require
from jobs.inspections import refuse_bad, request_inspection, warn
from jobs.problem import Problem, Refused, refuse
from jobs.profiles import key_of
from jobs.requests import JobRequest, RetryRequest, digest
from jobs.scope import Scope, get, scoped
from jobs.states import TERMINAL, State
from jobs.tables import Inspection, Job, JobInput, WebhookEndpoint
from jobs.tracks import add_track
from jobs.workers import unserved


@traces.span("job submit")
def submit(
    s: Session, scope: Scope, request: JobRequest, idempotency_key: str | None = None, *, parent: Job | None = None
) -> Job:
    """Write the job, or find the one that the same key wrote before.

    With a good verdict in store the job may be claimed at once. With none, it waits in stage "inspecting" for the
    inspection, which is started where nobody has asked for it. Where the result is there already, it has succeeded.

    Args:
        parent: the job that this one does again.

    Raises:
        Refused: not_found, model_not_ready, idempotency_key_reused; recipe_invalid, target_impossible or what the
            inspection found wrong with model and data; quota_exceeded, quota_used_up.
    """
    body = _fingerprint(request, parent)
    if (before := _replayed(s, scope, idempotency_key, body)) is not None:
        return before
    preset, recipe, target = request.resolved()
    if parent is not None:
        preset = parent.spec["preset"]
    ladder = request.ladder or Ladder()
    refuse_unplannable(recipe, target, ladder)
    if request.webhook is not None:
        get(s, scope, WebhookEndpoint, request.webhook.endpoint, param="/webhook/endpoint")
    require(s, scope, request.inspection())
    cache_key = None if request.dry_run else cache.key_of(s, scope, request, preset, recipe, target)
    source = _cached(s, scope, request, cache_key, hold=True)
    inspection = None if source is not None else request_inspection(s, scope, request.inspection())
    if inspection is not None:
        refuse_bad(inspection, recipe, target, ladder)
    ready = inspection is None or inspection.state == "done"
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
        inspection_id=inspection and inspection.id,
        dry_run=request.dry_run,
        parent_job_id=parent and parent.id,
        cache_key=cache_key,
        profile_key=key_of(s, scope, request, recipe, target),
        event_seq=0,
        idempotency_key=idempotency_key,
        idempotency_hash=body if idempotency_key is not None else None,
        created_at=db_now(),
        queued_at=db_now(),
    )
    if not inserted:  # the same key committed while we were at it
        return _found(_replayed(s, scope, idempotency_key, body))
    if source is None:  # else it neither waits nor works
        quotas.check_submit(s, scope, request.resources.device)
    job = get(s, scope, Job, job_id)
    inputs = {"model": request.model, **request.data.ids()}
    s.add_all(
        JobInput(job_id=job_id, role=role, project_id=scope.project_id, object_id=object_id)
        for role, object_id in inputs.items()
    )
    if request.track is not None:
        add_track(s, job, request.track)
    append(s, job, [("state", {"state": State.QUEUED.value, "attempt": 0, "reason": None})])
    if inspection is not None and ready:
        warn(s, job, inspection)
    if source is not None:
        cache.give(s, job, source)
        quotas.check_bytes(s, scope)
    elif (why := unserved(s, request.resources.device)) is not None:
        append(s, job, [("warning", {"code": "device_unserved", "detail": why})])
    return job


def prepare(
    s: Session, scope: Scope, request: JobRequest, idempotency_key: str | None = None
) -> Job | Inspection | None:
    """The first half of a submit that waits: the job of this key where there is one, else the inspection to wait for;
    None where the result is there already.

    Raises:
        Refused: as `submit`, except for what only a verdict can tell.
    """
    if (before := _replayed(s, scope, idempotency_key, _fingerprint(request))) is not None:
        return before
    preset, recipe, target = request.resolved()
    refuse_unplannable(recipe, target, request.ladder or Ladder())
    require(s, scope, request.inspection())
    if not request.dry_run:
        key = cache.key_of(s, scope, request, preset, recipe, target)
        if _cached(s, scope, request, key) is not None:
            return None
    quotas.foresee_submit(s, scope, request.resources.device)
    return request_inspection(s, scope, request.inspection())


def retry(
    s: Session, scope: Scope, job_id: str, changes: RetryRequest, idempotency_key: str | None = None
) -> tuple[Job, bool]:
    """A new job that does a failed or cancelled one again, from the beginning; and whether the same key made it before.

    Recipe and target are those of the first job, even where the preset has changed since.

    Raises:
        Refused: not_found (of the job; of inputs that were deleted), job_not_finished, job_succeeded, as `submit`.
    """
    before = _of_key(s, scope, idempotency_key)
    if before is not None and before.parent_job_id == job_id and not _there(s, scope, job_id):
        return before, True  # what it does again was deleted since
    parent = get(s, scope, Job, job_id)
    if parent.state not in TERMINAL:
        raise refuse("job_not_finished", f"the job is {parent.state.value}; only one that failed can be retried")
    if parent.state is State.SUCCEEDED:
        raise refuse("job_succeeded", 'the job has succeeded; POST /v1/jobs with cache "bypass" does it once more')
    known = {name: value for name, value in parent.spec.items() if name in JobRequest.model_fields}
    endpoint = (known.get("webhook") or {}).get("endpoint")
    if endpoint is not None and s.get(WebhookEndpoint, endpoint) is None:
        known["webhook"] = None  # deleted since; there is nobody to tell
    changed = changes.model_dump(mode="json", exclude_none=True)
    request = JobRequest.model_validate({**known, "preset": None, **changed})
    if (before := _replayed(s, scope, idempotency_key, _fingerprint(request, parent))) is not None:
        return before, True
    return submit(s, scope, request, idempotency_key, parent=parent), False


def _fingerprint(request: JobRequest, parent: Job | None = None) -> str:
    """What an idempotency key stands for."""
    again = {} if parent is None else {"parent": parent.id}
    return digest({**request.model_dump(mode="json"), **again})


def _cached(s: Session, scope: Scope, request: JobRequest, key: str | None, *, hold: bool = False) -> Job | None:
    if key is None or request.cache == "bypass":
        return None
    return cache.find(s, scope, key, request.resources.device, hold=hold)


def _replayed(s: Session, scope: Scope, key: str | None, body: str) -> Job | None:
    job = _of_key(s, scope, key)
    if job is not None and job.idempotency_hash != body:
        raise refuse("idempotency_key_reused", f"this Idempotency-Key made {job.id} from another body; use a new key")
    return job


def _of_key(s: Session, scope: Scope, key: str | None) -> Job | None:
    """The job that an idempotency key made."""
    if key is None:
        return None
    made = scoped(Job, scope).where(Job.idempotency_key == key)
    return s.scalars(made.execution_options(populate_existing=True)).one_or_none()


def _there(s: Session, scope: Scope, job_id: str) -> bool:
    return s.scalars(scoped(Job, scope).where(Job.id == job_id)).one_or_none() is not None


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
