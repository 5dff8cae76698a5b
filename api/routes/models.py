"""Models: declared as a list of files, then sent file by file."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Request, Response

from api import schemas, schemas_uploads, sourcing, uploads, views
from api.auth import Reader, Writer
from api.context import Context, Ctx
from api.errors import responses
from api.paging import Id, Window
from core.errors import ModelUnsafe
from core.upload import check_name
from jobs import service, tables
from jobs.problem import refuse
from jobs.scope import Scope, get, page
from jobs.store import Blob

router = APIRouter(tags=["models"])
BINARY = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@router.post("/v1/models", status_code=201, responses=responses(400, 413, 415, 422, 507))
def create_model(body: schemas_uploads.ModelCreate, response: Response, context: Ctx, scope: Writer) -> schemas.Model:
    """Declare a model: its files by name, then PUT each of them. Or have its files taken from a source that is open."""
    if body.source is not None:
        answer = sourcing.take_model(context, scope, body.name, body.source)
        response.headers["Location"] = f"/v1/models/{answer.id}"
        return answer
    _check_files(body.files, context.settings.max_model_bytes)
    files = [service.DeclaredFile(file.path, file.size, file.sha256) for file in body.files]
    with context.database.sessions.begin() as s:
        model = service.create_model(s, scope, body.name, files, keep_s=context.settings.keep_uploads_s)
        answer = views.models(s, scope, [model])[0]
    response.headers["Location"] = f"/v1/models/{answer.id}"
    return answer


@router.put(
    "/v1/models/{model_id}/files/{path:path}",
    responses=responses(404, 408, 409, 413, 422, 507),
    openapi_extra={"requestBody": BINARY},
)
async def put_model_file(
    model_id: Id,
    path: Annotated[str, Path(max_length=255, description="As declared; a bare file name.")],
    request: Request,
    context: Ctx,
    scope: Writer,
) -> schemas.Model:
    """Send one declared file as the raw body. The model is ready when none is missing."""
    check = uploads.model_file_check(path)
    max_bytes, sha256 = await run_sync(_limits, context, scope, model_id, path, uploads.announced_length(request))
    blob = await uploads.receive(
        request, context.store, scope.project_id, max_bytes=max_bytes, sha256=sha256, check=check
    )
    return await run_sync(_arrived, context, scope, model_id, path, blob)


@router.get("/v1/models", responses=responses(422))
def list_models(context: Ctx, scope: Reader, window: Window) -> schemas.ModelList:
    """Models of the project, newest first."""
    with context.database.readers() as s:
        rows, more = page(s, scope, tables.Model, **window)
        return schemas.ModelList(**views.page(rows, views.models(s, scope, rows), more))


@router.get("/v1/models/{model_id}", responses=responses(404, 422))
def get_model(model_id: Id, context: Ctx, scope: Reader) -> schemas.Model:
    """One model."""
    with context.database.readers() as s:
        return views.models(s, scope, [get(s, scope, tables.Model, model_id)])[0]


@router.patch("/v1/models/{model_id}", responses=responses(400, 404, 413, 415, 422))
def keep_model(model_id: Id, body: schemas.Keep, context: Ctx, scope: Writer) -> schemas.Model:
    """Set when a model goes by itself."""
    with context.database.sessions.begin() as s:
        return views.models(s, scope, [service.keep_until(s, scope, tables.Model, model_id, body.at())])[0]


@router.delete("/v1/models/{model_id}", status_code=204, responses=responses(404, 409, 422))
def delete_model(model_id: Id, context: Ctx, scope: Writer) -> None:
    """Forget a model that no unfinished job needs. Its bytes are gone within a day."""
    with context.database.sessions.begin() as s:
        service.delete_model(s, scope, model_id)


def _check_files(files: tuple[schemas_uploads.FileDeclared, ...], max_bytes: int) -> None:
    seen: set[str] = set()
    for index, file in enumerate(files):
        param = f"/files/{index}/path"
        try:
            check_name(file.path)
        except ModelUnsafe as error:
            raise ModelUnsafe(error.detail, param=param) from None
        if file.path in seen:
            raise refuse("request_invalid", f"{param}: {file.path!r} is declared twice; legal: once", param=param)
        seen.add(file.path)
    size = sum(file.size or 0 for file in files)
    if size > max_bytes:
        raise refuse("payload_too_large", f"the files have {size} bytes; a model has at most {max_bytes}")


def _limits(context: Context, scope: Scope, model_id: str, path: str, announced: int | None) -> tuple[int, str | None]:
    with context.database.readers() as s:
        return service.file_limits(s, scope, model_id, path, announced, context.settings.max_model_bytes)


def _arrived(context: Context, scope: Scope, model_id: str, path: str, blob: Blob) -> schemas.Model:
    with context.database.sessions.begin() as s:
        model = service.file_arrived(s, scope, model_id, path, blob, context.settings.max_model_bytes)
        return views.models(s, scope, [model])[0]
