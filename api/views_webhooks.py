"""From rows of webhooks to answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from api import schemas_webhooks as schemas
from jobs import tables


def endpoint(row: tables.WebhookEndpoint) -> schemas.WebhookEndpoint:
    """An endpoint, without its secret."""
    return schemas.WebhookEndpoint.model_validate(_endpoint(row))


def with_secret(row: tables.WebhookEndpoint, secret: str) -> schemas.WebhookEndpointWithSecret:
    """An endpoint whose secret was just made."""
    return schemas.WebhookEndpointWithSecret.model_validate({**_endpoint(row), "secret": secret})


def delivery(row: tables.WebhookDelivery) -> schemas.WebhookDelivery:
    """A delivery as far as it has come."""
    return schemas.WebhookDelivery.model_validate(_delivery(row))


def detail(row: tables.WebhookDelivery, tried: Sequence[tables.WebhookAttempt]) -> schemas.WebhookDeliveryDetail:
    """A delivery with its attempts."""
    names = ("at", "duration_s", "status_code", "error", "answer")
    attempts = [{name: getattr(one, name) for name in names} for one in tried]
    return schemas.WebhookDeliveryDetail.model_validate({**_delivery(row), "attempts": attempts})


def _endpoint(row: tables.WebhookEndpoint) -> dict[str, Any]:
    return {name: getattr(row, name) for name in schemas.WebhookEndpoint.model_fields if name != "object"}


def _delivery(row: tables.WebhookDelivery) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in ("id", "endpoint_id", "type", "created_at", "finished_at")},
        "message": json.loads(row.body),
        "status": row.state,
        "next_attempt_at": row.not_before if row.state == "queued" else None,
    }
