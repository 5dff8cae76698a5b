"""Artifacts: delivered models, file by file, with ranges and digests."""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Annotated, BinaryIO

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi import Path as PathParam
from fastapi.responses import FileResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable

from api import schemas, views
from api.auth import Reader, Writer
from api.context import Context, Ctx
from api.errors import responses
from api.paging import Id, Window
from core import transport
from jobs import service, tables
from jobs.problem import refuse
from jobs.scope import Scope, get, page, scoped

router = APIRouter(tags=["artifacts"])
ANY = {"schema": {"type": "string", "format": "binary"}}
BYTES = {
    "content": {"application/octet-stream": ANY, "*/*": {"schema": {"description": "The bytes of the file."}}}
}  # a file comes as what it is
# A blob never changes; which coding it comes in depends on who asks.
KEPT = {"Cache-Control": "private, immutable, max-age=31536000", "Vary": "Accept-Encoding"}
FILE = "/v1/artifacts/{artifact_id}/files/{path:path}"


class BlobResponse(FileResponse):
    """A blob under its sha256: strong ETag, digests, ranges. A blob never changes, so neither does its ETag.

    Args:
        blob: opens it; what comes is of `file.size` bytes and can be read from any place on.
    """

    def __init__(self, blob: Callable[[], BinaryIO], file: tables.ArtifactFile, *, partial: bool) -> None:
        digest = f"sha-256=:{base64.b64encode(bytes.fromhex(file.sha256)).decode()}:"
        headers = {**KEPT, "ETag": etag(file), "Repr-Digest": digest}
        if not partial:
            headers["Content-Digest"] = digest  # RFC 9530: of the bytes sent, so not on a range
        name = PurePosixPath(file.path).name
        self._blob = blob
        # Of the status, size and time are looked at; the row knows the size, and a blob has no time but its ETag.
        status = os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, file.size, 0, 0, 0))
        super().__init__(name, headers=headers, media_type=file.media_type, filename=name, stat_result=status)
        del self.headers["last-modified"]

    def _should_use_range(self, http_if_range: str) -> bool:
        """RFC 9110: only a strong tag that is ours."""
        return http_if_range == self.headers["etag"]

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        """Where Starlette opens a path, the store opens a blob."""
        file = anyio.wrap_file(await run_sync(self._blob))
        try:
            yield file
        finally:
            with anyio.CancelScope(shield=True):
                await file.aclose()

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """RFC 9110: a malformed Range is ignored. Starlette would answer text/plain to this and to a bad range."""
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []
        except RangeNotSatisfiable:
            raise HTTPException(416, headers={"Content-Range": f"bytes */{file_size}"}) from None


def encoded(blob: Callable[[], BinaryIO], file: tables.ArtifactFile, *, head: bool) -> Response:
    """The same blob under the content coding zstd. Its tag is another: a strong one is of the bytes as sent."""

    def pieces() -> Iterator[bytes]:
        with blob() as source:
            yield from transport.encoded(source)

    headers = {**KEPT, "ETag": etag(file, transport.CODING), "Content-Encoding": transport.CODING}
    if head:  # how long it will be is known when it has been sent
        return Response(headers=headers, media_type=file.media_type)
    return StreamingResponse(pieces(), headers=headers, media_type=file.media_type)


def wanted(accept_encoding: str) -> bool:
    """Whether a client asks for zstd by name (RFC 9110 12.5.3): "*" and silence mean the file as it is."""
    for one in accept_encoding.lower().split(","):
        coding, _, weight = one.partition(";")
        if coding.strip() == transport.CODING:
            return not re.fullmatch(r"q=0(\.0*)?", weight.replace(" ", ""))
    return False


@router.get("/v1/artifacts/{artifact_id}", responses=responses(404, 422))
def get_artifact(artifact_id: Id, context: Ctx, scope: Reader) -> schemas.Artifact:
    """A delivered model: its figures and its files with size and sha256."""
    with context.database.readers() as s:
        return views.artifacts(s, scope, [get(s, scope, tables.Artifact, artifact_id)])[0]


@router.get("/v1/artifacts", responses=responses(404, 422))
def list_artifacts(
    context: Ctx,
    scope: Reader,
    window: Window,
    job_id: Annotated[str | None, Query(max_length=64, description="Only artifacts of this job.")] = None,
) -> schemas.ArtifactList:
    """Artifacts of the project, newest first."""
    with context.database.readers() as s:
        if job_id is not None:
            get(s, scope, tables.Job, job_id, param="query.job_id")
        where = [] if job_id is None else [tables.Artifact.job_id == job_id]
        rows, more = page(s, scope, tables.Artifact, **window, where=where)
        return schemas.ArtifactList(**views.page(rows, views.artifacts(s, scope, rows), more))


@router.patch("/v1/artifacts/{artifact_id}", responses=responses(400, 404, 410, 413, 415, 422))
def keep_artifact(artifact_id: Id, body: schemas.Keep, context: Ctx, scope: Writer) -> schemas.Artifact:
    """Set when the files of an artifact go by themselves."""
    with context.database.sessions.begin() as s:
        row = service.keep_until(s, scope, tables.Artifact, artifact_id, body.at())
        return views.artifacts(s, scope, [row])[0]


@router.delete("/v1/artifacts/{artifact_id}", status_code=204, responses=responses(404, 409, 422))
def delete_artifact(artifact_id: Id, context: Ctx, scope: Writer) -> None:
    """Forget the files of an artifact; the job keeps its figures. Their bytes are gone within a day."""
    with context.database.sessions.begin() as s:
        service.drop_files(s, scope, artifact_id)


@router.get(
    FILE,
    response_class=Response,
    responses={
        200: {"description": "The file.", **BYTES},
        206: {"description": "The range asked for.", **BYTES},
        307: {"description": "The file lies at the address in Location for some minutes; ask there without the key."},
        304: {"description": "If-None-Match names the file's ETag."},
        **responses(404, 410, 416, 422),
    },
)
@router.head(FILE, response_class=Response, include_in_schema=False)
def download_file(
    artifact_id: Id,
    path: Annotated[str, PathParam(max_length=255, description="As the artifact lists it.")],
    request: Request,
    context: Ctx,
    scope: Reader,
    if_none_match: Annotated[str | None, Header()] = None,
    accept_encoding: Annotated[str, Header(description="zstd: sent entropy-coded where no range is asked for.")] = "",
) -> Response:
    """One file. The ETag is its sha256; with a coding, that and the coding."""
    file = _file(context, scope, artifact_id, path)
    ranged = "range" in request.headers
    coded = wanted(accept_encoding) and not ranged
    # Who has the file under either tag has it.
    for tag in (etag(file, transport.CODING), etag(file)) if coded else (etag(file),):
        if if_none_match is not None and _matches(if_none_match, tag):
            return Response(status_code=304, headers={"ETag": tag, "Vary": "Accept-Encoding"})
    head, seconds = request.method == "HEAD", context.settings.store_redirect_s
    if not head and seconds and (address := context.store.presigned(scope.project_id, file.sha256, seconds)):
        # The address is a key of its own: it is kept nowhere.
        return Response(status_code=307, headers={"Location": address, "Cache-Control": "private, no-store"})
    blob = opened(context, scope, file)
    return encoded(blob, file, head=head) if coded else BlobResponse(blob, file, partial=ranged)


def etag(file: tables.ArtifactFile, coding: str = "") -> str:
    """The strong ETag of a file as it is sent."""
    return f'"{file.sha256}{coding and "-" + coding}"'


def _matches(if_none_match: str, tag: str) -> bool:
    """Weak comparison, as RFC 9110 13.1.2 asks for."""
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in given or tag in given


def opened(context: Context, scope: Scope, file: tables.ArtifactFile) -> Callable[[], BinaryIO]:
    """Raises Refused (artifact_damaged, unavailable) before anything of the answer has gone."""
    try:
        size = context.store.size(scope.project_id, file.sha256)
    except FileNotFoundError:
        size = -1
    if size != file.size:
        raise refuse("artifact_damaged", f"{file.path} must have {file.size} bytes; the store has not")
    return partial(context.store.open, scope.project_id, file.sha256)


def _file(context: Context, scope: Scope, artifact_id: str, path: str) -> tables.ArtifactFile:
    """Raises Refused: not_found, the same for an absent artifact and an absent file; expired."""
    if "\x00" not in artifact_id + path:  # PostgreSQL would refuse it with an error of its own
        query = scoped(tables.ArtifactFile, scope).where(
            tables.ArtifactFile.artifact_id == artifact_id, tables.ArtifactFile.path == path
        )
        with context.database.readers() as s:
            if (file := s.scalars(query).one_or_none()) is not None:
                return file
            gone = scoped(tables.Artifact, scope).where(tables.Artifact.id == artifact_id)
            if (row := s.scalars(gone).one_or_none()) is not None:
                service.require_files(row)
    raise refuse("not_found", "no artifact of this project has this id and a file of this name")
