"""The project's own affairs: who asks, its keys, what it has used, and what was done in it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import or_

from api import accounts, views
from api.auth import Admin, Reader
from api.context import Ctx
from api.errors import responses
from api.once import SECRET
from api.paging import Id, Window
from jobs import keys, quotas, tables
from jobs.requests import Text
from jobs.scope import get, page

router = APIRouter(tags=["account"])


@router.get("/v1/me")
def get_me(context: Ctx, scope: Reader) -> accounts.Me:
    """The project and rights of the key. Every key may ask this."""
    with context.database.readers() as s:
        project = s.get_one(tables.Project, scope.project_id)
        key = s.get(tables.ApiKey, scope.who)
        limits = quotas.limits(s, scope.project_id, scope.quotas)
    return accounts.Me(
        project_id=project.id,
        project_name=project.name,
        who=scope.who,
        scopes=sorted(scope.scopes),
        key=None if key is None else accounts.api_key(key),
        quotas=limits,
    )


@router.get("/v1/usage", responses=responses(422))
def get_usage(
    context: Ctx,
    scope: Reader,
    month: Annotated[
        str | None, Query(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$", description="YYYY-MM, UTC; this month where absent.")
    ] = None,
) -> accounts.Usage:
    """Bytes, jobs, seconds and quotas of the project. Bytes and jobs are those of now, whatever the month."""
    with context.database.readers() as s:
        return accounts.usage_of(s, scope, month)


@router.post("/v1/api_keys", status_code=201, openapi_extra=SECRET, responses=responses(400, 413, 415, 422))
def create_api_key(body: accounts.KeyCreate, response: Response, context: Ctx, scope: Admin) -> accounts.NewApiKey:
    """A new key of this project. Its token is shown in this answer and never again."""
    ends = None if body.expires_at is None else body.expires_at.timestamp()
    with context.database.sessions.begin() as s:
        row, token = keys.create_key(s, scope, body.name, body.scopes, ends)
    response.headers["Location"] = f"/v1/api_keys/{row.id}"
    response.headers["Cache-Control"] = "no-store"
    return accounts.new_api_key(row, token)


@router.get("/v1/api_keys", responses=responses(422))
def list_api_keys(context: Ctx, scope: Admin, window: Window) -> accounts.ApiKeyList:
    """Keys of the project, newest first, those that have ended too."""
    with context.database.readers() as s:
        rows, more = page(s, scope, tables.ApiKey, **window)
    return accounts.ApiKeyList(**views.page(rows, [accounts.api_key(row) for row in rows], more))


@router.get("/v1/api_keys/{key_id}", responses=responses(404, 422))
def get_api_key(key_id: Id, context: Ctx, scope: Admin) -> accounts.ApiKey:
    """One key, without its secret."""
    with context.database.readers() as s:
        return accounts.api_key(get(s, scope, tables.ApiKey, key_id))


@router.post("/v1/api_keys/{key_id}/rotate", openapi_extra=SECRET, responses=responses(400, 404, 409, 413, 415, 422))
def rotate_api_key(
    key_id: Id, body: accounts.KeyRotate, response: Response, context: Ctx, scope: Admin
) -> accounts.NewApiKey:
    """A new secret for a key. The one of before works for `grace_s` more seconds, and nobody is cut off."""
    with context.database.sessions.begin() as s:
        row, token = keys.rotate_key(s, scope, key_id, body.grace_s)
    response.headers["Cache-Control"] = "no-store"
    return accounts.new_api_key(row, token)


@router.delete("/v1/api_keys/{key_id}", status_code=204, responses=responses(404, 422))
def revoke_api_key(key_id: Id, context: Ctx, scope: Admin) -> None:
    """End a key for good, from the next request on. It stays in the list. Again changes nothing."""
    with context.database.sessions.begin() as s:
        keys.revoke_key(s, scope, key_id)


@router.get("/v1/audit", responses=responses(422))
def list_audit(
    context: Ctx,
    scope: Admin,
    window: Window,
    action: Annotated[Text | None, Query(description='"key.create", or "key" for all that begins so.')] = None,
    object_id: Annotated[Text | None, Query(description="Only what was done to this object.")] = None,
    who: Annotated[Text | None, Query(description="Only what this key or person did.")] = None,
) -> accounts.AuditList:
    """What was done in the project, newest first."""
    log = tables.Audit
    where = [column == value for column, value in ((log.object, object_id), (log.who, who)) if value is not None]
    if action is not None:
        where.append(or_(log.action == action, log.action.startswith(f"{action}.", autoescape=True)))
    with context.database.readers() as s:
        found, more = page(s, scope, log, **window, where=where)
    return accounts.AuditList(**views.page(found, [accounts.audit_entry(row) for row in found], more))
