"""Resumable uploads by tus 1.0: created with what they are to become, sent in as many pieces as it takes."""

from __future__ import annotations

import re
from typing import Annotated

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.requests import ClientDisconnect

from api import schemas_uploads as schemas
from api import tus, uploads, views
from api.appending import Append
from api.auth import Reader, Writer, reader
from api.context import Context, Ctx
from api.errors import TUS_VERSION, responses
from api.paging import Id, Window
from jobs import service, tables
from jobs.problem import Refused, refuse
from jobs.scope import Scope, page

router = APIRouter(tags=["uploads"])
UPLOAD = "/v1/uploads/{upload_id}"
KEYS = {
    "dataset": ("purpose", "filename", "filetype", "sha256"),
    "model_file": ("purpose", "model", "path", "filename", "filetype", "sha256"),
}
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
METADATA = "header.upload-metadata"
Version = Annotated[str, Header(description=f"{TUS_VERSION}, always.")]


@router.post("/v1/uploads", status_code=201, response_class=Response, responses={
    201: {"description": "Made; Location names it.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **responses(400, 404, 409, 412, 413, 415, 422, 429, 507),
})  # fmt: skip
def create_upload(
    request: Request,
    context: Ctx,
    scope: Writer,
    tus_resumable: Version = "",
    upload_length: Annotated[str, Header(description="Bytes of the whole.")] = "",
    upload_metadata: Annotated[str, Header(description="purpose, sha256 and more in base64; see docs/api.md.")] = "",
) -> Response:
    """Begin an upload that may be cut and resumed: a dataset, or a declared file of a model. PATCH brings its bytes."""
    tus.require_version(tus_resumable)
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise refuse("request_invalid", "a body was sent; legal: none, the bytes of an upload come by PATCH")
    length, asked = tus.number("upload-length", upload_length), tus.metadata(upload_metadata)
    if not length:
        param = "header.upload-length"
        raise refuse("header_invalid", f"{param}: 0; legal: at least one byte", param=param)
    settings = context.settings
    wanted = _wanted(context, scope, asked, length)
    with context.database.sessions.begin() as s:
        row = service.start_upload(
            s, scope, wanted, ttl_s=settings.upload_ttl_s, most=settings.max_uploads, place=context.staging.create
        )
    location = {"Location": f"/v1/uploads/{row.id}"}
    return Response(status_code=201, headers={**tus.headers(row), **location})


@router.options(
    "/v1/uploads", status_code=204, response_class=Response, include_in_schema=False, dependencies=[Depends(reader)]
)
def get_upload_options(context: Ctx) -> Response:
    """What of tus is spoken here."""
    most = max(context.settings.max_model_bytes, context.settings.max_dataset_bytes)
    told = {"Tus-Version": TUS_VERSION, "Tus-Extension": tus.EXTENSIONS, "Tus-Max-Size": str(most)}
    told["Tus-Checksum-Algorithm"] = ",".join(tus.ALGORITHMS)
    return Response(status_code=204, headers={**tus.headers(), **told})


@router.get("/v1/uploads", responses=responses(422))
def list_uploads(context: Ctx, scope: Reader, window: Window) -> schemas.UploadList:
    """Uploads of the project that are open or have lately been completed, newest first."""
    with context.database.readers() as s:
        rows, more = page(s, scope, tables.Upload, **window)
    return schemas.UploadList(**views.page(rows, [_view(row) for row in rows], more))


@router.get(UPLOAD, responses=responses(404, 422))
def get_upload(upload_id: Id, context: Ctx, scope: Reader) -> schemas.Upload:
    """One upload: where it stands and what it has become. HEAD is the same by tus, in headers."""
    with context.database.readers() as s:
        return _view(service.get_upload(s, scope, upload_id))


@router.head(UPLOAD, response_class=Response, include_in_schema=False)
def head_upload(upload_id: Id, context: Ctx, scope: Reader, tus_resumable: Version = "") -> Response:
    """Where an upload stands, as tus asks."""
    tus.require_version(tus_resumable)
    with context.database.readers() as s:
        row = service.get_upload(s, scope, upload_id)
    return Response(headers={**tus.headers(row), "Upload-Length": str(row.length)})


@router.patch(
    UPLOAD,
    status_code=204,
    response_class=Response,
    responses=responses(400, 404, 408, 409, 410, 412, 413, 415, 422, 460, 507),
    openapi_extra={"requestBody": {"required": True, "content": {tus.MEDIA_TYPE: {"schema": {
        "type": "string", "format": "binary"}}}}},
)  # fmt: skip
async def append_to_upload(
    upload_id: Id,
    request: Request,
    context: Ctx,
    scope: Writer,
    tus_resumable: Version = "",
    upload_offset: Annotated[str, Header(description="Where the upload stands.")] = "",
    upload_checksum: Annotated[str, Header(description="sha256 or sha1 of this body: ALGORITHM BASE64.")] = "",
) -> Response:
    """Send the next bytes. After the last one the dataset is there, or the file is in its model."""
    tus.require_version(tus_resumable)
    if request.headers.get("content-type") != tus.MEDIA_TYPE:
        sent = request.headers.get("content-type", "none")[:80]
        raise refuse("unsupported_media_type", f"content type {sent!r}; legal: {tus.MEDIA_TYPE}")
    offset, checksum = tus.number("upload-offset", upload_offset), tus.checksum(upload_checksum)
    length = uploads.announced_length(request)
    append = await run_sync(Append, context, scope, upload_id, offset, length, checksum)
    try:
        async for batch in uploads.batches(request):
            await run_sync(append.write, batch)
        row = await run_sync(append.finish)
    except (ClientDisconnect, Refused) as error:
        if isinstance(error, ClientDisconnect) or error.problem.code == "request_timeout":
            await run_sync(append.save)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(append.close)
    return Response(status_code=204, headers=tus.headers(row))


@router.delete(UPLOAD, status_code=204, response_class=Response, responses=responses(404, 422))
def delete_upload(upload_id: Id, context: Ctx, scope: Writer) -> Response:
    """Forget an upload and its bytes. A dataset or a file that it has become stays."""
    with context.database.sessions.begin() as s:
        service.delete_upload(s, scope, upload_id)
    context.staging.remove(upload_id)
    return Response(status_code=204, headers=tus.headers())


def _wanted(context: Context, scope: Scope, asked: dict[str, str], length: int) -> service.Wanted:
    """What the metadata of a creation asks for, checked as far as can be before the bytes come."""
    keys = KEYS.get(purpose := asked.get("purpose", ""))
    if keys is None:
        raise _illegal(f"purpose is {purpose[:40]!r}; legal: {', '.join(KEYS)}")
    if unknown := asked.keys() - set(keys):
        raise _illegal(f"{sorted(unknown)[0][:40]!r} is unknown; a {purpose} has: {', '.join(keys)}")
    sha256 = asked.get("sha256")
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise _illegal(f"sha256 is {sha256[:80]!r}; legal: 64 hex digits")
    name = asked.get("filename")
    if name is not None and not 0 < len(name) <= 200:
        raise _illegal(f"filename has {len(name)} characters; legal: 1 to 200")
    if purpose == "dataset":
        most = context.settings.max_dataset_bytes
        spec = {"name": name, "format": uploads.dataset_format(asked.get("filetype", ""), name)}
    else:
        path, model = asked.get("path", name or ""), asked.get("model", "")
        spec = {"model": model, "path": path}
        uploads.model_file_check(path)
        with context.database.readers() as s:
            limit = context.settings.max_model_bytes
            most, declared = service.file_limits(s, scope, model, path, length, limit)
        if declared is not None and sha256 is not None and declared.lower() != sha256.lower():
            raise refuse("sha256_mismatch", f"{path}: sha256 {sha256} is announced; {declared} was declared")
        sha256 = sha256 or declared
    if length > most:
        raise refuse("payload_too_large", f"{length} bytes are announced; at most {most} are taken")
    if sha256 is None:
        raise _illegal("sha256 is missing: an upload says what its bytes will hash to before the first one is sent")
    return service.Wanted(purpose, spec, length, sha256.lower())


def _illegal(detail: str) -> Refused:
    return refuse("request_invalid", f"{METADATA}: {detail}", param=METADATA)


def _view(row: tables.Upload) -> schemas.Upload:
    spec = row.spec
    return schemas.Upload(
        id=row.id,
        purpose="dataset" if row.purpose == "dataset" else "model_file",
        status="complete" if row.state == "complete" else "open",
        size_bytes=row.length,
        received_bytes=row.received,
        sha256=row.sha256,
        name=spec.get("name"),
        format=spec.get("format"),
        dataset_id=row.dataset_id,
        model_id=spec.get("model"),
        path=spec.get("path"),
        created_at=views.time(row.created_at),
        expires_at=views.time(row.expires_at),
    )
