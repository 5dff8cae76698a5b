"""A project with webhook endpoints, and shortcuts to what is written for them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select, update

from jobs import service
from jobs.clock import db_now
from jobs.service import DeliveryClaim, Outcome
from jobs.settings import Settings
from jobs.tables import WebhookDelivery, WebhookEndpoint
from jobs.webhooks.addresses import Guard
from jobs.webhooks.requests import EndpointCreate, EndpointUpdate
from tests.jobs.world import World

GOOD, BAD, GONE = (Outcome(0.1, status, None if status == 200 else f"answered {status}") for status in (200, 500, 410))


def endpoint(world: World, url: str = "https://hooks.example/in", **fields: Any) -> tuple[str, str]:
    """Id and secret of a new one."""
    settings, asked = world.settings, EndpointCreate(url=url, **fields)
    with world.db.sessions.begin() as s:
        row, secret = service.create_endpoint(s, world.scope, asked, Guard.of(settings), settings.webhook_key_file)
    return row.id, secret


def change(world: World, endpoint_id: str, **fields: Any) -> WebhookEndpoint:
    guard = Guard.of(world.settings)
    with world.db.sessions.begin() as s:
        return service.update_endpoint(s, world.scope, endpoint_id, EndpointUpdate(**fields), guard)


def ping(world: World, endpoint_id: str) -> str:
    with world.db.sessions.begin() as s:
        return service.ping(s, world.scope, endpoint_id).id


def claim(world: World, most: int = 100, lease_s: float = 60) -> list[DeliveryClaim]:
    with world.db.sessions.begin() as s:
        return service.claim_deliveries(s, most, lease_s)


def finish(world: World, held: DeliveryClaim, outcome: Outcome, **settings: Any) -> bool:
    with world.db.sessions.begin() as s:
        return service.finish_delivery(s, held, outcome, world.settings.model_copy(update=settings))


def pinged(world: World, outcome: Outcome, **settings: Any) -> tuple[str, str]:
    """Endpoint and delivery after one attempt."""
    endpoint_id, _ = endpoint(world)
    ping(world, endpoint_id)
    (held,) = claim(world)
    assert finish(world, held, outcome, **settings)
    return endpoint_id, held.delivery_id


def row(world: World, id_: str) -> Any:
    """A delivery or an endpoint."""
    with world.db.readers() as s:
        return s.get_one(WebhookDelivery if id_.startswith("msg_") else WebhookEndpoint, id_)


def deliveries(world: World, endpoint_id: str) -> list[WebhookDelivery]:
    """In the order in which they were written."""
    with world.db.readers() as s:
        mine = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
        return list(s.scalars(mine.order_by(WebhookDelivery.created_at, WebhookDelivery.id)))


def told(world: World, endpoint_id: str) -> list[tuple[str, str]]:
    """(type, id of what it is about) of each delivery."""
    bodies = [json.loads(each.body) for each in deliveries(world, endpoint_id)]
    return [(body["type"], body["data"]["id"]) for body in bodies]


def put(world: World, table: type[WebhookDelivery] | type[WebhookEndpoint], **columns: Any) -> None:
    with world.db.sessions.begin() as s:
        s.execute(update(table).values(**columns))


def all_due(world: World) -> None:
    """Every pause is over."""
    put(world, WebhookDelivery, not_before=db_now() - 1)


def local(**fields: Any) -> Settings:
    """Settings that let this machine be told."""
    return Settings(webhook_http=True, webhook_allow=("127.0.0.0/8",), **fields)
