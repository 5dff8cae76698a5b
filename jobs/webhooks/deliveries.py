"""Deliveries: claimed when due, under a fence and a lease; tried again ever more slowly; replayed; forgotten.

A delivery whose end was not written down is made again, under the same webhook-id: at least once, never "at most".
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, case, delete, func, or_, select, update
from sqlalchemy.orm import Session

from jobs.clock import db_now
from jobs.events import plain
from jobs.ids import new_id
from jobs.problem import refuse
from jobs.scope import Scope, audit, get, scoped
from jobs.settings import Settings
from jobs.tables import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from jobs.webhooks.endpoints import enabled

PER_ENDPOINT = 4  # attempts at once; of an endpoint that fails, one
GONE = 410
ENDED = ("succeeded", "failed")
PER_SWEEP = 500
QUIET = {"populate_existing": True, "synchronize_session": False}


@dataclass(frozen=True)
class DeliveryClaim:
    """A held delivery. `secrets` are sealed, the newest first; `now` is the database's clock."""

    delivery_id: str
    project_id: str
    endpoint_id: str
    fence: int
    url: str
    body: str
    secrets: tuple[str, ...]
    now: float


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to: a status, an error, or both where the status is one."""

    duration_s: float
    status_code: int | None = None
    error: str | None = None
    answer: str | None = None

    @property
    def good(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


def _due() -> Any:
    queued = and_(WebhookDelivery.state == "queued", WebhookDelivery.not_before <= db_now())
    return or_(queued, and_(WebhookDelivery.state == "running", WebhookDelivery.lease_until < db_now()))


def any_due(s: Session) -> bool:
    """Whether a claim may find something; by reading only."""
    return s.scalars(select(WebhookDelivery.id).where(_due()).limit(1)).first() is not None


def claim_deliveries(s: Session, most: int, lease_s: float) -> list[DeliveryClaim]:
    """Take up to `most` deliveries that are due, or whose holder was lost.

    Endpoints with the fewest attempts under way come first and none has more than PER_ENDPOINT, one that fails a
    single one: a slow receiver waits for itself. Two claimers at once may pass that number for a moment.
    """
    held = (
        select(WebhookDelivery.endpoint_id, func.count().label("attempts"))
        .where(WebhookDelivery.state == "running", WebhookDelivery.lease_until >= db_now())
        .group_by(WebhookDelivery.endpoint_id)
        .subquery()
    )
    under_way = func.coalesce(held.c.attempts, 0)
    share = case((WebhookEndpoint.failing_since.is_(None), PER_ENDPOINT), else_=1)
    found = (
        select(WebhookDelivery, WebhookEndpoint, share - under_way)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .outerjoin(held, held.c.endpoint_id == WebhookDelivery.endpoint_id)
        .where(_due(), WebhookEndpoint.enabled, under_way < share)
        .order_by(under_way, WebhookDelivery.not_before, WebhookDelivery.id)
        .limit(most)
        .with_for_update(of=WebhookDelivery, skip_locked=True)
    )
    claims: list[DeliveryClaim] = []
    taken: Counter[str] = Counter()
    for row, endpoint, room in s.execute(found.execution_options(populate_existing=True)).all():
        if taken[endpoint.id] >= room:
            continue
        taken[endpoint.id] += 1
        fence = row.fence + 1
        take = update(WebhookDelivery).where(WebhookDelivery.id == row.id)
        take = take.values(state="running", fence=fence, tries=row.tries + 1, lease_until=db_now() + lease_s)
        now = s.scalars(take.returning(db_now()), execution_options={"synchronize_session": False}).one()
        old = endpoint.old_secret if (endpoint.old_secret_until or 0.0) > now else None
        secrets = (endpoint.secret,) if old is None else (endpoint.secret, old)
        claims.append(DeliveryClaim(row.id, row.project_id, endpoint.id, fence, endpoint.url, row.body, secrets, now))
    return claims


def finish_delivery(s: Session, held: DeliveryClaim, outcome: Outcome, settings: Settings) -> bool:
    """Write down an attempt and what follows: success, another attempt, or the end.

    410 disables the endpoint, and so does failing for settings.webhook_give_up_s without a success in between.

    Returns:
        False where the fence is lost; nothing is written then.
    """
    # The endpoint first, as whoever deletes it does; and not against those who write its next deliveries.
    endpoint = select(WebhookEndpoint.id).where(WebhookEndpoint.id == held.endpoint_id).with_for_update(key_share=True)
    if s.scalars(endpoint).one_or_none() is None or (row := _held(s, held)) is None:
        return False
    s.add(
        WebhookAttempt(
            id=new_id("try"),
            project_id=held.project_id,
            delivery_id=held.delivery_id,
            duration_s=outcome.duration_s,
            status_code=outcome.status_code,
            error=plain(outcome.error),
            answer=plain(outcome.answer),
        )
    )
    if outcome.good:
        _end(s, row, "succeeded")
        _endpoint(s, held, WebhookEndpoint.failing_since.is_not(None), failing_since=None)
        return True
    if outcome.status_code == GONE or row.tries > len(settings.webhook_retry_s):
        _end(s, row, "failed")
    else:
        pause_s = settings.webhook_retry_s[row.tries - 1] * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        _put(s, row, state="queued", lease_until=None, not_before=db_now() + pause_s)
    _endpoint(s, held, WebhookEndpoint.failing_since.is_(None), failing_since=db_now())
    if outcome.status_code == GONE:
        _endpoint(s, held, enabled=False, disabled_reason="It answered 410 Gone.")
    else:
        days = f"{settings.webhook_give_up_s / 86_400:g}"
        long = WebhookEndpoint.failing_since < db_now() - settings.webhook_give_up_s
        reason = f"No message got through for {days} days; the last attempt: {outcome.error}"
        _endpoint(s, held, long, enabled=False, disabled_reason=plain(reason))
    return True


def postpone_delivery(s: Session, held: DeliveryClaim, pause_s: float) -> bool:
    """Hand a delivery back that could not be tried here; no attempt is burnt. False: the fence is lost."""
    if (row := _held(s, held)) is None:
        return False
    _put(s, row, state="queued", lease_until=None, tries=row.tries - 1, not_before=db_now() + pause_s)
    return True


def attempts(s: Session, scope: Scope, delivery_id: str) -> list[WebhookAttempt]:
    """What was tried, in order."""
    rows = scoped(WebhookAttempt, scope).where(WebhookAttempt.delivery_id == delivery_id)
    return list(s.scalars(rows.order_by(WebhookAttempt.at, WebhookAttempt.id)))


def delivery_of(s: Session, scope: Scope, endpoint_id: str, delivery_id: str, *, lock: bool = False) -> WebhookDelivery:
    """A delivery of this very endpoint. Raises Refused: not_found."""
    get(s, scope, WebhookEndpoint, endpoint_id)
    row = get(s, scope, WebhookDelivery, delivery_id, lock=lock)
    if row.endpoint_id != endpoint_id:
        raise refuse("not_found", "no webhook delivery of this endpoint has this id")
    return row


def replay_delivery(s: Session, scope: Scope, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
    """Send a message again, as soon as can be, under the same id and by the whole schedule.

    One that is being sent is left alone.

    Raises:
        Refused: not_found; endpoint_disabled.
    """
    enabled(s, scope, endpoint_id)
    row = delivery_of(s, scope, endpoint_id, delivery_id, lock=True)
    if row.state != "running":
        _put(s, row, state="queued", tries=0, not_before=db_now(), finished_at=None)
        audit(s, scope, "webhook_delivery.replay", delivery_id)
    return get(s, scope, WebhookDelivery, delivery_id)


def forget_deliveries(s: Session, keep_s: float) -> int:
    """Delete deliveries that are older than `keep_s`, and not under way; some. Returns how many."""
    old = select(WebhookDelivery.id).where(
        WebhookDelivery.created_at < db_now() - keep_s, WebhookDelivery.state != "running"
    )
    ids = s.scalars(old.order_by(WebhookDelivery.id).limit(PER_SWEEP).with_for_update(skip_locked=True)).all()
    s.execute(delete(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(ids)))
    s.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(ids)))
    return len(ids)


def _held(s: Session, held: DeliveryClaim) -> WebhookDelivery | None:
    """The delivery, locked, if this fence holds it."""
    mine = (WebhookDelivery.id == held.delivery_id, WebhookDelivery.fence == held.fence)
    query = select(WebhookDelivery).where(*mine, WebhookDelivery.state == "running").with_for_update()
    return s.scalars(query.execution_options(populate_existing=True)).one_or_none()


def _end(s: Session, row: WebhookDelivery, state: str) -> None:
    _put(s, row, state=state, lease_until=None, finished_at=db_now())


def _put(s: Session, row: WebhookDelivery, **columns: Any) -> None:
    s.execute(update(WebhookDelivery).where(WebhookDelivery.id == row.id).values(**columns), execution_options=QUIET)


def _endpoint(s: Session, held: DeliveryClaim, *where: Any, **columns: Any) -> None:
    chosen = update(WebhookEndpoint).where(WebhookEndpoint.id == held.endpoint_id, WebhookEndpoint.enabled, *where)
    s.execute(chosen.values(**columns), execution_options=QUIET)
