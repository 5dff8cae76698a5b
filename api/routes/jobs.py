"""Jobs: create, look, cancel, forget."""

from __future__ import annotations

import re
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Response

from api import schemas, views
from api.auth import Reader, Writer
from api.context import Context, Ctx
from api.errors import responses
from api.paging import After, Id, Limit
from api.verdicts import verdict
from jobs import service, tables
from jobs.problem import refuse
from jobs.queue import announce
from jobs.requests import JobRequest
from jobs.scope import Scope, get, page
from jobs.states import State

router = APIRouter(tags=["jobs"])
KEY = re.compile(r"[\x21-\x7e]{1,255}")


@router.post("/v1/jobs", status_code=201, responses=responses(400, 404, 409, 413, 415, 422))
async def create_job(
    body: JobRequest,
    response: Response,
    context: Ctx,
    scope: Writer,
    idempotency_key: Annotated[
        str | None,
        Header(description="The same key and body give the same job; 1 to 255 visible ASCII characters."),
    ] = None,
) -> schemas.Job:
    """Compress a model. Bad input is refused here where the inspection ends in time, else the job fails with the same
    problem."""
    if idempotency_key is not None and not KEY.fullmatch(idempotency_key):
        raise refuse(
            "header_invalid",
            "Idempotency-Key: legal are 1 to 255 visible ASCII characters",
            param="header.idempotency-key",
        )
    if body.push is not None:
        context.registries.find(scope.project_id, body.push, at="/push")
    if body.track is not None:
        context.registries.tracker(scope.project_id, body.track, at="/track")
    found = await run_sync(_prepare, context, scope, body, idempotency_key)
    if isinstance(found, tables.Inspection):
        await verdict(context, scope, found)
    else:
        response.headers["Idempotent-Replayed"] = "true"
    answer = await run_sync(_submit, context, scope, body, idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{answer.id}"
    return answer


@router.get("/v1/jobs", responses=responses(422))
def list_jobs(
    context: Ctx,
    scope: Reader,
    limit: Limit = 20,
    after: After = None,
    status: Annotated[State | None, Query(description="Only jobs in this status.")] = None,
) -> schemas.JobList:
    """Jobs of the project, newest first."""
    equal = {} if status is None else {"state": status}
    with context.database.readers() as s:
        rows, more = page(s, scope, tables.Job, limit=limit, after=after, **equal)
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


@router.delete("/v1/jobs/{job_id}", status_code=204, responses=responses(404, 409, 422))
def delete_job(job_id: Id, context: Ctx, scope: Writer) -> None:
    """Forget a job that has ended, with its artifacts. Their bytes are gone within a day."""
    with context.database.sessions.begin() as s:
        service.delete_job(s, scope, job_id)


def _prepare(context: Context, scope: Scope, body: JobRequest, key: str | None) -> tables.Job | tables.Inspection:
    with context.database.sessions.begin() as s:
        return service.prepare(s, scope, body, key)


def _submit(context: Context, scope: Scope, body: JobRequest, key: str | None) -> schemas.Job:
    with context.database.sessions.begin() as s:
        job = service.submit(s, scope, body, key)
        answer = views.jobs(s, scope, [job], context.settings.lease_s)[0]
    if job.claimable and job.state is State.QUEUED:
        announce(context.settings, "job")
    return answer
