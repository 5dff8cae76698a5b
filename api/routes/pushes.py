"""Pushes: artifacts on their way to a registry. This process only writes down what is asked for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import schemas, views
from api.auth import Reader, Writer
from api.context import Ctx
from api.errors import responses
from api.paging import Id, Window
from jobs import service, tables
from jobs.requests import PushRequest
from jobs.scope import get, page

router = APIRouter(tags=["pushes"])


@router.get("/v1/registries")
def list_registries(context: Ctx, scope: Reader) -> schemas.RegistryList:
    """Where artifacts of this project may be pushed to."""
    return schemas.RegistryList(
        data=[
            schemas.Registry(name=name, kind=one.kind, url=one.url, prefixes=list(one.prefixes))
            for name, one in sorted(context.registries.of(scope.project_id).items())
        ]
    )


@router.post(
    "/v1/artifacts/{artifact_id}/push",
    status_code=201,
    responses={
        200: {"model": schemas.Push, "description": "This very push is under way already."},
        **responses(400, 404, 410, 413, 415, 422),
    },
)
def push_artifact(artifact_id: Id, body: PushRequest, response: Response, context: Ctx, scope: Writer) -> schemas.Push:
    """Send every file of an artifact to a registry, byte for byte. Asking again adds nothing to what is there."""
    with context.database.sessions.begin() as s:
        get(s, scope, tables.Artifact, artifact_id)
        context.registries.find(scope.project_id, body)
        row, made = service.request_push(s, scope, artifact_id, body)
    response.status_code = 201 if made else 200
    response.headers["Location"] = f"/v1/pushes/{row.id}"
    return views.push(row)


@router.get("/v1/pushes", responses=responses(404, 422))
def list_pushes(
    context: Ctx,
    scope: Reader,
    window: Window,
    artifact_id: Annotated[str | None, Query(max_length=64, description="Only pushes of this artifact.")] = None,
) -> schemas.PushList:
    """Pushes of the project, newest first."""
    where = [] if artifact_id is None else [tables.Push.artifact_id == artifact_id]
    with context.database.readers() as s:
        if artifact_id is not None:
            get(s, scope, tables.Artifact, artifact_id, param="query.artifact_id")
        rows, more = page(s, scope, tables.Push, **window, where=where)
    return schemas.PushList(**views.page(rows, [views.push(row) for row in rows], more))


@router.get("/v1/pushes/{push_id}", responses=responses(404, 422))
def get_push(push_id: Id, context: Ctx, scope: Reader) -> schemas.Push:
    """One push."""
    with context.database.readers() as s:
        return views.push(get(s, scope, tables.Push, push_id))


@router.delete("/v1/pushes/{push_id}", status_code=204, responses=responses(404, 422))
def delete_push(push_id: Id, context: Ctx, scope: Writer) -> None:
    """Forget a push; one that is under way is stopped. What has reached the registry stays there."""
    with context.database.sessions.begin() as s:
        service.delete_push(s, scope, push_id)
