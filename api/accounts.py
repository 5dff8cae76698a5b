"""Keys, usage and the audit log as the service answers them: schemas, and the way from rows to them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from sqlalchemy.orm import Session

from api import views
from api.schemas import Answer, Page, Time
from core.method import Closed
from jobs import quotas, tables, usage
from jobs.clock import now
from jobs.requests import Text
from jobs.scope import SCOPES, Scope

GRACE_S = 86_400


def _legal(value: str) -> str:
    if value not in SCOPES:
        raise ValueError(f"legal: {', '.join(SCOPES)}")
    return value


ScopeName = Annotated[str, Field(max_length=64, json_schema_extra={"enum": list(SCOPES)}), AfterValidator(_legal)]


class KeyCreate(Closed):
    """Body of POST /v1/api_keys."""

    name: Text = Field(description="For people: who or what holds the key.")
    scopes: tuple[ScopeName, ...] = Field(
        ("read", "write"),
        min_length=1,
        max_length=len(SCOPES),
        description='"read", "write": everything of the project; "jobs:write" ...: one area. "admin": keys and audit.',
    )
    expires_at: Time | None = Field(None, description="When the key ends by itself; absent: never.")


class KeyRotate(Closed):
    """Body of POST /v1/api_keys/{key_id}/rotate."""

    grace_s: int = Field(
        GRACE_S, ge=0, le=30 * 86_400, description="So long the secret of before still works, in seconds; 0: no more."
    )


class ApiKey(Answer):
    """A key, without its secret. `last_used_at` is right to the minute."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    previous_until: datetime | None = Field(description="After a rotation: the end of the secret of before.")


class NewApiKey(ApiKey):
    """A key whose token is shown this once."""

    token: str = Field(description="Send as `Authorization: Bearer <token>`. It is stored nowhere.")


class Me(Answer):
    """Who asks. `who` is the key's id, oidc:SUBJECT of a token, or "local" where no keys are in use."""

    object: Literal["me"] = "me"
    project_id: str
    project_name: str
    who: str
    scopes: list[str]
    key: ApiKey | None = Field(description="Null of a token, and where no keys are in use.")
    quotas: dict[str, int | None] = Field(description="Name -> limit, null = none; GET /v1/usage has more.")


class ApiKeyList(Page[ApiKey]):
    """Keys of the project."""


class QuotaState(Answer):
    """One quota. `limit` null: none."""

    name: str
    limit: int | None
    used: int


class StoredBytes(Answer):
    """Bytes in the store, by kind."""

    models: int
    datasets: int
    artifacts: int
    total: int


class Usage(Answer):
    """What the project has and has spent. Seconds count for the month (UTC) in which an attempt of a job ended; this
    month's hold what runs now."""

    object: Literal["usage"] = "usage"
    project_id: str
    month: str
    cpu_s: float = Field(description="Seconds for which jobs held a worker without a GPU.")
    gpu_s: float = Field(description="Seconds for which jobs held a GPU.")
    stored_bytes: StoredBytes
    jobs: dict[str, int] = Field(description="Status -> number of jobs; statuses without any are left out.")
    quotas: list[QuotaState]


class AuditEntry(Answer):
    """Who did what to which object. `who`: a key's id, oidc:SUBJECT, "local", "operator" or "worker"."""

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    at: datetime
    who: str
    action: str
    object_id: str


class AuditList(Page[AuditEntry]):
    """The audit log of the project."""


def api_key(row: tables.ApiKey) -> ApiKey:
    """A key as its project sees it."""
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=list(row.scopes),
        created_at=views.time(row.created_at),
        expires_at=views.maybe(row.expires_at),
        revoked_at=views.maybe(row.revoked_at),
        last_used_at=views.maybe(row.last_used_at),
        previous_until=views.maybe(row.previous_until),
    )


def new_api_key(row: tables.ApiKey, token: str) -> NewApiKey:
    """The same with its token."""
    return NewApiKey(**api_key(row).model_dump(), token=token)


def audit_entry(row: tables.Audit) -> AuditEntry:
    """One line of the log."""
    return AuditEntry(id=row.id, at=views.time(row.at), who=row.who, action=row.action, object_id=row.object)


def usage_of(s: Session, scope: Scope, month: str | None) -> Usage:
    """What the caller's project has and has spent, in one view of the database."""
    spent = usage.seconds(s, month, [scope.project_id]).get(scope.project_id, {})
    stored, have = usage.stored(s, scope.project_id), quotas.used(s, scope.project_id)
    allowed = quotas.limits(s, scope.project_id, scope.quotas)
    return Usage(
        project_id=scope.project_id,
        month=month or usage.month_of(now(s)),
        cpu_s=spent.get("cpu", 0.0),
        gpu_s=spent.get("cuda", 0.0),
        stored_bytes=StoredBytes(**stored, total=sum(stored.values())),
        jobs=usage.by_state(s, scope.project_id),
        quotas=[QuotaState(name=name, limit=limit, used=have[name]) for name, limit in allowed.items()],
    )
