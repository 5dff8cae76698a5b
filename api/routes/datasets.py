"""Datasets: one file each, sent as the raw body."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Request, Response

from api import schemas, sourcing, uploads, views
from api.auth import Reader, Writer
from api.context import Context, Ctx
from api.errors import responses
from api.paging import Id, Window
from jobs import quotas, service, tables
from jobs.requests import Text
from jobs.scope import Scope, get, page
from jobs.store import Blob

router = APIRouter(tags=["datasets"])
BINARY = {"schema": {"type": "string", "format": "binary"}}
MEDIA = ("text/csv", "application/jsonl", "application/vnd.apache.parquet", "application/octet-stream")


@router.post(
    "/v1/datasets",
    status_code=201,
    responses=responses(408, 413, 415, 422, 507),
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(MEDIA, BINARY)}},
)
async def create_dataset(
    request: Request,
    response: Response,
    context: Ctx,
    scope: Writer,
    name: Annotated[Text | None, Query(description="File name; its suffix may say the format.")] = None,
    source: Annotated[Text | None, Query(description="Instead of a body: a file below a source that is open.")] = None,
    content_type: Annotated[str, Header(include_in_schema=False)] = "",
) -> schemas.Dataset:
    """Send CSV, JSONL or Parquet. The format comes from Content-Type, or from the suffix of `name`."""
    if source is not None:
        answer = await run_sync(sourcing.take_dataset, context, scope, name, source)
        response.headers["Location"] = f"/v1/datasets/{answer.id}"
        return answer
    format_ = uploads.dataset_format(content_type, name)
    await run_sync(_has_room, context, scope, uploads.announced_length(request) or 0)
    blob = await uploads.receive(
        request,
        context.store,
        scope.project_id,
        max_bytes=context.settings.max_dataset_bytes,
        sha256=None,
        check=uploads.dataset_check(format_),
    )
    answer = await run_sync(_create, context, scope, name, format_, blob)
    response.headers["Location"] = f"/v1/datasets/{answer.id}"
    return answer


@router.get("/v1/datasets", responses=responses(422))
def list_datasets(context: Ctx, scope: Reader, window: Window) -> schemas.DatasetList:
    """Datasets of the project, newest first."""
    with context.database.readers() as s:
        rows, more = page(s, scope, tables.Dataset, **window)
    return schemas.DatasetList(**views.page(rows, [views.dataset(row) for row in rows], more))


@router.get("/v1/datasets/{dataset_id}", responses=responses(404, 422))
def get_dataset(dataset_id: Id, context: Ctx, scope: Reader) -> schemas.Dataset:
    """One dataset."""
    with context.database.readers() as s:
        return views.dataset(get(s, scope, tables.Dataset, dataset_id))


@router.patch("/v1/datasets/{dataset_id}", responses=responses(400, 404, 413, 415, 422))
def keep_dataset(dataset_id: Id, body: schemas.Keep, context: Ctx, scope: Writer) -> schemas.Dataset:
    """Set when a dataset goes by itself."""
    with context.database.sessions.begin() as s:
        return views.dataset(service.keep_until(s, scope, tables.Dataset, dataset_id, body.at()))


@router.delete("/v1/datasets/{dataset_id}", status_code=204, responses=responses(404, 409, 422))
def delete_dataset(dataset_id: Id, context: Ctx, scope: Writer) -> None:
    """Forget a dataset that no unfinished job needs. Its bytes are gone within a day."""
    with context.database.sessions.begin() as s:
        service.delete_dataset(s, scope, dataset_id)


def _create(context: Context, scope: Scope, name: str | None, format_: str, blob: Blob) -> schemas.Dataset:
    with context.database.sessions.begin() as s:
        return views.dataset(
            service.create_dataset(s, scope, name, format_, blob, keep_s=context.settings.keep_uploads_s)
        )


def _has_room(context: Context, scope: Scope, announced: int) -> None:
    with context.database.readers() as s:
        quotas.foresee_bytes(s, scope, announced)
