"""Webhooks: who is told of events, what was sent to them, and sending it again. Workers do the sending."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import schemas_webhooks as schemas
from api import views, views_webhooks
from api.auth import Reader, Writer
from api.context import Ctx
from api.errors import responses
from api.once import SECRET
from api.paging import Id, Window
from jobs import service, tables
from jobs.scope import get, page
from jobs.webhooks.requests import EndpointCreate, EndpointUpdate, SecretRotate

router = APIRouter(tags=["webhooks"])
ENDPOINT = "/v1/webhook_endpoints/{endpoint_id}"
DELIVERY = ENDPOINT + "/deliveries/{delivery_id}"


@router.post(
    "/v1/webhook_endpoints", status_code=201, responses=responses(400, 409, 413, 415, 422), openapi_extra=SECRET
)
def create_webhook_endpoint(
    body: EndpointCreate, response: Response, context: Ctx, scope: Writer
) -> schemas.WebhookEndpointWithSecret:
    """Have events sent to a URL. The answer holds the secret that signs them; it is not shown again."""
    with context.database.sessions.begin() as s:
        row, secret = service.create_endpoint(s, scope, body, context.guard, context.settings.webhook_key_file)
    response.headers["Location"] = f"/v1/webhook_endpoints/{row.id}"
    return views_webhooks.with_secret(row, secret)


@router.get("/v1/webhook_endpoints", responses=responses(422))
def list_webhook_endpoints(context: Ctx, scope: Reader, window: Window) -> schemas.WebhookEndpointList:
    """Endpoints of the project, newest first."""
    with context.database.readers() as s:
        rows, more = page(s, scope, tables.WebhookEndpoint, **window)
    return schemas.WebhookEndpointList(**views.page(rows, [views_webhooks.endpoint(row) for row in rows], more))


@router.get(ENDPOINT, responses=responses(404, 422))
def get_webhook_endpoint(endpoint_id: Id, context: Ctx, scope: Reader) -> schemas.WebhookEndpoint:
    """One endpoint."""
    with context.database.readers() as s:
        return views_webhooks.endpoint(get(s, scope, tables.WebhookEndpoint, endpoint_id))


@router.patch(ENDPOINT, responses=responses(400, 404, 413, 415, 422))
def update_webhook_endpoint(
    endpoint_id: Id, body: EndpointUpdate, context: Ctx, scope: Writer
) -> schemas.WebhookEndpoint:
    """Change URL, events or description; disable, or enable again."""
    with context.database.sessions.begin() as s:
        return views_webhooks.endpoint(service.update_endpoint(s, scope, endpoint_id, body, context.guard))


@router.delete(ENDPOINT, status_code=204, responses=responses(404, 422))
def delete_webhook_endpoint(endpoint_id: Id, context: Ctx, scope: Writer) -> None:
    """Forget an endpoint, its secret and its deliveries; what waits is not sent."""
    with context.database.sessions.begin() as s:
        service.delete_endpoint(s, scope, endpoint_id)


@router.post(ENDPOINT + "/rotate_secret", responses=responses(400, 404, 413, 415, 422), openapi_extra=SECRET)
def rotate_webhook_secret(
    endpoint_id: Id, body: SecretRotate, context: Ctx, scope: Writer
) -> schemas.WebhookEndpointWithSecret:
    """Make a new secret. Until the grace is over every message bears two signatures, of the new and the old one."""
    key_file = context.settings.webhook_key_file
    with context.database.sessions.begin() as s:
        return views_webhooks.with_secret(*service.rotate_secret(s, scope, endpoint_id, body.grace_s, key_file))


@router.post(ENDPOINT + "/test", status_code=202, responses=responses(404, 409, 422))
def send_webhook_ping(endpoint_id: Id, context: Ctx, scope: Writer) -> schemas.WebhookDelivery:
    """Send a message of type `ping`; its delivery tells how it went."""
    with context.database.sessions.begin() as s:
        return views_webhooks.delivery(service.ping(s, scope, endpoint_id))


@router.get(ENDPOINT + "/deliveries", responses=responses(404, 422))
def list_webhook_deliveries(
    endpoint_id: Id,
    context: Ctx,
    scope: Reader,
    window: Window,
    status: Annotated[schemas.DeliveryStatus | None, Query(description="Only deliveries in this status.")] = None,
) -> schemas.WebhookDeliveryList:
    """What was, is and will be sent to an endpoint, newest first."""
    where = [tables.WebhookDelivery.endpoint_id == endpoint_id]
    where += [] if status is None else [tables.WebhookDelivery.state == status]
    with context.database.readers() as s:
        get(s, scope, tables.WebhookEndpoint, endpoint_id)
        rows, more = page(s, scope, tables.WebhookDelivery, **window, where=where)
    return schemas.WebhookDeliveryList(**views.page(rows, [views_webhooks.delivery(row) for row in rows], more))


@router.get(DELIVERY, responses=responses(404, 422))
def get_webhook_delivery(
    endpoint_id: Id, delivery_id: Id, context: Ctx, scope: Reader
) -> schemas.WebhookDeliveryDetail:
    """One delivery with its attempts."""
    with context.database.readers() as s:
        row = service.delivery_of(s, scope, endpoint_id, delivery_id)
        return views_webhooks.detail(row, service.attempts(s, scope, delivery_id))


@router.post(DELIVERY + "/replay", status_code=202, responses=responses(404, 409, 422))
def replay_webhook_delivery(
    endpoint_id: Id, delivery_id: Id, context: Ctx, scope: Writer
) -> schemas.WebhookDeliveryDetail:
    """Send a message once more, with the same webhook-id, and as often as a new one would be tried."""
    with context.database.sessions.begin() as s:
        row = service.replay_delivery(s, scope, endpoint_id, delivery_id)
        return views_webhooks.detail(row, service.attempts(s, scope, delivery_id))
