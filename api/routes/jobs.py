"""Jobs: create, look, cancel, forget."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy import ColumnElement, exists

from api import once, schemas, views
from api.auth import Reader, Writer
from api.context import Context, Ctx
from api.errors import responses
from api.paging import Id, Window, storable
from api.verdicts import verdict
from jobs import service, tables
from jobs.problem import refuse
from jobs.queue import announce
from jobs.requests import JobRequest, RetryRequest
from jobs.scope import Scope, get, has_pair, page
from jobs.states import State

router = APIRouter(tags=["jobs"])


METADATA = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "description": "metadata[KEY]=VALUE: only jobs that carry this pair; several have to hold all.",
    "style": "deepObject",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 16},
}
IdempotencyKey = Annotated[
    str | None, Header(description="The same key and body give the same job; 1 to 255 visible ASCII characters.")
]


@router.post("/v1/jobs", status_code=201, responses=responses(400, 404, 409, 413, 415, 422))
async def create_job(
    body: JobRequest,
    response: Response,
    context: Ctx,
    scope: Writer,
    idempotency_key: IdempotencyKey = None,
) -> schemas.Job:
    """Compress a model. Bad input is refused here where the inspection ends in time, else the job fails with the same
    problem."""
    once.check_key(idempotency_key)
    if body.push is not None:
        context.registries.find(scope.project_id, body.push, at="/push")
    if body.track is not None:
        context.registries.tracker(scope.project_id, body.track, at="/track")
    found = await run_sync(_prepare, context, scope, body, idempotency_key)
    if isinstance(found, tables.Inspection):
        await verdict(context, scope, found)
    elif found is not None:
        response.headers["Idempotent-Replayed"] = "true"
    answer = await run_sync(_submit, context, scope, body, idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{answer.id}"
    return answer


@router.get("/v1/jobs", responses=responses(422), openapi_extra={"parameters": [METADATA]})
def list_jobs(
    request: Request,
    context: Ctx,
    scope: Reader,
    window: Window,
    status: Annotated[list[State] | None, Query(description="Only jobs in this status, or in one of these.")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only jobs of this name.")] = None,
    model: Annotated[str | None, Query(max_length=64, description="Only jobs that compress this model.")] = None,
) -> schemas.JobList:
    """Jobs of the project, newest first."""
    with context.database.readers() as s:
        where: list[ColumnElement[bool]] = [] if status is None else [tables.Job.state.in_(status)]
        where += [] if name is None else [tables.Job.name == storable(name, "query.name")]
        if model is not None:
            used = (tables.JobInput.object_id == storable(model, "query.model"), tables.JobInput.role == "model")
            where.append(exists().where(tables.JobInput.job_id == tables.Job.id, *used))
        for key, value in _pairs(request):
            where.append(has_pair(s, tables.Job.meta.expression, key, value))
        rows, more = page(s, scope, tables.Job, **window, where=where)
        answers = views.jobs(s, scope, rows, context.settings.lease_s)
    return schemas.JobList(**views.page(rows, answers, more))


@router.get("/v1/jobs/{job_id}", responses=responses(404, 422))
def get_job(job_id: Id, context: Ctx, scope: Reader) -> schemas.Job:
    """One job."""
    with context.database.readers() as s:
        return views.jobs(s, scope, [get(s, scope, tables.Job, job_id)], context.settings.lease_s)[0]


@router.post("/v1/jobs/{job_id}/cancel", status_code=202, responses=responses(404, 409, 422))
def cancel_job(job_id: Id, context: Ctx, scope: Writer) -> schemas.Job:
    """Ask for the end of a job. A running one is `cancelling` until its processes are gone. Asking again is fine."""
    with context.database.sessions.begin() as s:
        job = service.cancel(s, scope, job_id)
        return views.jobs(s, scope, [job], context.settings.lease_s)[0]


@router.post("/v1/jobs/{job_id}/pause", status_code=202, responses=responses(404, 409, 422))
def pause_job(job_id: Id, context: Ctx, scope: Writer) -> schemas.Job:
    """Stop a job for a while; it keeps its checkpoint. A running one is `pausing` until its processes are gone."""
    with context.database.sessions.begin() as s:
        job = service.pause(s, scope, job_id)
        return views.jobs(s, scope, [job], context.settings.lease_s)[0]


@router.post("/v1/jobs/{job_id}/resume", status_code=202, responses=responses(404, 409, 422))
def resume_job(job_id: Id, context: Ctx, scope: Writer) -> schemas.Job:
    """Queue a paused job again; it goes on from its last checkpoint. Time spent paused counts for no limit."""
    with context.database.sessions.begin() as s:
        job = service.resume(s, scope, job_id)
        answer = views.jobs(s, scope, [job], context.settings.lease_s)[0]
    _announce(context, job)
    return answer


@router.post("/v1/jobs/{job_id}/retry", status_code=201, responses=responses(400, 404, 409, 413, 415, 422))
def retry_job(
    job_id: Id,
    response: Response,
    context: Ctx,
    scope: Writer,
    body: RetryRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> schemas.Job:
    """Do a failed or cancelled job again: a new job with the same order, whose `parent_job_id` is the old one."""
    once.check_key(idempotency_key)
    with context.database.sessions.begin() as s:
        job, replayed = service.retry(s, scope, job_id, body or RetryRequest(), idempotency_key)
        answer = views.jobs(s, scope, [job], context.settings.lease_s)[0]
    _announce(context, job)
    response.headers["Location"] = f"/v1/jobs/{answer.id}"
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return answer


@router.delete("/v1/jobs/{job_id}", status_code=204, responses=responses(404, 409, 422))
def delete_job(job_id: Id, context: Ctx, scope: Writer) -> None:
    """Forget a job that has ended, with its artifacts. Their bytes are gone within a day."""
    with context.database.sessions.begin() as s:
        service.delete_job(s, scope, job_id)


def _pairs(request: Request) -> list[tuple[str, str]]:
    """The pairs of `metadata[KEY]=VALUE`. Raises Refused (request_invalid)."""
    found = []
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata["):
            if not name.endswith("]") or len(name) == len("metadata[]"):
                legal = f"query.{name[:80]}: legal: metadata[KEY]=VALUE"
                raise refuse("request_invalid", legal, param=f"query.{name[:80]}")
            found.append((storable(name[len("metadata[") : -1], "query.metadata"), storable(value, "query.metadata")))
    return found


def _prepare(
    context: Context, scope: Scope, body: JobRequest, key: str | None
) -> tables.Job | tables.Inspection | None:
    with context.database.sessions.begin() as s:
        return service.prepare(s, scope, body, key)


def _submit(context: Context, scope: Scope, body: JobRequest, key: str | None) -> schemas.Job:
    with context.database.sessions.begin() as s:
        job = service.submit(s, scope, body, key)
        answer = views.jobs(s, scope, [job], context.settings.lease_s)[0]
    _announce(context, job)
    return answer


def _announce(context: Context, job: tables.Job) -> None:
    if job.claimable and job.state is State.QUEUED:
        announce(context.settings, "job")
