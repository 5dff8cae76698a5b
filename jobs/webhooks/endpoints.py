"""Endpoints: made, changed, rotated, forgotten, tried out."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from jobs.clock import db_now, now
from jobs.ids import new_id
from jobs.problem import refuse
from jobs.scope import Scope, audit, get
from jobs.tables import Project, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from jobs.webhooks.addresses import Blocked, Guard
from jobs.webhooks.keyring import Keyring, fresh_secret
from jobs.webhooks.kinds import PING
from jobs.webhooks.outbox import message
from jobs.webhooks.requests import EndpointCreate, EndpointUpdate

MOST = 32  # endpoints of a project: each event of a job writes a row for each of them


def create_endpoint(
    s: Session, scope: Scope, asked: EndpointCreate, guard: Guard, key_file: Path
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint, and its secret, which is told this once.

    Raises:
        Refused: request_invalid for the URL; endpoint_limit.
    """
    _check(guard, asked.url)
    mine = select(Project.id).where(Project.id == scope.project_id)
    s.execute(mine.with_for_update(key_share=True))  # two at once are counted
    there = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.project_id == scope.project_id)
    if s.scalars(there).one() >= MOST:
        raise refuse("endpoint_limit", f"a project has at most {MOST} webhook endpoints; delete one that is not needed")
    secret = fresh_secret()
    row = WebhookEndpoint(
        id=new_id("hook"),
        project_id=scope.project_id,
        url=asked.url,
        events=list(asked.events),
        description=asked.description,
        enabled=asked.enabled,
        secret=Keyring.load_or_create(key_file).seal(secret),
    )
    s.add(row)
    s.flush()
    s.refresh(row)
    audit(s, scope, "webhook_endpoint.create", row.id)
    return row, secret


def update_endpoint(s: Session, scope: Scope, endpoint_id: str, asked: EndpointUpdate, guard: Guard) -> WebhookEndpoint:
    """Change what is given. Enabling forgets the failures of before.

    Raises:
        Refused: not_found; request_invalid for the URL.
    """
    row = get(s, scope, WebhookEndpoint, endpoint_id, lock=True)
    if asked.url is not None:
        _check(guard, asked.url)
    given = asked.model_dump(exclude_none=True)
    for name, value in given.items():
        setattr(row, name, list(value) if name == "events" else value)
    if asked.enabled is not None:
        row.disabled_reason, row.failing_since = None, None
    s.flush()
    audit(s, scope, "webhook_endpoint.update", endpoint_id)
    return row


def rotate_secret(
    s: Session, scope: Scope, endpoint_id: str, grace_s: float, key_file: Path
) -> tuple[WebhookEndpoint, str]:
    """Give the endpoint a new secret. The old one signs beside it for `grace_s`; one still older no more.

    Raises:
        Refused: not_found.
    """
    row = get(s, scope, WebhookEndpoint, endpoint_id, lock=True)
    secret = fresh_secret()
    row.old_secret, row.secret = (row.secret if grace_s > 0 else None), Keyring.load_or_create(key_file).seal(secret)
    s.flush()
    until = db_now() + grace_s if grace_s > 0 else None
    s.execute(update(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).values(old_secret_until=until))
    s.refresh(row)
    audit(s, scope, "webhook_endpoint.rotate_secret", endpoint_id)
    return row, secret


def delete_endpoint(s: Session, scope: Scope, endpoint_id: str) -> None:
    """Forget an endpoint with its deliveries. What is being sent may still arrive.

    Raises:
        Refused: not_found.
    """
    row = get(s, scope, WebhookEndpoint, endpoint_id, lock=True)
    deliveries = select(WebhookDelivery.id).where(WebhookDelivery.endpoint_id == endpoint_id)
    # In the order in which an attempt's end takes its locks.
    s.execute(deliveries.order_by(WebhookDelivery.id).with_for_update())
    s.execute(delete(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(deliveries)))
    s.execute(delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id))
    s.delete(row)
    audit(s, scope, "webhook_endpoint.delete", endpoint_id)


def ping(s: Session, scope: Scope, endpoint_id: str) -> WebhookDelivery:
    """Queue a message that tells of nothing.

    Raises:
        Refused: not_found; endpoint_disabled.
    """
    row = enabled(s, scope, endpoint_id)
    columns = message(scope.project_id, row.id, PING, {"object": "webhook_endpoint", "id": row.id}, now(s))
    s.execute(insert(WebhookDelivery), [columns])
    audit(s, scope, "webhook_endpoint.test", endpoint_id)
    return get(s, scope, WebhookDelivery, columns["id"])


def enabled(s: Session, scope: Scope, endpoint_id: str) -> WebhookEndpoint:
    """An endpoint that messages go to, locked. Raises Refused: not_found; endpoint_disabled."""
    row = get(s, scope, WebhookEndpoint, endpoint_id, lock=True)
    if not row.enabled:
        why = row.disabled_reason or "Somebody did so."
        raise refuse("endpoint_disabled", f"the endpoint is disabled: {why} Enable it first")
    return row


def _check(guard: Guard, url: str) -> None:
    try:
        guard.check(url)
    except Blocked as blocked:
        raise refuse("request_invalid", f"/url: {blocked}; got {url[:80]!r}", param="/url") from None
