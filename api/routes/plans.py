"""Plans: what a job would give, before it runs."""

from __future__ import annotations

from anyio.to_thread import run_sync
from fastapi import APIRouter, Response

from api import schemas, views
from api.auth import Writer
from api.context import Context, Ctx
from api.errors import responses
from api.once import ASK_AGAIN
from api.verdicts import verdict
from jobs import service
from jobs.queue import announce
from jobs.requests import PlanRequest
from jobs.scope import Scope
from jobs.states import State

router = APIRouter(tags=["plans"])


@router.post(
    "/v1/plans",
    openapi_extra=ASK_AGAIN,
    responses={
        202: {"model": schemas.Plan, "description": "Something is still to be found out: POST again."},
        **responses(400, 404, 409, 413, 415, 422),
    },
)
async def create_plan(body: PlanRequest, response: Response, context: Ctx, scope: Writer) -> schemas.Plan:
    """Numbers, sizes and milliseconds of every point that a job of these inputs would make.

    What only measuring tells is measured first, by a dry run (`job_id`, a job of its own), and kept for the model and
    its data: the next plan and the job itself find it.
    """
    found = await run_sync(_plan, context, scope, body)
    if found.known is None and found.making is None:
        await verdict(context, scope, found.inspection)
        found = await run_sync(_plan, context, scope, body)
    points = () if found.known is None else await run_sync(found.known.points)
    response.status_code = 200 if points else 202
    return views.plan(found, points)


def _plan(context: Context, scope: Scope, body: PlanRequest) -> service.Planned:
    with context.database.sessions.begin() as s:
        found = service.plan(s, scope, body)
    if found.making is not None and found.making.state is State.QUEUED:
        announce(context.settings, "job")
    return found
