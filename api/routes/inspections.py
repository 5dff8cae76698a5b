"""Inspections: can this model be compressed with this data?"""

from __future__ import annotations

from anyio.to_thread import run_sync
from fastapi import APIRouter, Response

from api import schemas, views
from api.auth import Reader, Writer
from api.context import Context, Ctx
from api.errors import responses
from api.once import ASK_AGAIN
from api.paging import Id
from api.verdicts import verdict
from jobs import service, tables
from jobs.requests import InspectionRequest
from jobs.scope import Scope

router = APIRouter(tags=["inspections"])


@router.post(
    "/v1/inspections",
    openapi_extra=ASK_AGAIN,
    responses={
        202: {"model": schemas.Inspection, "description": "Not done yet: GET it, or POST again."},
        **responses(400, 404, 409, 413, 415, 422),
    },
)
async def create_inspection(
    body: InspectionRequest, response: Response, context: Ctx, scope: Writer
) -> schemas.Inspection:
    """Ask for the verdict on a model and its data. The same question gives the stored verdict.

    What the teacher answers on a sample of rows is added to its findings later.
    """
    row = await run_sync(_request, context, scope, body)
    row = await verdict(context, scope, row)
    response.status_code = 200 if row.state == "done" else 202
    response.headers["Location"] = f"/v1/inspections/{row.id}"
    return views.inspection(row)


@router.get("/v1/inspections/{inspection_id}", responses=responses(404, 422))
def get_inspection(inspection_id: Id, context: Ctx, scope: Reader) -> schemas.Inspection:
    """One inspection."""
    with context.database.readers() as s:
        return views.inspection(service.get_inspection(s, scope, inspection_id))


def _request(context: Context, scope: Scope, body: InspectionRequest) -> tables.Inspection:
    with context.database.sessions.begin() as s:
        return service.request_inspection(s, scope, body, sample=True)
