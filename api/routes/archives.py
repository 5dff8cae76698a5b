"""A whole artifact in one request: a zip of its files as they are, made while it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from zipstream import ZipStream

from api.auth import Reader
from api.context import Ctx
from api.errors import responses
from api.paging import Id
from api.routes.artifacts import opened
from jobs import service, tables
from jobs.scope import get, scoped
from jobs.store import CHUNK

router = APIRouter(tags=["artifacts"])


@router.get(
    "/v1/artifacts/{artifact_id}/archive",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The archive.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        **responses(404, 410, 422),
    },
)
def download_archive(artifact_id: Id, context: Ctx, scope: Reader) -> StreamingResponse:
    """All files of an artifact as a zip with one folder, stored and not packed: weights hardly shrink.

    Its length is known before it begins; ranges are not served, so over a weak line take the files one by one.
    """
    with context.database.readers() as s:
        service.require_files(get(s, scope, tables.Artifact, artifact_id))
        mine = scoped(tables.ArtifactFile, scope).where(tables.ArtifactFile.artifact_id == artifact_id)
        files = s.scalars(mine.order_by(tables.ArtifactFile.path)).all()
    archive = ZipStream(sized=True)
    for file in files:
        archive.add(_pieces(opened(context, scope, file)), f"{artifact_id}/{file.path}", size=file.size)
    headers = {
        "Content-Length": str(len(archive)),
        "Content-Disposition": f'attachment; filename="{artifact_id}.zip"',
        "Cache-Control": "private, no-store",
    }
    return StreamingResponse(iter(archive), headers=headers, media_type="application/zip")


def _pieces(blob: Callable[[], BinaryIO]) -> Iterator[bytes]:
    with blob() as source:
        while chunk := source.read(CHUNK):
            yield chunk
